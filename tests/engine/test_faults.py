"""Nodes that break the rules fail, store nothing, and do not hang the run."""

from __future__ import annotations

import gc
import threading
import time
import tracemalloc
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nodegraph import Cancelled, Engine, NodeError, Workflow
from nodegraph.plugins.manager import Plugins, load_plugins
from nodegraph.run.events import Event, NodeFinished, NodeStarted
from nodegraph.run.workers.threads import MAX_THREADS
from tests.support.copying_workers import with_both_workers
from tests.support.plugin_folders import STUB_PLUGINS


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    plugins = load_plugins([STUB_PLUGINS])
    plugins.backend = plugins.manager.get_plugin("stub_pack").FaultyBackend()
    return plugins


@pytest.fixture
def stubs(plugins: Plugins) -> types.ModuleType:
    module = plugins.manager.get_plugin("stub_pack")
    assert isinstance(module, types.ModuleType)
    module.GO.clear()
    module.STARTED.clear()
    gc.collect()
    return module


def beside(workflow: Workflow, count: int = 3) -> Workflow:
    """The workflow, with nodes that make the run use its threads."""
    for i in range(count):
        workflow.output(f"other{i}", workflow.add("Number", name=f"other{i}", value=float(i)))
    return workflow


def one(type: str, **inputs: Any) -> Workflow:
    """A workflow with one node as its output."""
    workflow = Workflow("one")
    workflow.output("out", workflow.add(type, name="node", **inputs))
    return workflow


def stored(engine: Engine) -> set[str]:
    return {record.node for record in engine.cache.entries()}


# --- forbidden outputs, and forbidden changes of inputs


@pytest.mark.parametrize("how", ["inf", "-inf", "nan", "list", "mapping"])
def test_value_outside_json_fails_the_node(engine: Engine, how: str) -> None:
    with pytest.raises(NodeError, match="'output': it cannot be written as JSON"):
        engine.run(one("NotJson", how=how))
    assert stored(engine) == set()


def test_nan_in_a_list_fails_the_node(engine: Engine) -> None:
    workflow = Workflow("w")
    good, bad = (workflow.add("Several", name=name, texts=texts) for name, texts in (("good", ["a"]), ("bad", ["a", "nan"])))
    assert engine.run(workflow, targets=[good]).ran == ("good",)
    before = stored(engine)
    assert before
    with pytest.raises(NodeError, match="'output': item 1: it holds NaN"):
        engine.run(workflow, targets=[bad])
    assert stored(engine) == before


@pytest.mark.parametrize(("type", "port", "value"), [("ChangeList", "numbers", [1.0]), ("ChangeMapping", "table", [{"a": 1}])])
@pytest.mark.parametrize("linked", [False, True])
def test_list_changed_in_place_is_the_nodes_own(engine: Engine, type: str, port: str, value: Any, linked: bool) -> None:
    workflow = Workflow("w")
    read = workflow.add("Anything", name="made", value=value) if linked and type == "ChangeMapping" else value
    for name in ("one", "two"):
        workflow.output(name, workflow.add(type, name=name, **{port: read}))
    result = engine.run(workflow)
    assert result["one"] == result["two"]
    assert value in ([1.0], [{"a": 1}])


def test_list_item_changed_in_place_is_the_nodes_own(engine: Engine) -> None:
    workflow = Workflow("w")
    made = [workflow.add("Bytes", name=name, text=name) for name in ("a", "b")]
    for name in ("one", "two"):
        workflow.output(name, workflow.add("ChangeListItem", name=name, blobs=made))
    result = engine.run(workflow)
    assert result["one"] == result["two"]
    assert stored(engine) in ({"a", "b", "one"}, {"a", "b", "two"})  # one key: the last one that ran


# --- exceptions


@with_both_workers
@pytest.mark.parametrize("kind", ["generator", "base"])
@pytest.mark.parametrize("threads", [False, True])
def test_any_exception_fails_the_node(engine: Engine, kind: str, threads: bool) -> None:
    workflow = one("Fails", how=kind)
    result = engine.run(beside(workflow) if threads else workflow, raise_errors=False, keep_going=True)
    assert isinstance(result.error, NodeError)
    assert result.failed == ("node",)
    assert len(result.ran) == (3 if threads else 0)


@with_both_workers
@pytest.mark.parametrize("threads", [False, True])
def test_run_ends_even_if_an_error_has_no_message(engine: Engine, threads: bool) -> None:
    workflow = one("Fails", how="no message")
    before = threading.active_count()
    with pytest.raises(RuntimeError, match="no words"):
        engine.run(beside(workflow) if threads else workflow)
    assert threading.active_count() == before


def test_failing_out_of_memory_hook_fails_the_node(engine: Engine) -> None:
    with pytest.raises(NodeError, match=r"LookupError: the device is gone \(.*faulty_nodes\.py:\d+\).* plugin 'stub_pack'"):
        engine.run(beside(one("DeviceError")))


def test_error_in_a_choice_names_its_plugin(engine: Engine) -> None:
    with pytest.raises(NodeError, match=r"KeyError: 'hey' \(.*faulty_nodes\.py:\d+\)\. .* mistake in plugin 'stub_pack'"):
        engine.run(one("Filtered", text="hey", filter="broken"))


def test_every_failed_node_is_reported(engine: Engine) -> None:
    workflow = Workflow("w")
    for how in ("value", "key"):
        workflow.output(how, workflow.add("Fails", name=how, how=how))
    result = engine.run(beside(workflow), raise_errors=False, keep_going=True)
    assert set(result.failed) == {"value", "key"}
    assert "no pixels" in str(result.nodes["value"].error)
    assert "surprise" in str(result.nodes["key"].error)
    assert str(result.error) in {result.nodes[name].error for name in result.failed}
    assert stored(engine) == {"other0", "other1", "other2"}


def test_out_of_memory_frees_everything_before_the_retry(
    make_engine: Callable[..., Engine], stubs: types.ModuleType, tmp_path: Path
) -> None:
    engine = make_engine(cache_dir=None)
    workflow = Workflow("held")
    (tmp_path / "weights").write_text("abc")
    workflow.add("Load", name="loaded", path=str(tmp_path / "weights"))
    gc.collect()
    before = len(stubs.MODELS)
    engine.run(workflow, targets=["loaded.size"])
    assert len(stubs.MODELS) == before + 1
    assert engine.run(one("NeedsAllMemory", text="fits"))["out"] == "fits"


# --- stopping


def test_nodes_that_finish_while_stopping_are_kept(
    make_engine: Callable[..., Engine], stubs: types.ModuleType, events: list[Event]
) -> None:
    workflow = Workflow("w")
    workflow.output("endless", workflow.add("Endless", name="endless"))
    workflow.output("wait", workflow.add("WaitForGo", name="wait", text="a"))
    workflow.output("after", workflow.add("Fold", name="after", text=workflow.add("WaitForGo", name="other", text="b")))
    engine = make_engine()

    def stop() -> None:
        while sum(isinstance(event, NodeStarted) for event in tuple(events)) < 3:
            time.sleep(0.001)
        engine.cancel()
        stubs.GO.set()

    thread = threading.Thread(target=stop)
    thread.start()
    result = engine.run(workflow, raise_errors=False)
    thread.join()
    assert isinstance(result.error, Cancelled)
    assert {name: report.status for name, report in result.nodes.items()} == {
        "endless": "skipped",
        "wait": "ran",
        "other": "ran",
        "after": "skipped",
    }
    assert make_engine().run(workflow, targets=["wait"]).cached == ("wait",)


def test_stopped_run_starts_no_node(make_engine: Callable[..., Engine]) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, NodeFinished) and event.node == "n1":
            engine.cancel()

    workflow = Workflow("w")
    last = workflow.add("Number", name="n0")
    for i in range(1, 5):
        last = workflow.add("Plus", name=f"n{i}", a=last)
    engine = make_engine(on_event=stop)
    result = engine.run(workflow, targets=[last], raise_errors=False)
    assert (result.status, result.ran) == ("cancelled", ("n0", "n1"))
    assert make_engine().run(workflow, targets=[last]).cached == ("n1",)


# --- memory


def chains(length: int, count: int, size: int) -> Workflow:
    """`count` chains of `length` nodes, each of which returns a new value of `size` bytes."""
    workflow = Workflow("chains")
    for c in range(count):
        last = workflow.add("Bytes", name=f"c{c}", text="abc"[c], size=size)
        for i in range(length):
            last = workflow.add("Next", name=f"c{c}n{i}", blob=last, i=7 * i + c)
        workflow.output(f"end{c}", last)
    return workflow


@pytest.mark.parametrize("count", [1, pytest.param(2, marks=pytest.mark.slow)], ids=["one chain", "two in threads"])
def test_chain_of_large_values_uses_constant_memory(
    make_engine: Callable[..., Engine], stubs: types.ModuleType, count: int, tmp_path: Path
) -> None:
    def peak(length: int, count: int) -> int:
        engine = make_engine(cache_dir=tmp_path / str(length), on_event=None)
        workflow = chains(length, count, 1 << 20)
        engine.check(workflow)
        tracemalloc.start()
        try:
            result = engine.run(workflow)
            assert len(result.ran) == (length + 1) * count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    short = peak(4, 1)
    assert short > 1 << 20
    late = MAX_THREADS if count > 1 else 0  # a thread that is interrupted frees what it has handed on only when it continues
    assert peak(24, count) < count * short + (2 + late << 20)
