"""Content keys: if an upstream result is equal, the nodes below are hits, in this process and the next."""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path

import pytest

from nodegraph import Engine, NodeError, Workflow


def described(text: str, weights: Path) -> Workflow:
    """A text is folded and described by a model, which has no codec."""
    workflow = Workflow("described")
    folded = workflow.add("Fold", name="folded", text=text)
    model = workflow.add("Load", name="model", path=str(weights))
    workflow.output("described", workflow.add("Describe", name="described", model=model.model, text=folded))
    return workflow


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_text("w")
    return path


def test_equal_resultrecomputes_nothing_below(make_engine: Callable[..., Engine], stubs: types.ModuleType, weights: Path) -> None:
    make_engine().run(described("A CAT", weights))
    stubs.CALLS.clear()
    result = make_engine().run(described("a cat", weights))
    assert stubs.CALLS == ["Fold"]
    assert (result.ran, result.cached, result.pruned) == (("folded",), ("described",), ("model",))
    assert result["described"] == "a cat by w"


def test_content_hit_is_direct_the_next_time(make_engine: Callable[..., Engine], stubs: types.ModuleType, weights: Path) -> None:
    make_engine().run(described("A CAT", weights))
    make_engine().run(described("a cat", weights))
    stubs.CALLS.clear()
    result = make_engine().run(described("a cat", weights))
    assert stubs.CALLS == []
    assert result.pruned == ("folded", "model")


def test_plan_uses_content_keys_without_running(make_engine: Callable[..., Engine], weights: Path, stubs: types.ModuleType) -> None:
    make_engine().run(described("A CAT", weights))
    make_engine().run(described("a cat", weights), targets=["folded"])
    plan = make_engine().plan(described("a cat", weights))
    assert plan.actions == {"folded": "pruned", "model": "pruned", "described": "cached"}


def test_changed_resultis_a_miss_below(make_engine: Callable[..., Engine], weights: Path) -> None:
    make_engine().run(described("a cat", weights))
    result = make_engine().run(described("a dog", weights))
    assert result.ran == ("folded", "model", "described")
    weights.write_text("v")
    result = make_engine().run(described("a dog", weights))
    assert (result.ran, result["described"]) == (("model", "described"), "a dog by v")


def test_rewritten_file_with_equal_content_is_a_hit(make_engine: Callable[..., Engine], weights: Path) -> None:
    make_engine().run(described("a cat", weights))
    other = weights.with_name("copy")
    other.write_text("w")
    assert make_engine().run(described("a cat", other)).ran == ()


@pytest.mark.parametrize("cache_dir", [None, "cache"])
def test_nodes_below_an_impure_node_are_keyed_by_value(
    make_engine: Callable[..., Engine], stubs: types.ModuleType, tmp_path: Path, cache_dir: str | None
) -> None:
    workflow = Workflow("w")
    dice = workflow.add("Dice", name="dice")
    workflow.output("sum", workflow.add("Plus", name="sum", a=dice))
    engine = make_engine(cache_dir=None if cache_dir is None else tmp_path / cache_dir)
    assert engine.run(workflow)["sum"] == 2
    stubs.CALLS.clear()  # the same number again
    result = engine.run(workflow)
    assert (result.ran, result.cached, result["sum"]) == (("dice",), ("sum",), 2)
    result = engine.run(workflow)  # another one
    assert result.ran == ("dice", "sum")


def test_forced_node_with_an_equal_value_stops_reruns(make_engine: Callable[..., Engine], weights: Path) -> None:
    make_engine().run(described("a cat", weights))
    result = make_engine().run(described("a cat", weights), force=["folded"])
    assert result.ran == ("folded", "model", "described")  # nodes below a forced node are also forced


def test_branches_run_in_parallel(engine: Engine) -> None:
    workflow = Workflow("w")
    workflow.output("one", workflow.add("Meet", name="one", who="a"))
    workflow.output("two", workflow.add("Meet", name="two", who="b"))
    result = engine.run(workflow)
    assert (result["one"], result["two"]) == ("a", "b")


def test_numeric_nodes_run_one_at_a_time(engine: Engine) -> None:
    workflow = Workflow("w")
    for i in range(12):
        workflow.output(f"o{i}", workflow.add("Alone", who=str(i)))
    assert engine.run(workflow).status == "done"


def two_branches() -> Workflow:
    workflow = Workflow("w")
    broken = workflow.add("Fails", name="broken")
    workflow.output("below", workflow.add("Plus", name="below", a=broken))
    last = workflow.add("Number", name="first", value=1.0)
    for i in range(5):
        last = workflow.add("Plus", name=f"step{i}", a=last)
    workflow.output("other", last)
    return workflow


def test_failure_stops_other_branches_unless_keep_going(make_engine: Callable[..., Engine]) -> None:
    stopped = make_engine(cache_dir=None).run(two_branches(), raise_errors=False)
    assert (stopped.status, stopped.failed) == ("failed", ("broken",))
    assert stopped.nodes["step4"].status == stopped.nodes["below"].status == "skipped"
    result = make_engine(cache_dir=None).run(two_branches(), raise_errors=False, keep_going=True)
    assert (result.status, result.failed) == ("failed", ("broken",))
    assert result.nodes["below"].status == "skipped"
    assert result["other"] == 6
    assert isinstance(result.error, NodeError)


def test_input_changed_in_place_is_the_nodes_own(engine: Engine) -> None:
    workflow = Workflow("w")
    blob = workflow.add("Make", name="blob")
    workflow.output("count", workflow.add("ChangeBlob", name="change", blob=blob))
    workflow.output("blob", blob)
    result = engine.run(workflow)
    before = Engine(None, plugins=engine.plugins).run(workflow, targets=[blob])["blob"]
    assert result["blob"] == before


def test_nondeterministic_node_gives_a_notice(make_engine: Callable[..., Engine], stubs: types.ModuleType) -> None:
    workflow = Workflow("w")
    workflow.output("n", workflow.add("NotPure", name="not_pure"))
    make_engine().run(workflow)
    result = make_engine().run(workflow, force=["not_pure"])
    assert "it is not deterministic: the same inputs gave another 'output' before" in result.notices[0].message
    stubs.CALLS.clear()
    stubs.CALLS.append("NotPure")  # the same as before
    assert make_engine().run(workflow, force=["not_pure"]).notices == ()
