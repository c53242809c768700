"""Running a plan: which nodes run, when values are freed, how nodes fail, and what remains afterwards."""

from __future__ import annotations

import gc
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nodegraph import Cancelled, Engine, NodeError, Workflow, WorkflowError
from nodegraph.cache.store.store import LostResultError
from nodegraph.node_types.port_types import fits
from nodegraph.plugins.manager import Plugins
from nodegraph.run.events import Event, NodeFailed, NodeFinished, NodeProgress, NodeStarted, Notice, RunFinished, RunStarted
from tests.support.copying_workers import with_both_workers


def workflow_of(type: str, **inputs: Any) -> Workflow:
    """A workflow with one node as its output."""
    workflow = Workflow("one")
    workflow.output("out", workflow.add(type, name="node", **inputs))
    return workflow


def kinds(events: list[Event]) -> list[str]:
    return [type(event).__name__ for event in events]


def diamond() -> Workflow:
    """number feeds left and right, which feed sum; no output needs aside."""
    workflow = Workflow("diamond")
    number = workflow.add("Number", name="number", value=1.0)
    left = workflow.add("Plus", name="left", a=number, b=1.0)
    right = workflow.add("Plus", name="right", a=number, b=2.0)
    workflow.output("sum", workflow.add("Plus", name="sum", a=left, b=right))
    workflow.add("Plus", name="aside", a=number)
    return workflow


# --- what runs


@with_both_workers
def test_only_needed_nodes_run_once(engine: Engine, stubs: types.ModuleType) -> None:
    result = engine.run(diamond())
    assert result.ran == ("number", "left", "right", "sum")
    assert result.pruned == ("aside",)
    assert result["sum"] == 5.0
    assert stubs.CALLS == ["Number", "Plus", "Plus", "Plus"]


@with_both_workers
def test_hit_prunes_everything_above(make_engine: Callable[..., Engine], stubs: types.ModuleType) -> None:
    make_engine().run(diamond())
    stubs.CALLS.clear()
    result = make_engine().run(diamond())
    assert (result.ran, result.cached, result.pruned) == ((), ("sum",), ("number", "left", "right", "aside"))
    assert result["sum"] == 5.0
    assert stubs.CALLS == []


@with_both_workers
def test_changed_value_reruns_only_dependent_nodes(make_engine: Callable[..., Engine]) -> None:
    make_engine().run(diamond())
    result = make_engine().run(diamond(), params={"right.b": 5.0})
    assert (result.ran, result.cached, result.pruned) == (("right", "sum"), ("number", "left"), ("aside",))
    assert result["sum"] == 8.0


@with_both_workers
def test_forced_node_and_nodes_below_run(engine: Engine) -> None:
    engine.run(diamond())
    result = engine.run(diamond(), force=["left"])
    assert (result.ran, result.cached, result.pruned) == (("left", "sum"), ("number", "right"), ("aside",))


def test_unknown_forced_node_gets_a_suggestion(engine: Engine) -> None:
    with pytest.raises(WorkflowError, match=r"force 'lfet'.*Did you mean 'left'"):
        engine.run(diamond(), force=["lfet"])


@with_both_workers
def test_partly_stored_node_reruns_only_for_lost_outputs(make_engine: Callable[..., Engine], tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("abc")
    workflow = Workflow("w")
    loaded = workflow.add("Load", name="loaded", path=str(tmp_path / "weights"))
    used = workflow.add("Weights", name="used", model=loaded.model)
    make_engine().run(workflow, targets=[used, loaded.size])
    assert make_engine().run(workflow, targets=[loaded.size]).cached == ("loaded",)
    assert make_engine().run(workflow, targets=[used]).cached == ("used",)  # and loads no model
    assert make_engine().run(workflow, targets=[loaded.model]).ran == ("loaded",)


@with_both_workers
def test_lists_collect_linked_values(engine: Engine) -> None:
    workflow = Workflow("w")
    numbers = [workflow.add("Number", value=float(i)) for i in range(3)]
    total = workflow.add("Total", values=[*numbers, 10.0])
    assert engine.run(workflow, targets=[total])[total] == 13.0


@pytest.mark.parametrize("count", [2_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_thousands_of_nodes_in_a_chain_run(make_engine: Callable[..., Engine], count: int) -> None:
    """There are more nodes than a function may call itself."""
    workflow = Workflow("chain")
    last = workflow.add("Number", name="first")
    for i in range(count - 1):
        last = workflow.add("Plus", name=f"n{i}", a=last)
    engine = make_engine(cache_dir=None)
    result = engine.run(workflow, targets=[last])
    assert result[last] == count - 1
    assert len(result.ran) == count
    again = engine.run(workflow, targets=[last])
    assert (len(again.cached), len(again.pruned), again[last]) == (1, count - 1, count - 1)


@with_both_workers
def test_impure_node_runs_every_time(engine: Engine, events: list[Event]) -> None:
    workflow = Workflow("w")
    below = workflow.add("Plus", name="below", a=workflow.add("Dice", name="dice"))
    first, second = (engine.run(workflow, targets=[below]) for _ in range(2))
    assert first.ran == second.ran == ("dice", "below")
    assert first[below] != second[below]
    assert first.nodes["dice"].key is None
    assert not first.notices  # its type is declared so: no notice


@with_both_workers
def test_node_without_a_key_runs_with_a_notice(engine: Engine) -> None:
    workflow = Workflow("w")
    odd = workflow.add("Anything", name="odd", value=[Path("x")])
    below = workflow.add("Anything", name="below", value=odd)
    result = engine.run(workflow, targets=[below])
    assert engine.run(workflow, targets=[below]).ran == ("odd", "below")
    assert [notice.node for notice in result.notices] == ["odd"]
    assert "no canonical form" in result.notices[0].message


# --- values


def test_value_is_freed_after_its_last_use(engine: Engine, stubs: types.ModuleType) -> None:
    workflow = Workflow("w")
    last = workflow.add("Make")
    for i in range(20):
        last = workflow.add("Grow", name=f"n{i}", blob=last, size=i)
    gc.collect()
    before = len(stubs.ALIVE)
    engine.run(workflow, targets=[last])
    assert max(stubs.MOST_ALIVE) - before <= 1  # its own input


def test_lost_value_is_recomputed(make_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    make_engine().run(diamond())
    engine = make_engine()
    snapshot = engine.cache.snapshot
    lost: list[str] = []

    def load_once_too_late(key: str, port: str) -> Any:
        if not lost:
            lost.append(key)
            assert engine.cache.store is not None
            engine.cache.store.upkeep.clear()
        return snapshot(key, port)

    monkeypatch.setattr(engine.cache, "snapshot", load_once_too_late)
    result = engine.run(diamond(), params={"right.b": 5.0})
    assert result["sum"] == 8.0
    assert set(result.ran) == {"number", "left", "right", "sum"}


@with_both_workers
def test_result_holds_values_that_are_not_stored(engine: Engine, make_engine: Callable[..., Engine], tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("abc")
    loaded = engine.run(workflow_of("Load", path=str(tmp_path / "weights")), targets=["node.model", "node.size"])
    assert loaded["node.model"].weights == "abc"
    assert loaded["node.size"] == 3
    memory = make_engine(cache_dir=None).run(diamond())
    assert memory["sum"] == 5.0
    assert memory["left"] == 2.0
    with pytest.raises(KeyError, match=r"pruned.*targets"):
        memory["aside"]
    with pytest.raises(KeyError, match="no value 'nothing'"):
        memory["nothing"]


def test_value_removed_after_the_run_is_an_error(engine: Engine) -> None:
    result = engine.run(diamond())
    engine.cache.clear()
    with pytest.raises(Exception, match=r"not in the cache.*targets") as caught:
        result["left"]
    assert isinstance(caught.value.__cause__, LostResultError)


def test_model_stays_loaded_until_its_file_changes(engine: Engine, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    workflow = workflow_of("Load", path=str(weights))

    def model() -> Any:
        return engine.run(workflow, targets=["node.model"], force=["node"])["node.model"]

    weights.write_text("one")
    first = model()
    assert model() is first
    weights.write_text("two")
    assert model().weights == "two"


# --- events


def test_events_are_in_order(engine: Engine, events: list[Event]) -> None:
    engine.run(workflow_of("Steps", n=2))
    assert kinds(events) == ["RunStarted", "NodeStarted", "NodeProgress", "NodeProgress", "NodeFinished", "RunFinished"]
    started, finished = events[0], events[-1]
    assert isinstance(started, RunStarted)
    assert started.plan.actions == {"node": "run"}
    progress = [event for event in events if isinstance(event, NodeProgress)]
    assert [(event.node, event.step, event.steps) for event in progress] == [("node", 1, 2), ("node", 2, 2)]
    assert [event.preview and event.preview() for event in progress] == [0, 1]
    assert isinstance(finished, RunFinished)
    assert finished.status == "done"
    events.clear()
    engine.run(workflow_of("Steps", n=2))
    assert kinds(events) == ["RunStarted", "NodeCached", "RunFinished"]


def test_failing_event_hook_is_a_warning(make_engine: Callable[..., Engine], plugins: Plugins) -> None:
    from nodegraph.plugins.hookspecs import hookimpl

    heard: list[Event] = []

    class Listener:
        @hookimpl
        def on_event(self, event: Event) -> None:
            heard.append(event)
            if isinstance(event, NodeStarted):
                raise RuntimeError("broken bar")

    listener = Listener()
    plugins.manager.register(listener)
    try:
        with pytest.warns(RuntimeWarning, match="broken bar"):
            make_engine(on_event=None).run(workflow_of("Number"))
    finally:
        plugins.manager.unregister(listener)
    assert kinds(heard) == ["RunStarted", "NodeStarted", "NodeFinished", "RunFinished"]


@with_both_workers
def test_cached_notice_is_sent_again(make_engine: Callable[..., Engine]) -> None:
    for _ in range(2):
        result = make_engine().run(workflow_of("Noticed", text="edges"))
        assert result.notices == (Notice("node", "about edges"),)
    assert result.cached == ("node",)


# --- failures


@with_both_workers
def test_node_errors_show_node_and_location(engine: Engine, events: list[Event]) -> None:
    with pytest.raises(NodeError) as caught:
        engine.run(workflow_of("Fails", how="value"))
    error = caught.value
    assert (error.node, error.type, error.exit_status) == ("node", "Fails", 1)
    assert "node 'node' (Fails) failed: the picture has no pixels. Give another" in str(error)
    assert "test_scheduler.py" in str(error)
    assert isinstance(error.__cause__, ValueError)
    assert [event.error for event in events if isinstance(event, NodeFailed)] == [error]
    assert kinds(events)[-2:] == ["NodeFailed", "RunFinished"]


@with_both_workers
def test_unexpected_error_names_line_and_plugin(engine: Engine) -> None:
    with pytest.raises(NodeError, match=r"KeyError: 'surprise' \(.*faulty_nodes\.py:\d+\).*plugin 'stub_pack'"):
        engine.run(workflow_of("Fails", how="key"))


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "in a thread"])
def test_system_exit_fails_the_node(engine: Engine, beside: bool) -> None:
    workflow = workflow_of("Fails", how="exit")
    if beside:
        for i in range(3):
            workflow.output(f"other{i}", workflow.add("Number", value=i))
    with pytest.raises(NodeError, match=r"SystemExit: 3 .* this is a mistake in plugin 'stub_pack'"):
        engine.run(workflow)


def test_interrupt_in_a_thread_does_not_hang_the_run(engine: Engine) -> None:
    workflow = workflow_of("Fails", how="interrupt")
    for i in range(3):
        workflow.output(f"other{i}", workflow.add("Number", value=i))
    with pytest.raises(NodeError, match="KeyboardInterrupt"):
        engine.run(workflow)


@with_both_workers
def test_nodes_with_the_same_model_run_together(make_engine: Callable[..., Engine], tmp_path: Path, events: list[Event]) -> None:
    workflow = Workflow("two models")
    models = []
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
        models.append(workflow.add("Load", name=f"load_{name}", path=tmp_path / name))
    for i in range(3):
        for name, model in zip("ab", models, strict=True):
            workflow.output(f"{name}{i}", workflow.add("Use", name=f"{name}{i}", model=model.model, text=str(i)))
    make_engine().run(workflow)
    order = [event.node[0] for event in events if isinstance(event, NodeStarted) and not event.node.startswith("load")]
    assert "".join(order) in ("aaabbb", "bbbaaa")


@with_both_workers
def test_failure_keeps_only_finished_results(engine: Engine) -> None:
    workflow = diamond()
    workflow.output("broken", workflow.add("Fails", name="fails", value=workflow.add("Number", name="other")))
    workflow.add("Plus", name="after", a=1.0)
    workflow.output("after", workflow.add("Plus", name="last", a=1.0))
    first = engine.run(workflow, raise_errors=False)
    assert isinstance(first.error, NodeError)
    assert (first.status, first.failed) == ("failed", ("fails",))
    second = engine.run(workflow, raise_errors=False)
    assert second.failed == ("fails",)
    assert set(first.ran) & set(second.nodes) <= set(second.cached) | set(second.pruned)


@pytest.mark.parametrize(
    ("type", "message"),
    [
        ("WrongType", "expected int as 'output', it returned text"),
        ("TooFewOutputs", r"expected 2 outputs \(model, size\), it returned a tuple of 1"),
        ("NaN", "'output': it holds NaN"),
    ],
)
@with_both_workers
def test_wrong_output_fails_the_node(engine: Engine, type: str, message: str) -> None:
    workflow = Workflow("w")
    node = workflow.add(type, name="node")
    target = "node.size" if type == "TooFewOutputs" else node
    for _ in range(2):
        with pytest.raises(NodeError, match=message):
            engine.run(workflow, targets=[target])
    assert list(engine.cache.entries()) == []


@with_both_workers
def test_node_out_of_memory_is_retried_once(
    engine: Engine, stubs: types.ModuleType, plugins: Plugins, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    freed: list[bool] = []
    monkeypatch.setattr(plugins.backend, "free_memory", lambda: freed.append(True))
    assert engine.run(workflow_of("OutOfMemoryOnce"))["out"] == "done"
    assert freed == [True]
    assert stubs.CALLS == ["OutOfMemoryOnce", "OutOfMemoryOnce"]
    assert [event.message for event in events if isinstance(event, Notice)][1].startswith("memory ran out")
    with pytest.raises(NodeError, match="memory ran out, twice"):
        engine.run(workflow_of("Fails", how="memory"))


@with_both_workers
def test_node_out_of_memory_is_retried_with_unchanged_inputs(engine: Engine) -> None:
    workflow = Workflow("w")
    workflow.output("out", workflow.add("SortThenOutOfMemory", name="node", numbers=[5, 4]))
    assert engine.run(workflow)["out"] == [2, 4, 5]


@with_both_workers
def test_cancelling_stops_at_a_step_and_keeps_results(
    make_engine: Callable[..., Engine], stubs: types.ModuleType, events: list[Event]
) -> None:
    workflow = Workflow("w")
    number = workflow.add("Number", name="number", value=4.0)
    steps = workflow.add("Steps", name="steps", value=number, n=10**9)
    engine = make_engine()

    def cancel() -> None:
        stubs.STARTED.wait(120)
        engine.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    result = engine.run(workflow, targets=[steps], raise_errors=False)
    thread.join()
    assert isinstance(result.error, Cancelled)
    assert (result.status, result.error.exit_status) == ("cancelled", 130)
    assert (result.ran, result.nodes["steps"].status) == (("number",), "skipped")
    assert kinds(events)[-1] == "RunFinished"
    again = make_engine().run(workflow, targets=[steps], params={"steps.n": 1})
    assert (again.cached, again.ran) == (("number",), ("steps",))


def test_interrupt_cancels_the_run(engine: Engine) -> None:
    with pytest.raises(Cancelled):
        engine.run(workflow_of("Fails", how="interrupt"))
    assert engine.run(workflow_of("Number"))["out"] == 0.0


# --- types


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (int, 1, True),
        (int, True, False),
        (int, 1.0, False),
        (float, 1, True),
        (float, True, False),
        (bool, True, True),
        (str, None, False),
        (str | None, None, True),
        (int | str, "a", True),
        (int | str, 1.5, False),
        (list[int], [1, 2], True),
        (list[int], [1, "a"], False),
        (list, ["a"], True),
        (dict[str, int], {}, True),
        (Any, None, True),
        (object, 1, True),
    ],
)
def test_values_fit_their_types(kind: Any, value: Any, expected: bool) -> None:
    assert fits(kind, value) is expected


@with_both_workers
def test_finished_nodes_report_seconds(engine: Engine, events: list[Event]) -> None:
    result = engine.run(workflow_of("Number"))
    (finished,) = [event for event in events if isinstance(event, NodeFinished)]
    assert result.nodes["node"].seconds == finished.seconds > 0
