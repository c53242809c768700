"""The index is rebuilt if it is lost or damaged, and a run that finds everything in the cache does not need it."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from nodegraph.cache.store.index import BUSY_SECONDS, query_index
from nodegraph.cache.store.journal import Journal
from nodegraph.cache.store.layout import Layout
from nodegraph.cache.store.locks import close
from nodegraph.cache.store.records import Alias
from nodegraph.cache.store.store import Record, Store, StoredValue
from tests.support.other_process import end, start, wait_for

KEYS = ["a" * 64, "b" * 64, "c" * 64]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three results of 10, 20 and 30 bytes, made 300, 200 and 100 seconds ago."""
    store = Store(tmp_path / "cache", limit=10**9)
    for i, key in enumerate(KEYS, start=1):
        keep(store, key, bytes([i]) * 10 * i, made=time.time() - 400 + 100 * i)
    store.finish()
    return store


def keep(store: Store, key: str, data: bytes, made: float | None = None) -> str:
    put = store.put_bytes(data, ".bin")
    assert put is not None
    made = time.time() if made is None else made
    store.put_record(
        Record(
            key=key,
            type="Type",
            workflow="workflow",
            node=key[0],
            created=made,
            seconds=0.5,
            outputs={"output": StoredValue(key, put.name, "json", put.size)},
        )
    )
    os.utime(store.layout.record(key), (made, made))
    return put[0]


def made_record(key: str) -> Record:
    """A record without values."""
    return Record(key=key, type="Type", workflow="workflow", node="node", created=1.0, seconds=0.5, outputs={})


def total(store: Store) -> int:
    return query_index(store.layout, store.record, lambda index: index.total())


def use(store: Store, *keys: str) -> None:
    """A run that uses `keys`, shortly after the previous one."""
    time.sleep(0.002)
    store.start()
    for key in keys:
        store.touch(key)
    store.finish()


def test_entries_have_origin_size_and_use(store: Store) -> None:
    before = time.time()
    use(store, KEYS[0])
    use(store, KEYS[0], KEYS[1])
    entries = store.upkeep.entries()
    assert [entry.key for entry in entries] == [KEYS[2], KEYS[0], KEYS[1]]  # the least recently used comes first
    assert [entry.size for entry in entries] == [30, 10, 20]
    assert [entry.uses for entry in entries] == [0, 2, 1]
    assert {(entry.type, entry.workflow) for entry in entries} == {("Type", "workflow")}
    assert [entry.node for entry in entries] == ["c", "a", "b"]
    assert entries[0].used == entries[0].created
    assert before <= entries[1].used <= entries[2].used <= time.time()
    assert total(store) == 60


def test_shared_blobs_count_once(store: Store) -> None:
    keep(store, "e" * 64, bytes([1]) * 10)
    assert total(store) == 60
    assert sum(entry.size for entry in store.upkeep.entries()) == 70


@pytest.mark.parametrize(
    "damage",
    ["gone", "empty", "noise", "cut", "flipped", "other tables", "other version", "folder"],
)
def test_lost_or_damaged_index_is_rebuilt(store: Store, damage: str) -> None:
    use(store, KEYS[0])
    before = store.upkeep.entries()
    file = store.layout.index
    data = file.read_bytes()
    file.unlink()
    if damage == "empty":
        file.touch()
    elif damage == "noise":
        file.write_bytes(random.Random(7).randbytes(9000))
    elif damage == "cut":
        file.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        file.write_bytes(data[:4096] + bytes(255 - byte for byte in data[4096:]))
    elif damage == "other tables":
        with sqlite3.connect(file) as db:
            db.execute("CREATE TABLE entries (something)")
            db.execute("PRAGMA user_version = 1")
        db.close()
    elif damage == "other version":
        file.write_bytes(data)
        with sqlite3.connect(file) as db:
            db.execute("PRAGMA user_version = 99")
        db.close()
    elif damage == "folder":
        file.mkdir()  # cannot be used at all
    after = store.upkeep.entries()
    assert [entry.key for entry in after] == [entry.key for entry in before]  # the records keep the order of use
    assert [entry.used for entry in after] == pytest.approx([entry.used for entry in before], abs=1e-3)
    assert {entry.uses for entry in after} == {0}  # only the counts are lost
    assert total(store) == 60
    keep(store, "f" * 64, b"more")
    store.finish()
    assert total(store) == 64


# --- an index that another process keeps locked


@contextmanager
def locked(layout: Layout, mode: str = "EXCLUSIVE") -> Iterator[None]:
    """A second connection that holds the index: EXCLUSIVE against readers, too, NORMAL against writers only."""
    other = sqlite3.connect(layout.index, isolation_level=None, timeout=0)
    other.execute(f"PRAGMA locking_mode = {mode}")
    other.execute("BEGIN EXCLUSIVE")
    other.execute("DELETE FROM entries")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Wait only a moment for a locked index. The list receives a name for each query that waits."""
    assert BUSY_SECONDS == 1.0
    monkeypatch.setattr("nodegraph.cache.store.index.BUSY_SECONDS", 0.02)
    queries: list[str] = []

    def query(*arguments: object, **options: object) -> object:
        queries.append("query")
        return query_index(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("nodegraph.cache.store.index.query_index", query)
    return queries


@pytest.mark.parametrize("mode", ["EXCLUSIVE", "NORMAL"])
def test_command_does_without_a_locked_index(store: Store, impatient: list[str], mode: str) -> None:
    store.touch(KEYS[0])
    store.finish()
    with locked(store.layout, mode):
        command = Store(store.directory)
        assert [entry.key for entry in command.upkeep.entries()] == [KEYS[1], KEYS[2], KEYS[0]]
        assert len(command.upkeep.gc(limit=30).keys) == 2
        assert store.layout.journal.exists()
    assert impatient == ["query"]  # the command waited once
    assert {entry.key: entry.uses for entry in store.upkeep.entries()} == {KEYS[0]: 1}


@pytest.mark.parametrize("mode", ["EXCLUSIVE", "NORMAL"])
def test_run_leaves_a_locked_index_to_a_later_run(store: Store, impatient: list[str], mode: str) -> None:
    engine = Store(store.directory, limit=65)
    run = engine.for_run(pytest.fail)
    with locked(store.layout, mode):
        run.touch(KEYS[0])
        keep(run, "f" * 64, b"more than fits")
        run.finish()
        assert len(list(store.layout.records())) == 4  # nothing is trimmed
    assert impatient == ["query"]
    later = engine.for_run(pytest.fail)
    keep(later, "e" * 64, b"x")
    later.finish()
    assert set(store.layout.records()) == {KEYS[0], "f" * 64, "e" * 64}
    assert {entry.key: entry.uses for entry in store.upkeep.entries()} == {KEYS[0]: 1, "f" * 64: 0, "e" * 64: 0}


@pytest.mark.skipif(os.name == "nt", reason="there, a file that is open cannot be taken")
def test_lines_of_a_stopped_process_are_left_for_later(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.add([["used", 1.0, {KEYS[0]: 1}]])
    stopped = journal._open()  # a process that was stopped before it wrote
    with journal.take(seconds=0.0) as lines:
        assert lines == []
    journal.add([["used", 2.0, {KEYS[1]: 1}]])
    with journal.take(seconds=0.0) as lines:
        assert lines == [["used", 2.0, {KEYS[1]: 1}]]
    close(stopped)
    with journal.take(seconds=0.0) as lines:
        assert lines == [["used", 1.0, {KEYS[0]: 1}]]
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forked_child_does_not_hold_the_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    opened = journal._open()
    child = os.fork()
    if not child:
        signal.pause()
    close(opened)
    try:
        journal.add([["used", 1.0, {KEYS[0]: 1}]])
        with journal.take(seconds=5.0) as lines:
            assert lines == [["used", 1.0, {KEYS[0]: 1}]]
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_unrecorded_changes_are_seen(store: Store) -> None:
    assert len(store.upkeep.entries()) == 3
    store.layout.record(KEYS[0]).unlink()
    keep(store, "f" * 64, b"more")
    store.layout.journal.unlink()
    assert {entry.key for entry in store.upkeep.entries()} == {KEYS[1], KEYS[2], "f" * 64}


def test_future_times_count_as_now(store: Store) -> None:
    os.utime(store.layout.record(KEYS[0]), (2e9 + 2e9, 2e9 + 2e9))
    assert all(entry.used <= time.time() for entry in store.upkeep.entries())


def test_damaged_journal_loses_only_damaged_lines(store: Store) -> None:
    Journal(store.layout.journal).add([["used", time.time(), {KEYS[0]: 3}]])
    lines: list[list[object]] = [
        ["used", 1.0, {"../../etc/passwd": 1, KEYS[1]: 10**30}],
        ["used", "yesterday", {KEYS[1]: 1}],
        ["used", float("nan"), {KEYS[1]: 1}],
        ["used", 1.0, [KEYS[1]]],
        ["made", KEYS[1], 1, 2, 3, 4, 5],
        ["made", "x", "Type", "workflow", "node", 1.0, [["blob", -1]]],
        ["kept", {"blob": 1}],
        ["kept", [["blob", "many"]]],
        ["unheard of"],
    ]
    Journal(store.layout.journal).add(lines)
    with store.layout.journal.open("ab") as file:
        file.write(b'["used", 1.0, {"aa')  # a process was killed here
    Journal(store.layout.journal).add([["used", time.time(), {KEYS[2]: 5}]])
    assert {entry.key: entry.uses for entry in store.upkeep.entries()} == {KEYS[0]: 3, KEYS[1]: 0, KEYS[2]: 5}
    assert total(store) == 60


def test_journal_of_a_killed_process_is_merged_later(store: Store) -> None:
    store.upkeep.entries()
    store.touch(KEYS[0])
    store.finish()
    store.layout.journal.replace(store.layout.journal.with_name("journal-00ff.taken"))
    assert {entry.uses for entry in store.upkeep.entries() if entry.key == KEYS[0]} == {1}
    assert not list(store.directory.glob("*.taken"))


@pytest.mark.skipif(os.name == "nt", reason="there, a file that is open cannot be taken")
def test_line_written_during_a_merge_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    opened, noted, write = threading.Event(), [], os.write

    def late(descriptor: int, data: bytes) -> int:
        """Write after the file was taken, when the process that took it had time to read and remove it."""
        opened.set()
        while not list(tmp_path.glob("*.taken")):
            pass
        time.sleep(0.1)
        return write(descriptor, data)

    def take() -> None:
        opened.wait(60)
        with journal.take() as lines:
            noted.extend(lines)

    thread = threading.Thread(target=take)
    thread.start()
    monkeypatch.setattr("nodegraph.cache.store.journal.os.write", late)
    journal.add([["used", 1.0, {KEYS[0]: 1}]])
    thread.join()
    assert noted == [["used", 1.0, {KEYS[0]: 1}]]


def test_processes_record_uses_concurrently(store: Store) -> None:
    code = """
        for _ in range(20):
            store.start()
            store.touch("a" * 64)
            keep(f"{os.getpid():064x}", b"of its own")
            store.finish()
            store.upkeep.entries()
        """
    processes = [start(store.directory, code) for _ in range(3)]
    for process in processes:
        end(process)
    entries = {entry.key: entry for entry in store.upkeep.entries()}
    assert len(entries) == 6
    assert entries[KEYS[0]].uses == 60


def test_index_deleted_during_use_is_rebuilt(store: Store) -> None:
    code = """
        say("ready")
        for i in range(30):
            store.start()
            store.touch("a" * 64)
            keep(f"{os.getpid():060x}{i:04x}", b"of its own")
            store.finish()
            assert "a" * 64 in {entry.key for entry in store.upkeep.entries()}
        assert not warnings, warnings
        """
    processes = [start(store.directory, code) for _ in range(3)]
    for process in processes:
        wait_for(process, "ready")
    while any(process.poll() is None for process in processes):
        for name in ("index.sqlite", "index.sqlite-wal", "index.sqlite-shm"):
            (store.directory / name).unlink(missing_ok=True)
    for process in processes:
        end(process)
    assert {entry.key for entry in store.upkeep.entries()} == set(store.layout.records())
    assert len(store.upkeep.entries()) == 3 + 3 * 30
    assert total(store) == 60 + len(b"of its own")


def test_cached_run_opens_no_database(store: Store) -> None:
    store.upkeep.entries()
    code = """
        for key in ("a" * 64, "b" * 64):
            found = store.record(key)
            assert store.has(found.outputs["output"].blob)
            store.touch(key)
        store.finish()
        say("sqlite3" in sys.modules)
        """
    assert end(start(store.directory, code)) == "False"
    assert [entry.uses for entry in store.upkeep.entries()] == [0, 1, 1]


def test_run_without_a_limit_opens_no_database(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache", limit=None)
    keep(store, KEYS[0], b"1234")
    store.finish()
    assert not store.layout.index.exists()
    assert [(entry.key, entry.size) for entry in store.upkeep.entries()] == [(KEYS[0], 4)]


def test_text_of_modules_is_written_once_and_not_for_others(tmp_path: Path) -> None:
    """Records share the text of what they depend on if it is the same object."""
    store = Store(tmp_path / "cache")
    first, second = {"/a.py": "1"}, {"/b.py": "2"}
    for key, imports in zip(KEYS, (first, second, first), strict=True):
        record = replace(made_record(key), imports=imports)
        store.put_record(record)
        store.put_alias(key, Alias(key, imports))
    store._records.read_again()
    found = [store.record(key) for key in KEYS]
    assert [record.imports for record in found if record is not None] == [first, second, first]
    assert [store.alias(key) for key in KEYS] == [Alias(KEYS[0], first), Alias(KEYS[1], second), Alias(KEYS[2], first)]


def test_cached_run_merges_a_long_journal(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    use(store, KEYS[0])
    assert store.layout.journal.exists()
    monkeypatch.setattr("nodegraph.cache.store.store.LONG_JOURNAL_BYTES", 1)
    use(store, KEYS[0])
    assert not store.layout.journal.exists()


def test_missing_directory_is_empty_and_not_created(tmp_path: Path) -> None:
    store = Store(tmp_path / "nowhere")
    store.touch(KEYS[0])
    store.finish()
    assert store.upkeep.entries() == []
    assert not store.directory.exists()
