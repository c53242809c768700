"""Nodes that declare a timeout or retries."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import ModuleType

import pytest

from nodegraph import Cancelled, Engine, NodeError, Run, Workflow, node
from nodegraph.node_types.signature import SignatureError, spec_of
from nodegraph.plugins.manager import Plugins, load_plugins
from nodegraph.run.events import Event, NodeFinished, Notice
from nodegraph.run.node import attempts

PLUGIN = """
from nodegraph import Run, hookimpl, node
from nodegraph.plugin_api import TemporaryError

FAILURES = []   # each attempt raises and removes the first
SEEN = []       # the texts of each attempt
CLOCK = None    # the time that limits and pauses are measured with


@node("Unsteady", retries=2)
def unsteady(texts: list[str], run: Run = Run()) -> str:
    SEEN.append(list(texts))
    texts.append("changed")
    if FAILURES:
        raise FAILURES.pop(0)
    return "+".join(texts)


@node("Limited", timeout=0.05)
def limited(steps: int = 1000, run: Run = Run()) -> int:
    for i in range(steps):
        CLOCK.sleep(0.02)
        run.step(i + 1, steps)
    return steps


@node("Patient", timeout=60, retries=1)
def patient(run: Run = Run()) -> int:
    SEEN.append([])
    if len(SEEN) == 1:
        CLOCK.sleep(61)
    run.step(1, 2)
    return len(SEEN)


@node("Stubborn", timeout=0.05)
def stubborn(steps: int, run: Run = Run()) -> int:
    for i in range(steps):
        CLOCK.sleep(0.02)
        try:
            run.step(i + 1, steps)
        except Exception:
            return i
    return steps


@node("Unstoppable")
def unstoppable(how: str, run: Run = Run()) -> str:
    try:
        STOP[how]()
        run.step(1, 2)
    except BaseException:
        return "half"
    return "whole"


STOP = {}


@hookimpl
def register_nodes(register):
    for function in (unsteady, limited, patient, stubborn, unstoppable):
        register(function)
"""


class Clock:
    """Stands for the module `time`: it goes on only while something sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)


@pytest.fixture(scope="module")
def patient_plugins(tmp_path_factory: pytest.TempPathFactory) -> Plugins:
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "attempting.py").write_text(PLUGIN)
    return load_plugins([folder])


@pytest.fixture
def plugin(patient_plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = patient_plugins.manager.get_plugin("attempting")
    assert isinstance(module, ModuleType)
    module.CLOCK = Clock()
    monkeypatch.setattr(attempts, "time", module.CLOCK)
    module.FAILURES.clear()
    module.SEEN.clear()
    return module


@pytest.fixture
def run(make_engine: Callable[..., Engine], patient_plugins: Plugins, plugin: ModuleType) -> Callable[..., object]:
    def run(type: str, **inputs: object) -> object:
        workflow = Workflow("wf")
        workflow.output("out", workflow.add(type, name="it", **inputs))
        return make_engine(plugins=patient_plugins).run(workflow)["out"]

    return run


def notices(events: list[Event]) -> list[str]:
    return [event.message for event in events if isinstance(event, Notice)]


@pytest.mark.parametrize("error", [ConnectionResetError("gone"), TimeoutError("late"), OSError("busy")])
def test_node_runs_again_after_an_error_that_may_not_come_again(
    run: Callable[..., object], plugin: ModuleType, events: list[Event], error: Exception
) -> None:
    plugin.FAILURES[:] = [error, plugin.TemporaryError("busy")]
    assert run("Unsteady", texts=["a"]) == "a+changed"
    assert plugin.SEEN == [["a"], ["a"], ["a"]]  # each attempt has its own inputs
    assert notices(events) == [
        f"it failed ({error}); it runs again in 0.5 s, retry 1 of 2",
        "it failed (busy); it runs again in 1 s, retry 2 of 2",
    ]
    assert plugin.CLOCK.now == pytest.approx(1.5)


def test_last_error_is_that_of_the_node(run: Callable[..., object], plugin: ModuleType) -> None:
    plugin.FAILURES[:] = [OSError("one"), OSError("two"), OSError("three"), OSError("four")]
    with pytest.raises(NodeError, match=r"node 'it' \(Unsteady\) failed: three"):
        run("Unsteady", texts=[])
    assert len(plugin.SEEN) == 3


@pytest.mark.parametrize("error", [ValueError("wrong"), FileNotFoundError("missing"), PermissionError("no"), KeyError("x")])
def test_other_errors_are_not_tried_again(run: Callable[..., object], plugin: ModuleType, error: Exception) -> None:
    plugin.FAILURES[:] = [error]
    with pytest.raises(NodeError):
        run("Unsteady", texts=[])
    assert len(plugin.SEEN) == 1


def test_pause_before_a_retry_can_be_cancelled(
    make_engine: Callable[..., Engine], patient_plugins: Plugins, plugin: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin.FAILURES[:] = [OSError("one")]
    workflow = Workflow("wf")
    workflow.output("out", workflow.add("Unsteady", texts=[]))
    engine = make_engine(plugins=patient_plugins, on_event=None)
    sleep = plugin.CLOCK.sleep

    def sleep_and_cancel(seconds: float) -> None:
        sleep(seconds)
        engine.cancel()

    monkeypatch.setattr(plugin.CLOCK, "sleep", sleep_and_cancel)
    with pytest.raises(Cancelled):
        engine.run(workflow)
    assert len(plugin.CLOCK.slept) == 1
    assert plugin.CLOCK.now < 0.5
    assert len(plugin.SEEN) == 1


def test_node_over_its_time_is_stopped_at_its_next_step(run: Callable[..., object]) -> None:
    with pytest.raises(NodeError, match=r"step 3 of 1000 was done after 0\.06 s, but the node type allows 0\.05 s"):
        run("Limited")


def test_node_that_catches_the_end_of_its_time_fails_all_the_same(run: Callable[..., object]) -> None:
    with pytest.raises(NodeError, match=r"step \d+ of 1000 was done after"):
        run("Stubborn", steps=1000)
    assert run("Stubborn", steps=1) == 1


@pytest.mark.parametrize(("how", "beside"), [("cancelled", False), ("cancelled", True), ("interrupted", False)])
def test_what_a_node_returns_although_its_run_was_stopped_is_not_kept(
    make_engine: Callable[..., Engine], patient_plugins: Plugins, plugin: ModuleType, how: str, beside: bool
) -> None:
    """As nodes do that catch every error, or Ctrl-C, and return what they have so far."""
    engine = make_engine(plugins=patient_plugins)
    plugin.STOP.update(cancelled=engine.cancel, interrupted=lambda: signal.raise_signal(signal.SIGINT))
    workflow = Workflow("wf")
    workflow.output("out", workflow.add("Unstoppable", name="it", how=how))
    if beside:  # then nodes run in other threads than the main one
        workflow.output("beside", workflow.add("Stubborn", steps=1))
    result = engine.run(workflow, raise_errors=False)
    assert (result.status, type(result.error)) == ("cancelled", Cancelled)
    assert "Unstoppable" not in [record.type for record in engine.cache.entries()]
    plugin.STOP.update(cancelled=lambda: None, interrupted=lambda: None)
    assert engine.run(workflow)["out"] == "whole"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_memory_error_that_a_node_catches_is_not_noticed(
    make_engine: Callable[..., Engine], patient_plugins: Plugins, plugin: ModuleType
) -> None:
    engine, found = make_engine(plugins=patient_plugins), list[object]()

    def run_out() -> None:
        raise MemoryError

    for action in (run_out, lambda: None):
        plugin.STOP.update(memory=action)
        workflow = Workflow("wf")
        workflow.output("out", workflow.add("Unstoppable", name="it", how="memory"))
        found.append(engine.run(workflow)["out"])
    assert found == ["half", "half"]


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_node_within_its_time_is_not_stopped(run: Callable[..., object], steps: int) -> None:
    assert run("Limited", steps=steps) == steps  # the result of the last step is not thrown away


def test_each_attempt_has_its_own_time(run: Callable[..., object], events: list[Event]) -> None:
    assert run("Patient") == 2
    assert len(notices(events)) == 1
    assert [event.node for event in events if isinstance(event, NodeFinished)] == ["it"]


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"timeout": 0}, "its timeout is 0. Expected a positive number of seconds"),
        ({"timeout": float("inf")}, "its timeout is inf"),
        ({"timeout": "1"}, "its timeout is '1'"),
        ({"retries": -1}, "its retries are -1. Expected a whole number, at least 0"),
        ({"retries": 1.5}, "its retries are 1.5"),
    ],
)
def test_wrong_declarations_are_refused(declared: dict[str, float], message: str) -> None:
    def function(run: Run = Run()) -> int:
        return 1

    with pytest.raises(SignatureError, match=message):
        spec_of(node("Name", **declared)(function))  # type: ignore[arg-type]


def test_timeout_needs_a_run() -> None:
    def function() -> int:
        return 1

    with pytest.raises(SignatureError, match="no parameter of type Run"):
        spec_of(node("Name", timeout=1)(function))
