"""A process that waits for a lock longer than a second tells which process holds it, and how to go on without it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nodegraph import Engine, Workflow
from nodegraph.cache.store import lock_holder, locks
from nodegraph.cache.store.locks import Locks
from nodegraph.cache.store.store import Store
from nodegraph.run.events import Event, NodeFinished, Notice
from tests.support.other_process import kill, start, wait_for

HOLD = """
with store.lock(sys.argv[2]):
    say("held")
    sys.stdin.readline()
"""

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are stopped by signals of POSIX")
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who holds a lock")


@pytest.fixture(autouse=True)
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "LONG_WAIT_SECONDS", 0.02)


@contextlib.contextmanager
def stopped_holder(cache: Path, name: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock `name` and was stopped as by Ctrl-Z."""
    process = start(cache, HOLD, name)
    try:
        wait_for(process, "held")
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        kill(process)


def notices(events: list[Event]) -> list[Notice]:
    return [event for event in events if isinstance(event, Notice)]


@linux
def test_run_tells_once_which_process_it_waits_for(tmp_path: Path, make_engine: Callable[..., Engine]) -> None:
    events: list[Event] = []
    workflow = Workflow("counted")
    number = workflow.add("Number", name="number", value=3.0)
    key = make_engine().plan(workflow, targets=[number]).keys["number"]
    with stopped_holder(tmp_path / "cache", key) as holder:

        def listen(event: Event) -> None:
            events.append(event)
            if isinstance(event, Notice):
                threading.Timer(0.15, go_on).start()  # several more polls, none of which repeats the notice

        def go_on() -> None:
            holder.send_signal(signal.SIGCONT)
            assert holder.stdin is not None
            holder.stdin.write("\n")
            holder.stdin.flush()

        make_engine(on_event=listen).run(workflow, targets=[number])
        (notice,) = notices(events)
        assert notice.node == "number"
        assert notice.message.startswith(f"waiting for process {holder.pid} (python")
        assert (
            f"which computes this node (Number). It is stopped: 'fg' in its terminal, or 'kill -CONT {holder.pid}'"
            in notice.message
        )
        assert "To go on without it, press Ctrl-C, and run with --no-cache or another --cache-dir" in notice.message
    assert any(isinstance(event, NodeFinished) for event in events)


@linux
def test_notice_is_not_kept_with_the_result(tmp_path: Path, make_engine: Callable[..., Engine], events: list[Event]) -> None:
    workflow = Workflow("counted")
    number = workflow.add("Number", name="number", value=4.0)
    key = make_engine().plan(workflow, targets=[number]).keys["number"]
    engine = make_engine()
    with stopped_holder(tmp_path / "cache", key) as holder:
        run = engine.start(workflow, targets=[number])
        assert any(isinstance(event, Notice) for event in run.events())
        holder.send_signal(signal.SIGCONT)
        kill(holder)
        assert run.result().nodes["number"].notices == ()


@linux
def test_wait_can_be_cancelled(tmp_path: Path, make_engine: Callable[..., Engine], events: list[Event]) -> None:
    workflow = Workflow("counted")
    number = workflow.add("Number", name="number", value=5.0)
    engine = make_engine()
    with stopped_holder(tmp_path / "cache", engine.plan(workflow, targets=[number]).keys["number"]):
        run = engine.start(workflow, targets=[number], raise_errors=False)
        next(event for event in run.events() if isinstance(event, Notice))
        run.cancel()
        assert run.result().status == "cancelled"


@linux
def test_gc_tells_which_process_it_waits_for(tmp_path: Path) -> None:
    warnings: list[str] = []
    with stopped_holder(tmp_path / "cache", "gc") as holder:

        def warn(message: str) -> None:
            warnings.append(message)
            threading.Thread(target=kill, args=[holder]).start()

        store = Store(tmp_path / "cache", warn=warn)
        store.mark_directory()
        store.upkeep.gc()
    (message,) = warnings
    assert f"waiting for process {holder.pid} (python" in message
    assert "which removes results from this cache. It is stopped: 'fg' in its terminal" in message
    assert "Press Ctrl-C to stop waiting" in message


def test_unknown_holder_has_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_holder, "find_holder", lambda lock: None)
    assert lock_holder.waiting_message(tmp_path, "computes this node (Number)") == (
        "waiting for another process, which computes this node (Number)"
    )


@linux
def test_another_engine_of_this_process_holds_the_lock(tmp_path: Path) -> None:
    with Locks(tmp_path).hold("name"):
        assert lock_holder.waiting_message(tmp_path / "name.lock", "does this").startswith(
            "waiting for another run in this process"
        )


def test_free_lock_has_no_holder(tmp_path: Path) -> None:
    (tmp_path / "name.lock").touch()
    assert lock_holder.find_holder(tmp_path / "name.lock") is None
    assert lock_holder.find_holder(tmp_path / "missing.lock") is None


@pytest.mark.parametrize("locks_file", ["", "nonsense\n", "1: FLOCK  ADVISORY  WRITE x fe:00:y 0 EOF\n"])
def test_strange_list_of_locks_names_no_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks_file: str) -> None:
    (tmp_path / "name.lock").touch()
    monkeypatch.setattr(Path, "read_text", lambda path, **options: locks_file)
    assert lock_holder.find_holder(tmp_path / "name.lock") is None
