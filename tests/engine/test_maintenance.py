"""Maintenance of the store: `verify` finds damage, `gc` removes old results and keeps needed files."""

from __future__ import annotations

import mmap
import os
import threading
import time
from pathlib import Path

import pytest

from nodegraph.cache.store.maintenance import verify
from nodegraph.cache.store.records import Alias
from nodegraph.cache.store.store import Record, Store, StoredValue
from tests.support.other_process import end, start, wait_for

HOUR = 3600.0
LARGE = 1 << 17  # larger than a blob that is hashed on every read
Keys = list[str]


def key(i: int) -> str:
    return f"{i:064x}"


def keep(store: Store, i: int, data: bytes, digest: int | None = None, ago: float = 0.0) -> str:
    """Store a result under key `i`, made `ago` seconds ago. Returns the name of its blob."""
    put = store.put_bytes(data, ".bin")
    assert put is not None
    made = time.time() - ago
    outputs = {"output": StoredValue(key(1000 + i if digest is None else digest), put.name, "json", put.size)}
    store.put_record(
        Record(key=key(i), type="Type", workflow="workflow", node=f"node{i}", created=made, seconds=0.5, outputs=outputs)
    )
    os.utime(store.layout.record(key(i)), (made, made))
    store.put_alias(key(2000 + i), Alias(key(i)))
    return put[0]


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def keys(store: Store) -> set[int]:
    return {int(record.key, 16) for record in store.records()}


def all_files(store: Store) -> set[str]:
    rooms = ("records", "blobs", "aliases", "exports", "tmp")
    return {entry.name for room in rooms for entry in store.layout.files(room)}


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, warnings: list[str]) -> Store:
    return Store(tmp_path / "cache", warn=warnings.append)


# --- verify


def test_sound_store_passes_verify(store: Store) -> None:
    keep(store, 1, b"one")
    keep(store, 2, b"two")
    found = store.upkeep.verify()
    assert (found.blobs, found.bytes, found.wrong, found.missing, found.lost) == (2, 6, (), (), ())
    assert keys(store) == {1, 2}


def test_interrupted_verify_checks_no_more_files(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        store.put_bytes(b"%d" % number, ".bin")
    checked = []
    monkeypatch.setattr(verify, "_AT_ONCE", 4)
    monkeypatch.setattr(verify, "_check_blob", lambda entry: (checked.append(entry.name) is None, 1))

    def stop(action: str, done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.upkeep.verify(stop)
    assert len(checked) <= 4


def test_verify_checks_several_files_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        store.put_bytes(b"%d" % number, ".bin")
    two_are_checked = threading.Barrier(2, timeout=300)

    def check(entry: os.DirEntry[str]) -> tuple[bool | None, int]:
        two_are_checked.wait()  # a single thread would wait in vain
        return True, 1

    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(verify, "_check_blob", check)
    assert store.upkeep.verify().blobs == 4


@pytest.mark.parametrize("size", [5, LARGE])
def test_verify_drops_the_record_of_a_flipped_bit(store: Store, size: int) -> None:
    wrong, right = keep(store, 1, b"1" * size), keep(store, 2, b"2" * size)
    assert store.has(wrong)
    path = store.layout.blob(wrong)
    stat = path.stat()
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\x30")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    found = store.upkeep.verify()
    assert found.wrong == (wrong,)
    assert found.missing == ()
    assert [record.node for record in found.lost] == ["node1"]
    assert keys(store) == {2}
    assert store.has(right)
    assert [entry.key for entry in store.upkeep.entries()] == [key(2)]
    assert (store.directory / "quarantine" / wrong).exists()
    assert keep(store, 1, b"1" * size) == wrong
    assert store.has(wrong)


def test_missing_blob_loses_its_records_and_exports(store: Store) -> None:
    gone = keep(store, 1, b"one", digest=7)
    keep(store, 2, b"one", digest=7)
    keep(store, 3, b"three")
    store.put_exported(key(7), ".png", [b"picture"])
    store.layout.blob(gone).unlink()
    next(store.directory.glob("blobs/*/*.png")).unlink()
    found = store.upkeep.verify()
    assert found.missing == (gone,)
    assert {record.node for record in found.lost} == {"node1", "node2"}
    assert keys(store) == {3}
    assert not list(store.layout.files("exports"))


# --- gc


def test_least_recently_used_goes_first(store: Store) -> None:
    for i in range(1, 5):
        keep(store, i, bytes([i]) * 100, ago=500 - 100 * i)
    store.touch(key(1))
    removed = store.upkeep.gc(limit=250)
    assert keys(store) == {1, 4}
    assert (removed.keys, removed.bytes, removed.remaining) == ((key(2), key(3)), 200, 200)
    assert store.alias(key(2001)) == Alias(key(1))
    assert store.alias(key(2002)) is None
    assert store.upkeep.info().bytes == 200
    assert {entry.key for entry in store.upkeep.entries()} == {key(1), key(4)}


def test_nothing_is_removed_below_the_limit(store: Store) -> None:
    keep(store, 1, b"1" * 100, ago=9 * HOUR)
    before = all_files(store)
    assert store.upkeep.gc(limit=100).keys == ()
    assert store.upkeep.gc().keys == ()
    assert all_files(store) == before


def test_max_age_applies_below_the_limit(store: Store) -> None:
    keep(store, 1, b"old", ago=3 * HOUR)
    keep(store, 2, b"old but used", ago=3 * HOUR)
    keep(store, 3, b"new", ago=HOUR)
    store.touch(key(2))
    assert store.upkeep.gc(limit=10**9, older_than=2 * HOUR).keys == (key(1),)
    assert keys(store) == {2, 3}


def test_blob_stays_while_a_result_needs_it(store: Store) -> None:
    shared = keep(store, 1, b"shared", ago=200)
    keep(store, 2, b"shared", ago=100)
    keep(store, 3, b"larger than shared", ago=150)
    assert store.upkeep.gc(limit=10).keys == (key(1), key(3))
    assert store.has(shared)
    assert store.upkeep.gc(limit=0).blobs == (shared,)


def test_exports_go_with_the_last_result_of_a_value(store: Store) -> None:
    keep(store, 1, b"one", digest=7, ago=200)
    keep(store, 2, b"two", digest=7, ago=100)
    store.put_exported(key(7), ".png", [b"picture"])
    store.upkeep.gc(limit=10)
    assert store.exported(key(7), ".png") == [b"picture"]
    store.upkeep.gc(limit=9)
    assert store.exported(key(7), ".png") is None
    assert all_files(store) == set()


def test_all_files_of_a_removed_result_go(store: Store) -> None:
    keep(store, 1, b"one", digest=7)
    store.put_exported(key(7), ".png", [b"picture", b"another"])
    store.upkeep.gc(limit=0)
    assert all_files(store) == set()


def test_old_unreferenced_files_are_removed(store: Store) -> None:
    blob = store.put_bytes(b"its record is yet to come", ".bin")
    store.put_exported(key(9), ".png", [b"of a value that is yet to come"])
    store.put_alias(key(5), Alias(key(6)))
    assert blob is not None
    store.upkeep.gc(limit=0)
    assert store.has(blob[0])
    assert store.exported(key(9), ".png") is not None
    assert store.alias(key(5)) is None
    for path in store.directory.rglob("*.*"):
        age(path, 2 * HOUR)
    store.upkeep.gc(limit=10**9)
    assert all_files(store) == set()


def test_old_unreadable_records_are_removed(store: Store) -> None:
    keep(store, 1, b"one")
    store.layout.record(key(1)).write_bytes(b"{")
    store.upkeep.gc()
    assert store.layout.record(key(1)).exists()
    age(store.layout.record(key(1)), 2 * HOUR)
    store.upkeep.gc()
    assert not store.layout.record(key(1)).exists()


def test_rewritten_blob_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = keep(store, 1, b"one")
    age(store.layout.blob(blob), 9 * HOUR)
    monkeypatch.setattr(
        "nodegraph.cache.store.maintenance.collect._Collection.drop_unreferenced", lambda self, now: keep(store, 2, b"one")
    )  # another process
    assert store.upkeep.gc(limit=0).blobs == ()
    assert keys(store) == {2}
    assert store.has(blob)


def test_gc_does_not_harm_a_mapped_blob(store: Store) -> None:
    data = os.urandom(LARGE)
    blob = keep(store, 1, data)
    with store.blob(blob).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        store.upkeep.gc(limit=0)
        assert os.name == "nt" or not store.layout.blob(blob).exists()
        assert mapped[:] == data
        keep(store, 1, data)  # nor does writing it again
        store.upkeep.clear()
        assert mapped[:] == data


def test_gc_does_not_harm_a_blob_mapped_elsewhere(store: Store) -> None:
    blob = keep(store, 1, b"x" * LARGE)
    process = start(
        store.directory,
        """
        import mmap
        with store.blob(sys.argv[2]).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            say("mapped")
            sys.stdin.readline()
            say(mapped[:] == b"x" * len(mapped))
        """,
        blob,
    )
    wait_for(process, "mapped")
    assert store.upkeep.gc(limit=0).blobs == ((blob,) if os.name == "posix" else ())
    keep(store, 2, b"y" * LARGE)
    assert process.stdin is not None
    process.stdin.write("\n")
    assert end(process) == "True"


@pytest.mark.skipif(os.name != "posix", reason="other systems detect dead processes by age only")
def test_temporary_files_of_dead_processes_are_removed(store: Store) -> None:
    process = start(store.directory, "say('x')")
    dead, own = process.pid, os.getpid()
    end(process)
    store.layout.create()
    names = {f"{dead}-00000001.bin": 10.0, f"{dead}-00000002.bin": 120.0, f"{own}-00000003": 120.0, f"{own}-00000004": 90000.0}
    for name, seconds in names.items():
        (store.directory / "tmp" / name).touch()
        age(store.directory / "tmp" / name, seconds)
    (store.directory / "tmp" / "notes.txt").touch()
    age(store.directory / "tmp" / "notes.txt", 90000)
    store.upkeep.gc()
    assert all_files(store) == {f"{dead}-00000001.bin", f"{own}-00000003", "notes.txt"}


def test_free_locks_and_old_damaged_blobs_are_removed(store: Store) -> None:
    blobs = [keep(store, i, bytes([i])) for i in (1, 2)]
    for blob in blobs:
        store.layout.quarantine(store.layout.blob(blob))
    age(store.directory / "quarantine" / blobs[0], 8 * 24 * HOUR)
    (store.directory / "locks").mkdir()
    (store.directory / "locks" / f"{key(1)}.lock").touch()
    with store.lock(key(2)):
        store.upkeep.gc()
        assert [entry.name for entry in store.layout.files("locks")] == [f"{key(2)}.lock"]
    assert [entry.name for entry in store.layout.files("quarantine")] == [blobs[1]]


def test_end_of_a_run_frees_space(store: Store, warnings: list[str]) -> None:
    store.limit = 1000
    for i in range(8):
        keep(store, i, bytes([i]) * 110, ago=100 - i)
    store.finish()
    assert len(keys(store)) == 8
    store.start()
    keep(store, 8, b"8" * 400)
    store.finish()
    assert keys(store) == {4, 5, 6, 7, 8}  # nine tenths of the limit, so that the next run has room
    assert store.upkeep.info().bytes == 840
    assert not warnings


def test_too_small_limit_is_a_warning(store: Store, warnings: list[str]) -> None:
    store.limit = 150
    for i in range(3):
        keep(store, i, bytes([i]) * 100)
    store.finish()
    assert len(warnings) == 1
    assert "--cache-size" in warnings[0]


def test_run_leaves_gc_to_another_active_process(store: Store) -> None:
    store.limit = 10
    keep(store, 1, b"1" * 100)
    with store.lock("gc"):
        store.finish()
    assert keys(store) == {1}


def test_gc_works_while_others_read_and_write(store: Store) -> None:
    code = """
        import random
        say("ready")
        for i in range(60):
            keep(f"{int(sys.argv[2]) * 1000 + i:064x}", random.Random(i % 10).randbytes(2000))
            for record in list(store.records())[:5]:
                store.has(record.outputs["output"].blob)
                store.touch(record.key)
            if i % 20 == 19:
                store.finish()
        assert not warnings, warnings
        """
    writers = [start(store.directory, code, str(n)) for n in (1, 2)]
    for writer in writers:
        wait_for(writer, "ready")
    while any(writer.poll() is None for writer in writers):
        store.upkeep.gc(limit=5000)
    for writer in writers:
        end(writer)
    assert store.upkeep.verify().wrong == ()
    store.upkeep.gc(limit=5000)
    for record in store.records():
        assert store.has(record.outputs["output"].blob)
