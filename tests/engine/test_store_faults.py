"""The store under real faults: killed processes, full and read-only disks, removed directories, flipped bits."""

from __future__ import annotations

import errno
import itertools
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodegraph.cache.store.store import Record, Store, StoredValue
from tests.support.other_process import end, kill, start, wait_for

KEY, DIGEST = "a" * 64, "d" * 64
SMALL_DISK = 256 << 10

killable = pytest.mark.skipif(not hasattr(os, "kill") or os.name == "nt", reason="needs SIGKILL")


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, warnings: list[str]) -> Store:
    return Store(tmp_path / "cache", warn=warnings.append)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk that only this test uses."""
    disk_folder = tmp_path / "disk"
    disk_folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", str(disk_folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a tmpfs can be mounted by root on Linux only")
    yield disk_folder
    subprocess.run(["umount", "-l", str(disk_folder)], check=True)


def keep(store: Store, key: str, data: bytes) -> str | None:
    put = store.put_bytes(data, ".bin")
    if put is None:
        return None
    store.put_record(
        Record(
            key=key,
            type="Type",
            workflow="workflow",
            node="node",
            created=time.time(),
            seconds=0.5,
            outputs={"output": StoredValue(DIGEST, put.name, "json", put.size)},
        )
    )
    return put[0]


def fill(disk: Path) -> None:
    """Write until the disk is full."""
    with (disk / "filler").open("wb", buffering=0) as filler:
        pages = (filler.write(bytes(4096)) for _ in itertools.count())
        with pytest.raises(OSError) as full:
            sum(pages)
    assert full.value.errno == errno.ENOSPC


def assert_whole(store: Store) -> int:
    """Check that every record can be read and has its blobs. Returns the number of records."""
    keys = list(store.layout.records())
    for key in keys:
        record = store.record(key)
        assert record is not None
        assert store.has(record.outputs["output"].blob)
    assert all(store.has(entry.name) for entry in store.layout.blobs())
    return len(keys)


# --- killed processes


@killable
def test_killed_write_leaves_no_visible_blob(store: Store) -> None:
    process = start(
        store.directory,
        """
        def write(path):
            with open(path, "wb") as file:
                file.write(b"half of it")
                file.flush()
                say("half")
                time.sleep(600)

        store.put_file(write, ".bin")
        """,
    )
    wait_for(process, "half")
    kill(process)
    assert store.upkeep.info().blobs == 0
    assert store.upkeep.verify().blobs == 0
    left = list(store.layout.files("tmp"))
    assert len(left) == 1
    os.utime(left[0].path, (time.time() - 120, time.time() - 120))
    store.upkeep.gc()
    assert not list(store.layout.files("tmp"))


@killable
@pytest.mark.parametrize(("before", "blobs"), [("blob", 0), ("record", 1)])
def test_kill_before_the_rename_leaves_no_file(store: Store, before: str, blobs: int) -> None:
    process = start(
        store.directory,
        """
        import nodegraph.cache.store.blobs, nodegraph.cache.store.safe_io
        move = nodegraph.cache.store.safe_io.move

        def stop(temporary, path):
            if path.parts[-3] == sys.argv[2] + "s":
                say("written")
                time.sleep(600)
            move(temporary, path)

        nodegraph.cache.store.safe_io.move = nodegraph.cache.store.blobs.move = stop
        keep("a" * 64, b"result")
        """,
        before,
    )
    wait_for(process, "written")
    kill(process)
    assert store.record(KEY) is None
    assert store.upkeep.info().blobs == blobs
    assert keep(store, KEY, b"result") is not None
    assert assert_whole(store) == 1


@killable
def test_killed_processes_leave_only_complete_results(store: Store, warnings: list[str]) -> None:
    code = """
        store.limit = 100_000
        say("ready")
        for i in range(10_000):
            keep(f"{i:064x}", os.urandom(3000))
            if i % 10 == 9:
                store.finish()
        """
    pauses = random.Random(3)
    for _ in range(5):
        process = start(store.directory, code)
        wait_for(process, "ready")
        time.sleep(pauses.uniform(0.02, 0.3))
        kill(process)
        assert_whole(store)
        assert len(store.upkeep.entries()) == store.upkeep.info().records
    assert store.upkeep.verify().wrong == ()
    assert keep(store, KEY, b"result") is not None
    assert not warnings


# --- no space, no permission, no directory


def test_full_disk_disables_the_cache_with_one_warning(disk: Path, warnings: list[str]) -> None:
    store = Store(disk / "cache", warn=warnings.append, limit=10**9)
    first = keep(store, KEY, os.urandom(SMALL_DISK // 2))
    assert first is not None
    with store.lock("b" * 64):
        assert keep(store, "b" * 64, os.urandom(SMALL_DISK)) is None
    assert keep(store, "c" * 64, b"small, and yet not tried") is None
    store.touch(KEY)
    store.finish()
    assert len(warnings) == 1
    assert "No space left" in warnings[0]
    assert not list(store.layout.files("tmp"))
    assert store.has(first)
    assert assert_whole(store) == 1
    store.start()
    assert keep(store, "c" * 64, b"small, and tried in the next run") is not None


def test_full_disk_under_a_library_is_one_warning(disk: Path, warnings: list[str]) -> None:
    store = Store(disk / "cache", warn=warnings.append)

    def write(path: Path) -> None:
        failed = False
        with path.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                failed = True
        if failed:
            raise RuntimeError("unexpected pos 576 vs 534")  # torch.save raises this

    for _ in range(2):
        assert store.put_file(write, ".bin") is None
    (warning,) = warnings
    assert "No space left" in warning


def test_completely_full_disk_can_be_read_and_emptied(disk: Path, warnings: list[str]) -> None:
    store = Store(disk / "cache", warn=warnings.append, limit=10**9)
    first = keep(store, KEY, os.urandom(100_000))
    assert first is not None
    fill(disk)
    again = Store(disk / "cache", warn=warnings.append, limit=10**9)
    assert again.has(first)
    assert [entry.key for entry in again.upkeep.entries()] == [KEY]
    again.touch(KEY)
    assert keep(again, "b" * 64, os.urandom(20_000)) is None
    again.finish()
    assert len(warnings) == 1
    assert again.upkeep.gc(limit=0).keys == (KEY,)
    assert again.upkeep.info().bytes == 0


def test_file_size_limit_disables_the_cache(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    code = """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        assert store.put_bytes(os.urandom(5_000), ".bin") is not None
        assert store.put_bytes(os.urandom(50_000), ".bin") is None
        assert len(warnings) == 1, warnings
        say(warnings[0])
        """
    assert "File too large" in end(start(tmp_path / "cache", code))


def test_read_only_directory_is_read_with_one_warning(disk: Path, warnings: list[str]) -> None:
    writer = Store(disk / "cache")
    first = keep(writer, KEY, b"result")
    assert first is not None
    writer.upkeep.entries()
    writer.touch(KEY)
    writer.finish()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    store = Store(disk / "cache", warn=warnings.append, limit=1)
    assert store.has(first)
    store.touch(KEY)
    store.finish()
    assert not warnings  # nothing had to be written
    assert [entry.key for entry in store.upkeep.entries()] == [KEY]
    with store.lock("b" * 64):
        assert keep(store, "b" * 64, b"another") is None
    store.finish()
    assert len(warnings) == 1
    assert "Read-only" in warnings[0]
    assert store.upkeep.gc(limit=0).keys == ()
    assert store.upkeep.clear().records == 0
    assert store.has(first)


def test_directory_removed_between_results_is_recreated(store: Store, warnings: list[str]) -> None:
    first = keep(store, KEY, b"one")
    assert first is not None
    store.touch(KEY)
    shutil.rmtree(store.directory)
    assert store.record(KEY) is None
    assert not store.has(first)
    with store.lock(KEY):
        assert keep(store, KEY, b"two") is not None
    store.finish()
    assert assert_whole(store) == 1
    assert not warnings


def test_directory_removed_during_a_write_is_recreated(store: Store, warnings: list[str]) -> None:
    times = 0

    def write(path: Path) -> None:
        nonlocal times
        times += 1
        path.write_bytes(b"result")
        if times == 1:
            shutil.rmtree(store.directory)

    put = store.put_file(write, ".bin")
    assert put is not None
    assert store.has(put[0])
    assert not warnings


def test_directory_that_keeps_vanishing_disables_the_cache(store: Store, warnings: list[str]) -> None:
    def write(path: Path) -> None:
        path.write_bytes(b"result")
        shutil.rmtree(store.directory)

    assert store.put_file(write, ".bin") is None
    assert len(warnings) == 1


def test_file_instead_of_directory_disables_the_cache(store: Store, warnings: list[str]) -> None:
    assert keep(store, KEY, b"one") is not None
    shutil.rmtree(store.directory)
    store.directory.write_text("a file")
    assert store.record(KEY) is None
    assert keep(store, KEY, b"two") is None
    store.finish()
    assert store.upkeep.entries() == []
    assert len(warnings) == 1


# --- damage


@pytest.mark.parametrize("size", [100, 200_000])
@pytest.mark.parametrize("process", ["same", "another"])
def test_flipped_bit_with_equal_size_and_mtime_is_seen(store: Store, warnings: list[str], size: int, process: str) -> None:
    data = os.urandom(size)
    blob = keep(store, KEY, data)
    assert blob is not None
    assert store.has(blob)
    path = store.layout.blob(blob)
    stat = path.stat()
    probe = store.directory / "probe"
    while probe.write_text("tick") and probe.stat().st_ctime_ns <= stat.st_ctime_ns:
        pass  # until a change will show in ctime, which no program can set
    with path.open("r+b") as file:
        file.seek(size - 1)
        file.write(bytes([data[-1] ^ 1]))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    reader = store if process == "same" else Store(store.directory, warn=warnings.append)
    assert not reader.has(blob)
    assert len(warnings) == 1
    assert keep(reader, KEY, data) == blob
    assert reader.has(blob)


def test_damaged_blob_is_replaced_by_the_next_write(store: Store, warnings: list[str]) -> None:
    blob = keep(store, KEY, b"result")
    assert blob is not None
    store.layout.blob(blob).write_bytes(b"tluser")  # the same size
    assert keep(store, "b" * 64, b"result") == blob
    assert store.has(blob)
    assert not warnings


def test_large_blob_is_hashed_once_for_all_processes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = keep(store, KEY, os.urandom(200_000))
    assert blob is not None
    assert Store(store.directory).has(blob)
    monkeypatch.setattr("nodegraph.cache.file_digests.hash_file", None)
    monkeypatch.setattr("nodegraph.cache.store.blobs.hash_file", None)
    assert Store(store.directory).has(blob)
