"""Values that only memory holds, for a run that has found them: they stay until their last use, and no longer."""

from __future__ import annotations

import gc
import types
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

from nodegraph import Engine, Workflow
from nodegraph.cache.memory import MAX_RESULTS_WITHOUT_CODEC


@pytest.fixture
def engine(make_engine: Callable[..., Engine]) -> Engine:
    """An engine without a cache directory that keeps one blob of 60 bytes."""
    engine = make_engine(cache_dir=None, on_event=lambda event: None)
    engine.cache.memory._with_codec._limit = 100
    return engine


def test_value_that_was_found_stays_although_another_takes_its_room(engine: Engine) -> None:
    workflow = Workflow("w")
    first, second = (workflow.add("Bytes", name=name, text=name, size=60) for name in "ab")
    engine.run(workflow, targets=[first])
    both = workflow.add("CountItems", name="both", items=[first, second])
    result = engine.run(workflow, targets=[both])
    assert (result.cached, result.ran, result[both]) == (("a",), ("b", "both"), 2)


def test_model_that_was_found_stays_although_others_take_its_room(make_engine: Callable[..., Engine], tmp_path: Path) -> None:
    engine = make_engine()
    workflow = Workflow("w")
    paths = [tmp_path / f"weights {i}" for i in range(MAX_RESULTS_WITHOUT_CODEC + 1)]
    models = []
    for i, path in enumerate(paths):
        path.write_text(f"w{i}")
        models.append(workflow.add("Load", name=f"model{i}", path=str(path)).model)
    engine.run(workflow, targets=models[:1])
    count = workflow.add("CountItems", name="count", items=models)
    result = engine.run(workflow, targets=[count])
    assert (result.cached, result[count]) == (("model0",), len(models))


def test_value_that_was_found_is_freed_after_its_last_use(engine: Engine, stubs: types.ModuleType, tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("w")
    workflow = Workflow("w")
    model = workflow.add("Load", name="model", path=str(tmp_path / "weights")).model
    engine.run(workflow, targets=[model])
    text = workflow.add("Describe", name="text", model=model)
    last = workflow.add("NeedsAllMemory", name="last", text=text)
    gc.collect()
    result = engine.run(workflow, targets=[last])
    assert (result.cached, result.ran) == (("model",), ("text", "last"))


def test_plan_keeps_no_value(engine: Engine, stubs: types.ModuleType, tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("w")
    workflow = Workflow("w")
    model = workflow.add("Load", name="model", path=str(tmp_path / "weights")).model
    engine.run(workflow, targets=[model])
    plan = engine.plan(workflow, targets=[model])
    engine.close()
    gc.collect()
    assert plan.actions == {"model": "cached"}
    assert not stubs.MODELS


def test_a_reader_keeps_its_value_and_nothing_else_of_its_run(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(on_event=lambda event: None)
    workflow = Workflow("w")
    workflow.output("size", workflow.add("CountItems", name="count", items=[workflow.add("Bytes", text="a", size=60)]))
    result = engine.run(workflow)
    reader, graph = result.reader("size"), weakref.ref(result.graph)
    del result
    gc.collect()
    assert graph() is None
    assert reader() == 1
