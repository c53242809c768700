"""The protocol of workers: tasks are plain data, and values reach workers that share no memory through the cache."""

from __future__ import annotations

import pickle
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from docs.package_diagram import imports
from nodegraph import Engine, NodeError, Workflow
from nodegraph.errors import CacheError, PluginError
from nodegraph.run.events import NodeStarted
from nodegraph.run.node.run_node import run_node
from nodegraph.run.tasks.maker import TaskMaker
from nodegraph.run.tasks.task import NodeTask, RegisteredInput, StoredInput
from tests.support.copying_workers import CopyingWorkers, use_copying_workers, with_both_workers, with_model


@pytest.fixture
def copying(engine: Engine) -> CopyingWorkers:
    """The workers of `engine`, which share no memory with it."""
    return use_copying_workers(engine)


def tasks_of(engine: Engine, workflow: Workflow, targets: list[Any], *, shares_memory: bool) -> list[NodeTask]:
    plan = engine.plan(workflow, targets=targets)
    maker = TaskMaker(plan, engine.cache, shares_memory=shares_memory)
    return [maker.task(name) for name in plan.names("run")]


def names(copying: CopyingWorkers) -> list[list[str]]:
    """The nodes of each task that ran."""
    return [[task.node for task in tasks] for tasks in copying.tasks]


# --- tasks are plain data


def every_kind_of_node(stubs: types.ModuleType, tmp_path: Path) -> tuple[Workflow, list[Any]]:
    """Literals, files, a registered thing, a value given in Python, links, a list with links, a model, an impure node."""
    workflow, (use,) = with_model(tmp_path, 1)
    number = workflow.add("Number", name="number", value=1.5)
    grown = workflow.add("Grow", name="grown", blob=stubs.Blob(b"given"), size=3)
    listed = workflow.add("Total", name="total", values=[number, 2.0], weights={"a": 1.0}, size=[3, 4])
    filtered = workflow.add("Filtered", name="filtered", text=use, filter="lower")
    odd = workflow.add("Anything", name="odd", value=[Path("x"), {"key": [1, None, True]}])
    below = workflow.add("Plus", name="below", a=workflow.add("Dice", name="dice"))
    return workflow, [grown, listed, filtered, odd, below]


@pytest.mark.parametrize("shares_memory", [True, False])
def test_tasks_survive_pickling(engine: Engine, stubs: types.ModuleType, tmp_path: Path, shares_memory: bool) -> None:
    workflow, targets = every_kind_of_node(stubs, tmp_path)
    tasks = tasks_of(engine, workflow, targets, shares_memory=shares_memory)
    assert len(tasks) == 9
    by_name = {task.node: task for task in tasks}
    for task in tasks:
        if task.node != "grown" or not shares_memory:  # with shared memory, it holds the value itself
            assert pickle.loads(pickle.dumps(task)) == task
    assert by_name["filtered"].inputs["filter"] == RegisteredInput(registry="filters", name="lower")
    assert isinstance(by_name["grown"].inputs["blob"], StoredInput) is not shares_memory
    assert (by_name["use0"].type, by_name["use0"].numeric) == ("Use", True)


def test_graph_with_every_kind_of_node_runs_the_same(
    make_engine: Callable[..., Engine], stubs: types.ModuleType, tmp_path: Path
) -> None:
    workflow, targets = every_kind_of_node(stubs, tmp_path)
    expected = make_engine(cache_dir=tmp_path / "threads").run(workflow, targets=targets)
    engine = make_engine(cache_dir=tmp_path / "copying")
    use_copying_workers(engine)
    stubs.CALLS.clear()
    result = engine.run(workflow, targets=targets)
    assert result.ran == expected.ran
    assert [result[target] for target in targets[:-2]] == [expected[target] for target in targets[:-2]]
    assert result.nodes["filtered"].key == expected.nodes["filtered"].key


def test_protocol_imports_no_scheduler() -> None:
    assert not {name for name in imports()["nodegraph.run.workers.protocol"] if name.endswith(("run_node", "jobs", "scheduler"))}


def test_worker_refuses_other_code(engine: Engine) -> None:
    workflow = Workflow("w")
    (task,) = tasks_of(engine, workflow, [workflow.add("Number", name="number")], shares_memory=True)
    context = engine._context(lambda event: None, None, lambda: False)  # type: ignore[arg-type]
    outcome = run_node(task._replace(code="stub_pack other"), context, None)  # type: ignore[arg-type]
    assert isinstance(outcome.error, PluginError)
    assert "expected stub_pack other, found stub_pack" in outcome.message
    unknown = run_node(task._replace(type="Unknown"), context, None)  # type: ignore[arg-type]
    assert "no node type 'Unknown'" in unknown.message


# --- values given in Python


def test_values_given_in_python_are_stored_only_for_other_processes(
    make_engine: Callable[..., Engine], stubs: types.ModuleType, tmp_path: Path
) -> None:
    workflow = Workflow("w")
    grown = workflow.add("Grow", name="grown", blob=stubs.Blob(b"a"), size=2)
    engine = make_engine(cache_dir=tmp_path / "threads")
    engine.run(workflow, targets=[grown])
    assert len(list(engine.cache.entries())) == 1
    engine = make_engine(cache_dir=tmp_path / "copying")
    copying = use_copying_workers(engine)
    assert engine.run(workflow, targets=[grown])[grown] == stubs.Blob(b"a", b"..")
    assert len(list(engine.cache.entries())) == 2
    assert names(copying) == [["grown"]]


def test_value_in_a_list_is_stored_too(engine: Engine, copying: CopyingWorkers, stubs: types.ModuleType) -> None:
    workflow = Workflow("w")
    listed = workflow.add("Anything", name="listed", value=[workflow.add("Number", name="number"), stubs.Blob(b"a")])
    size = workflow.add("Anything", name="size", value=listed)
    assert engine.run(workflow, targets=[size])[size] == [0.0, stubs.Blob(b"a")]


def test_value_without_codec_stays_in_this_process(engine: Engine, copying: CopyingWorkers, stubs: types.ModuleType) -> None:
    workflow = Workflow("w")
    model = stubs.Model("here")
    weights = workflow.add("Weights", name="weights", model=workflow.add("Anything", name="model", value=model))
    folded = workflow.add("Fold", name="folded", text=weights)
    assert engine.run(workflow, targets=[folded])[folded] == "here"
    assert names(copying) == [["folded"]]


# --- values without a codec


def test_nodes_that_share_a_model_are_one_task(
    engine: Engine, copying: CopyingWorkers, stubs: types.ModuleType, tmp_path: Path
) -> None:
    workflow, uses = with_model(tmp_path, 3)
    joined = workflow.add("Many", name="many", numbers=[1.0], text=uses[0])
    result = engine.run(workflow, targets=[*uses, joined])
    assert [result[use] for use in uses] == ["w0", "w1", "w2"]
    assert names(copying) == [["load", "use0", "use1", "use2"], ["many"]]
    assert stubs.CALLS == ["Load"]


def test_model_is_loaded_again_for_a_later_task(engine: Engine, copying: CopyingWorkers, tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("w")
    workflow = Workflow("w")
    model = workflow.add("Load", name="load", path=tmp_path / "weights").model
    first = workflow.add("Use", name="first", model=model)
    later = workflow.add("Use", name="later", model=model, text=workflow.add("Fold", name="folded", text=first))
    run = engine.start(workflow, targets=[later])
    assert run.result()[later] == "ww"
    assert names(copying) == [["load", "first"], ["folded"], ["load", "later"]]
    started = [event.node for event in run.events() if isinstance(event, NodeStarted)]
    assert started == ["load", "first", "folded", "later"]  # the second load is not reported
    assert engine.run(workflow, targets=[later]).cached == ("later",)


def test_value_without_codec_is_followed_through_nodes_of_any_type(engine: Engine, copying: CopyingWorkers, tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("w")
    workflow = Workflow("w")
    model = workflow.add("Load", name="load", path=tmp_path / "weights").model
    passed = workflow.add("Anything", name="passed", value=model)
    weights = workflow.add("Weights", name="weights", model=workflow.add("Anything", name="again", value=passed))
    assert engine.run(workflow, targets=[weights])[weights] == "w"
    assert names(copying)[-1] == ["load", "passed", "again", "weights"]


def test_output_without_codec_is_made_in_this_process(engine: Engine, copying: CopyingWorkers, tmp_path: Path) -> None:
    workflow, (use,) = with_model(tmp_path, 1)
    result = engine.run(workflow, targets=["load.model", use])
    assert (result["load.model"].weights, result[use]) == ("w", "w0")
    assert names(copying) == []


def test_impure_value_passes_through_the_cache(engine: Engine, copying: CopyingWorkers, stubs: types.ModuleType) -> None:
    workflow = Workflow("w")
    dice = workflow.add("Dice", name="dice")
    sums = [workflow.add("Plus", name=f"plus{i}", a=dice, b=float(i)) for i in range(2)]
    result = engine.run(workflow, targets=[*sums, dice])
    assert [result[total] - result[dice] for total in sums] == [0.0, 1.0]
    assert ["dice"] in names(copying)


def test_failed_node_stops_only_nodes_that_need_it(engine: Engine, copying: CopyingWorkers, tmp_path: Path) -> None:
    workflow, uses = with_model(tmp_path, 2)
    broken = workflow.add("BrokenModel", name="broken")
    below = [workflow.add("Describe", name=f"below{i}", model=broken, text=str(i)) for i in range(2)]
    result = engine.run(workflow, targets=[*uses, *below], keep_going=True, raise_errors=False)
    assert result.failed == ("broken",)
    assert [result.nodes[f"below{i}"].status for i in range(2)] == ["skipped"] * 2
    assert result[uses[1]] == "w1"
    with pytest.raises(NodeError, match="the weights are damaged"):
        engine.run(workflow, targets=below)


def test_value_that_turns_out_to_have_no_codec_is_an_error(engine: Engine, copying: CopyingWorkers) -> None:
    workflow = Workflow("w")
    below = workflow.add("CountItems", name="below", items=workflow.add("Objects", name="objects"))
    with pytest.raises(NodeError, match=r"its output 'output' \(list\) is not stored"):
        engine.run(workflow, targets=[below])


def test_workers_with_another_cache_directory_are_an_error(engine: Engine, tmp_path: Path) -> None:
    engine._staff = replace(engine._staff, workers=CopyingWorkers(engine.plugins, tmp_path / "other"))
    workflow = Workflow("w")
    plus = workflow.add("Plus", a=workflow.add("Number", value=1.0))
    with pytest.raises(CacheError, match="Give every worker the same cache directory"):
        engine.run(workflow, targets=[plus], out=tmp_path / "out")


@with_both_workers
def test_memory_alone_is_enough(make_engine: Callable[..., Engine], workers: str, tmp_path: Path) -> None:
    engine = make_engine(cache_dir=None)
    if workers == "copying":
        engine._staff = replace(engine._staff, workers=CopyingWorkers(engine.plugins, tmp_path))
    workflow = Workflow("w")
    plus = workflow.add("Plus", a=workflow.add("Number", value=1.0))
    assert engine.run(workflow, targets=[plus])[plus] == 2.0


# --- what a run asks of workers before its first node


def test_workers_learn_of_the_nodes_and_their_files_before_the_first_runs(
    engine: Engine, copying: CopyingWorkers, stubs: types.ModuleType, tmp_path: Path
) -> None:
    workflow, (use,) = with_model(tmp_path, 1)
    workflow.add("Filtered", name="filtered", text=use, filter="lower")
    engine.run(workflow, targets=["filtered"])
    assert [(demand.numeric, demand.model) for demand in copying.demands[0] if demand.model] == [(True, True)]
    (files,) = [demand.files for demand in copying.demands[0] if demand.model]
    assert files == {tmp_path / "weights": engine.digest(tmp_path / "weights")}
    engine.run(workflow, targets=["filtered"])
    assert copying.demands[1:] == [[]]  # all is in the cache


def test_no_node_runs_if_workers_cannot_run_one(
    engine: Engine, copying: CopyingWorkers, stubs: types.ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(demands: Any, cancel: Any) -> None:
        raise PluginError("other versions")

    monkeypatch.setattr(copying, "prepare", refuse)
    workflow, (use,) = with_model(tmp_path, 1)
    number = workflow.add("Number", name="number")
    with pytest.raises(PluginError, match="other versions"):
        engine.run(workflow, targets=[use, number])
    assert names(copying) == []
    assert stubs.CALLS == []
