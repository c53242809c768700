"""What could make a run wait forever: missing threads, Ctrl-C, runs inside nodes, forked children, locks in a circle."""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nodegraph import Engine, Workflow
from nodegraph.plugin_api import CpuBackend
from nodegraph.plugins.manager import load_plugins
from nodegraph.run.events import Event, NodeProgress
from nodegraph.run.model_memory import ModelMemory
from nodegraph.run.workers.jobs import Jobs, SharedJob
from nodegraph.run.workers.threads import _Threads

PATIENCE = 120.0
"""Seconds after which something counts as hanging."""


def ends(work: Callable[[], object]) -> bool:
    """Whether `work` ends; in a thread that may be left behind."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return not thread.is_alive()


def several(count: int = 4) -> Workflow:
    """Numeric nodes and others that can run at the same time."""
    workflow = Workflow("several")
    for i in range(count):
        workflow.output(f"plain{i}", workflow.add("Number", name=f"plain{i}", value=float(i)))
        workflow.output(f"numeric{i}", workflow.add("Numeric", name=f"numeric{i}", value=float(i)))
    return workflow


# --- threads


class NoThreads:
    """Lets the system have only `remaining` more threads for the engine."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, remaining: int) -> None:
        self.remaining, start = remaining, threading.Thread.start

        def start_some(thread: threading.Thread) -> None:
            if thread.name.startswith("nodegraph"):
                if not self.remaining:
                    raise RuntimeError("can't start new thread")
                self.remaining -= 1
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", start_some)


@pytest.mark.parametrize("remaining", [0, 1, 2])
def test_run_ends_if_the_system_has_no_more_threads(
    make_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch, remaining: int
) -> None:
    NoThreads(monkeypatch, remaining)
    engine, ran = make_engine(), []
    assert ends(lambda: ran.append(len(engine.run(several()).ran)))
    assert ran == [8]


def test_background_run_that_gets_no_thread_is_an_error(
    make_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    NoThreads(monkeypatch, 0)
    engine = make_engine()
    with pytest.raises(RuntimeError, match="can't start new thread"):
        engine.start(several())
    assert ends(engine.close)


def test_thread_whose_start_is_interrupted_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    threads, start = _Threads(), threading.Thread.start
    worked = threading.Event()

    def work(threads: _Threads) -> None:
        while threads.numeric.get() is not None:
            pass
        worked.set()

    def start_and_interrupt(thread: threading.Thread) -> None:
        start(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", start_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        threads.start(work, "nodegraph-test")
    threads.end()
    assert worked.wait(PATIENCE)


# --- Ctrl-C


def test_ctrl_c_while_an_outcome_is_passed_on(make_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    finish, interrupts = SharedJob.finish, [KeyboardInterrupt()]

    def finish_or_stop(job: SharedJob, *arguments: Any) -> None:
        if interrupts:
            raise interrupts.pop()
        finish(job, *arguments)

    monkeypatch.setattr(SharedJob, "finish", finish_or_stop)
    engine, statuses = make_engine(), []
    workflow = Workflow("w")
    workflow.output("out", workflow.add("Number", value=1.0))
    assert ends(lambda: statuses.append(engine.run(workflow, raise_errors=False).status))
    assert statuses == ["cancelled"]
    assert ends(lambda: engine.run(workflow))


def test_ctrl_c_between_two_runs_that_receive_an_outcome() -> None:
    received: list[str] = []

    def deliver(node: str, outcome: Any, on_handed_out: Any) -> None:
        received.append(node)
        if len(received) == 1:
            raise KeyboardInterrupt

    first, second = (types.SimpleNamespace(node=node, context=None, wanted=frozenset(), deliver=deliver) for node in "ab")
    job = SharedJob(types.SimpleNamespace(node="a", key=None), None, first, lambda job: None)  # type: ignore[arg-type]
    job._waiters.append(second)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        job.finish(RuntimeError("an outcome"))
    job.abandon()
    assert received == ["a", "b"]


def test_ctrl_c_while_a_task_is_handed_out(make_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    start, interrupts = Jobs.start, [KeyboardInterrupt()]

    def start_and_stop(jobs: Jobs, *arguments: Any) -> Any:
        started = start(jobs, *arguments)
        if interrupts:
            raise interrupts.pop()
        return started

    monkeypatch.setattr(Jobs, "start", start_and_stop)
    engine = make_engine()
    workflow = Workflow("w")
    workflow.output("out", workflow.add("Number", value=1.0))
    assert engine.run(workflow, raise_errors=False).status == "cancelled"
    assert ends(lambda: engine.run(workflow))  # it would join a job that no worker does


SIGNALLING = """
import os, signal, time
from nodegraph import Run, hookimpl, node

@node("Wait")
def wait(signals: bool, run: Run = Run()) -> bool:
    time.sleep(0.2)
    if signals:
        os.kill(os.getpid(), signal.SIGUSR2)
    for i in range(100):
        time.sleep(0.05)
        run.step(i, 100)
    return signals

@hookimpl
def register_nodes(register):
    register(wait)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_signal_that_comes_while_the_handler_of_another_one_ends_stops_the_run(tmp_path: Path) -> None:
    """Python sees such a signal only when the main thread, which waits, runs again: as a second Ctrl-C soon after the first one."""
    (tmp_path / "signalling.py").write_text(SIGNALLING)
    events: list[Event] = []
    engine, kill = Engine(None, plugin_dirs=[tmp_path], on_event=events.append), ctypes.CDLL(None).kill
    kill.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.py_object]  # the last two are those of a handler
    workflow = Workflow("w")
    for signals in (False, True):
        workflow.output(f"out{signals}", workflow.add("Wait", name=f"wait{signals}", signals=signals))
    handlers: dict[int, Any] = {  # Python looks for signals in the order of their numbers, so it has looked for the second one
        signal.SIGUSR2: functools.partial(kill, os.getpid(), signal.SIGUSR1),
        signal.SIGUSR1: lambda *_: engine.cancel(),
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        assert engine.run(workflow, raise_errors=False).status == "cancelled"
        assert max(event.step for event in events if isinstance(event, NodeProgress)) < 99
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- runs inside nodes

NESTED = """
from nodegraph import hookimpl, node

HELD = {}

def inner(depth):
    return HELD["engine"].run(HELD["workflow"](depth)).status

@node("RunsPlain")
def runs_plain(depth: int) -> str:
    return inner(depth - 1) if depth else "end"

@node("RunsNumeric", numeric=True)
def runs_numeric(depth: int) -> str:
    return inner(depth - 1) if depth else "end"

@hookimpl
def register_nodes(register):
    register(runs_plain)
    register(runs_numeric)
"""


def test_nodes_that_run_workflows_on_their_engine_end(tmp_path: Path) -> None:
    (tmp_path / "nested.py").write_text(NESTED)
    plugins = load_plugins([tmp_path])
    plugins.backend = CpuBackend()
    engine = Engine(cache_dir=None, plugins=plugins)

    def workflow(depth: int) -> Workflow:
        made = Workflow(f"depth{depth}")
        for i in range(5):
            for type in ("RunsPlain", "RunsNumeric"):
                node = made.add(type, name=f"{type}{i}", depth=depth if i < 2 else 0)
                made.output(f"{type}{i}", node)
        return made

    plugins.manager.get_plugin("nested").HELD.update(engine=engine, workflow=workflow)
    assert ends(lambda: engine.run(workflow(2)))


# --- forked children


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_engine_can_be_used_in_a_forked_child(make_engine: Callable[..., Engine], stubs: types.ModuleType) -> None:
    engine = make_engine(on_event=None)
    stubs.GO.clear()
    workflow = Workflow("w")
    for i in range(3):
        workflow.output(f"out{i}", workflow.add("WaitForGo", text=str(i)))
    handle = engine.start(workflow)
    for event in handle.events():
        if type(event).__name__ == "NodeStarted":
            break
    child = os.fork()
    if not child:
        try:
            stubs.GO.set()
            os._exit(0 if len(engine.run(several(), targets=["plain0", "plain1", "numeric0"]).ran) == 3 else 3)
        finally:
            os._exit(4)
    deadline, ended, status = time.monotonic() + PATIENCE, 0, 0
    while not ended and time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.002)
    if not ended:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    stubs.GO.set()
    assert handle.result().status == "done"
    assert (bool(ended), status) == (True, 0)


# --- locks


def test_model_that_reports_progress_while_it_loads_does_not_block_previews() -> None:
    """One node loads a model and reports progress; the listener of another one needs a model for its preview."""
    memory, emitting = ModelMemory(CpuBackend()), threading.Lock()
    loading, listening = threading.Event(), threading.Event()

    def emit(event: Event) -> None:
        with emitting:  # as a run does
            if isinstance(event, NodeProgress) and event.preview is not None:
                listening.set()
                event.preview()

    def load() -> str:
        loading.set()
        listening.wait(PATIENCE)
        emit(NodeProgress("loads", 1, 2))
        return "model"

    def show() -> None:
        loading.wait(PATIENCE)
        emit(NodeProgress("previews", 1, 2, lambda: memory.get("scope", "decoder", lambda: "decoder")))

    thread = threading.Thread(target=lambda: memory.get("scope", "model", load), daemon=True)
    thread.start()
    assert ends(show)
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_two_nodes_load_a_model_once() -> None:
    memory, made = ModelMemory(CpuBackend()), []
    begun, go = threading.Event(), threading.Event()

    def load() -> str:
        made.append("model")
        begun.set()
        go.wait(PATIENCE)
        return "model"

    threads = [threading.Thread(target=lambda: memory.get("scope", "model", load), daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    begun.wait(PATIENCE)
    go.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert made == ["model"]
