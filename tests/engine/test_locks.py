"""Locks have one holder at a time across processes and threads, and end with their holder."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from nodegraph.cache.store import locks
from nodegraph.cache.store.locks import LockHeldError, Locks
from nodegraph.cache.store.store import Store
from tests.support.other_process import end, kill, start, wait_for

KEY = "a" * 64

HOLD = """
with store.lock("a" * 64):
    say("held")
    sys.stdin.readline()
"""

COMPUTE = """
say("ready")
sys.stdin.readline()
with store.lock("a" * 64) as waited:
    if store.record("a" * 64) is None:
        with open(sys.argv[2], "a") as file:
            file.write("computed\\n")
        time.sleep(0.3)
        keep("a" * 64, b"result")
assert store.record("a" * 64) is not None
assert not warnings
say(waited)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Locks:
    return Locks(tmp_path / "locks")


def test_free_lock_is_taken_at_once_and_leaves_no_file(tmp_path: Path, folder: Locks) -> None:
    with folder.hold("name") as waited:
        assert not waited
        with folder.hold("another") as waited_for_another:
            assert not waited_for_another
    assert list((tmp_path / "locks").iterdir()) == []


def test_threads_wait_for_each_other(folder: Locks) -> None:
    inside, most, waits = 0, 0, []

    def work(asked: threading.Event) -> None:
        nonlocal inside, most
        with folder.hold("name", asked.set) as waited:
            inside += 1
            most = max(most, inside)
            time.sleep(0.02)
            inside -= 1
            waits.append(waited)

    asked = [threading.Event() for _ in range(4)]
    threads = [threading.Thread(target=work, args=[event]) for event in asked]
    with folder.hold("name"):
        for thread in threads:
            thread.start()
        assert all(event.wait(60) for event in asked)
        assert inside == 0
    for thread in threads:
        thread.join()
    assert most == 1
    assert waits == [True] * 4


def test_waiting_can_be_stopped(folder: Locks) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with folder.hold("name"):
        with pytest.raises(KeyboardInterrupt), folder.hold("name", stop):
            raise AssertionError
        with pytest.raises(LockHeldError), folder.hold_without_waiting("name"):
            raise AssertionError


def test_exception_passes_and_frees_the_lock(folder: Locks) -> None:
    with pytest.raises(ZeroDivisionError), folder.hold("name"):
        raise ZeroDivisionError
    with folder.hold_without_waiting("name"):
        pass


@pytest.mark.parametrize("count", [2, 8])
def test_processes_compute_a_shared_key_once(tmp_path: Path, count: int) -> None:
    processes = [start(tmp_path / "cache", COMPUTE, str(tmp_path / "computed")) for _ in range(count)]
    for process in processes:
        wait_for(process, "ready")
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [end(process) for process in processes]
    assert (tmp_path / "computed").read_text() == "computed\n"
    assert outputs.count("False") >= 1


def test_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    process = start(tmp_path / "cache", HOLD)
    wait_for(process, "held")
    store = Store(tmp_path / "cache")
    with pytest.raises(LockHeldError), Locks(tmp_path / "cache" / "locks").hold_without_waiting(KEY):
        raise AssertionError
    with store.lock(KEY, lambda: kill(process) if process.poll() is None else None) as waited:
        assert waited


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is inherited without fork")
def test_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    process = start(
        tmp_path / "cache",
        """
        with store.lock("a" * 64):
            child = os.fork()
            if child:
                Path(sys.argv[2]).write_text(str(child))
                say("held")
            else:
                os.close(1)
            time.sleep(600)
        """,
        str(tmp_path / "child"),
    )
    wait_for(process, "held")
    kill(process)
    try:
        with Locks(tmp_path / "cache" / "locks").hold_without_waiting(KEY):
            os.kill(int((tmp_path / "child").read_text()), 0)  # the child is alive
    finally:
        os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


def test_emptied_lock_folder_does_no_harm(tmp_path: Path, folder: Locks) -> None:
    with folder.hold("name"):
        (tmp_path / "locks" / "name.lock").unlink()
        (tmp_path / "locks").rmdir()
        with folder.hold_without_waiting("name"):  # a new file: both may compute
            assert (tmp_path / "locks" / "name.lock").exists()
    with folder.hold_without_waiting("name"):
        pass


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_run_without_locks_warns_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(locks, "_try_lock", fail)
    warnings: list[str] = []
    store = Store(tmp_path / "cache", warn=warnings.append)
    for _ in range(2):
        with store.lock(KEY) as waited:
            assert not waited
    assert len(warnings) == 1
    assert "cannot be locked" in warnings[0]
    assert store.put_bytes(b"data", ".bin") is not None
    store.start()
    with store.lock(KEY):
        assert len(warnings) == 2  # reported again in the next run


def test_unwritable_directory_warns_once(tmp_path: Path) -> None:
    (tmp_path / "blocked").touch()
    warnings: list[str] = []
    store = Store(tmp_path / "blocked" / "cache", warn=warnings.append)
    with store.lock(KEY):
        assert store.put_bytes(b"data", ".bin") is None
    assert len(warnings) == 1
    assert "cannot be written" in warnings[0]
