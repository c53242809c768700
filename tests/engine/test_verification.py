"""`verify`: a share of the cached results is computed again, and one that differs is replaced."""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nodegraph import Engine, Workflow
from nodegraph.errors import SettingsError
from nodegraph.plugins.manager import Plugins
from nodegraph.run import verification
from nodegraph.run.events import Event, NodeFinished, Notice
from nodegraph.run.record import read_runs
from nodegraph.run.verification import draw
from nodegraph.settings import VERIFY_VARIABLE
from tests.support.copying_workers import with_both_workers
from tests.support.wrong_results import spoil

MakeEngine = Callable[..., Engine]


def chain(*below: str) -> Workflow:
    """number -> one -> two, and the texts of `below` under `two`."""
    workflow = Workflow("chain")
    number = workflow.add("Number", name="number", value=1.0)
    one = workflow.add("Plus", name="one", a=number)
    two = workflow.add("Plus", name="two", a=one)
    workflow.output("two", two)
    for text in below:
        workflow.output(text, workflow.add("Many", name=text, numbers=[two], text=text))
    return workflow


def draw_only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(verification, "draw", lambda graph, share: frozenset(names))


@with_both_workers
def test_every_cached_result_is_verified(make_engine: MakeEngine, stubs: types.ModuleType, events: list[Event]) -> None:
    make_engine().run(chain())
    stubs.CALLS.clear()
    events.clear()
    result = make_engine().run(chain(), verify=1)
    assert result.verified == ("number", "one", "two")
    assert (result.ran, result.cached, result.pruned, result.differed) == ((), (), (), ())
    assert result.status == "done"
    assert result["two"] == 3.0
    assert stubs.CALLS == ["Number", "Plus", "Plus"]
    assert {event.status for event in events if isinstance(event, NodeFinished)} == {"verified"}
    assert make_engine().run(chain()).cached == ("two",)


def test_nothing_is_verified_by_default(make_engine: MakeEngine) -> None:
    make_engine().run(chain())
    assert make_engine().run(chain()).cached == ("two",)
    assert make_engine().run(chain(), verify=0).cached == ("two",)


@with_both_workers
def test_wrong_result_is_replaced_and_described(make_engine: MakeEngine, tmp_path: Path, events: list[Event]) -> None:
    make_engine().run(chain())
    wrong = spoil(tmp_path / "cache", "two", 99.0, created=0.0)
    assert make_engine().run(chain())["two"] == 99.0
    result = make_engine().run(chain(), verify=1)
    assert result["two"] == 3.0
    assert (result.status, result.error) == ("done", None)
    assert (result.differed, result.verified) == (("two",), ("number", "one"))
    found = result.nodes["two"].wrong
    assert found is not None
    assert (found.node, found.type, found.key, found.created) == ("two", "Plus", wrong.key, 0.0)
    assert found.stored == {"output": wrong.outputs["output"].digest}
    assert found.same_machine
    (notice,) = [event for event in events if isinstance(event, Notice)]
    assert notice.message == str(found)
    assert "the stored result of node 'two' (Plus) was wrong: 'output' was " in notice.message
    assert "by chain/two, by stub_pack " in notice.message
    assert f"under key {wrong.key[:16]}. It is in quarantine" in notice.message
    quarantined = {path.name for path in (tmp_path / "cache" / "quarantine").iterdir()}
    assert quarantined == {f"{wrong.key}.json", wrong.outputs["output"].blob}
    events.clear()
    again = make_engine().run(chain(), verify=1)
    assert (again.verified, again.differed, again["two"]) == (("number", "one", "two"), (), 3.0)
    assert not [event for event in events if isinstance(event, Notice)]


@with_both_workers
def test_what_was_computed_from_a_wrong_result_is_not_found_again(make_engine: MakeEngine, tmp_path: Path) -> None:
    """Not only below it in this workflow, but also in another one, whose static keys led to results made from the wrong one."""
    make_engine().run(chain(), targets=["one"])
    spoil(tmp_path / "cache", "one", 50.0)
    assert make_engine().run(chain("x", "y"))["x"] == "x [51.0]"
    assert make_engine().run(chain("x"))["x"] == "x [51.0]"
    result = make_engine().run(chain("x"), targets=["x"], verify=1)
    assert result.differed == ("one",)
    assert result.ran == ("two", "x")
    assert result["x"] == "x [3.0]"
    after = make_engine().run(chain("x", "y"))
    assert (after["x"], after["y"]) == ("x [3.0]", "y [3.0]")
    assert after.ran == ("y",)


def test_wrong_result_leaves_other_results_with_the_same_value(make_engine: MakeEngine, tmp_path: Path) -> None:
    workflow = Workflow("two alike")
    for name, value in (("a", 1.0), ("b", 2.0)):
        workflow.output(name, workflow.add("Number", name=name, value=value))
    make_engine().run(workflow)
    spoil(tmp_path / "cache", "a", 2.0)  # the value of b, in the same file
    result = make_engine().run(workflow, verify=1)
    assert (result.differed, result.verified) == (("a",), ("b",))
    assert make_engine().run(workflow).cached == ("a", "b")


@pytest.mark.parametrize("cache", [None, "cache"])
def test_running_engine_forgets_a_wrong_result(make_engine: MakeEngine, tmp_path: Path, cache: str | None) -> None:
    engine = make_engine(cache_dir=None if cache is None else tmp_path / cache)
    workflow = Workflow("w")
    workflow.output("value", workflow.add("NotPure", name="value"))
    assert engine.run(workflow)["value"] == 1
    assert engine.run(workflow)["value"] == 1
    result = engine.run(workflow, verify=1)
    assert (result.differed, result["value"]) == (("value",), 2)
    assert "the node is not deterministic, and its plugin should declare @node(..., pure=False)" in result.notices[0].message
    again = engine.run(workflow)
    assert (again.cached, again["value"]) == (("value",), 2)


def test_node_below_a_drawn_one_is_cached(make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    make_engine().run(chain("x"))
    draw_only(monkeypatch, "one")
    result = make_engine().run(chain("x"), verify=0.5)
    assert result.verified == ("one",)
    assert result.cached == ("number", "two", "x")


def test_node_above_a_drawn_one_is_pruned_if_the_inputs_are_known(make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    make_engine().run(chain("x"))
    draw_only(monkeypatch, "x")
    result = make_engine().run(chain("x"), targets=["x"], verify=0.5)
    assert (result.verified, result.cached, result.pruned) == (("x",), ("two",), ("number", "one"))


def test_each_node_is_drawn_with_the_probability(engine: Engine) -> None:
    workflow = Workflow("many")
    for i in range(1000):
        workflow.output(f"o{i}", workflow.add("Number", name=f"n{i}"))
    names = engine.check(workflow).nodes
    assert draw(names, 0) == frozenset()
    assert draw(names, 1) == names.keys()
    assert 200 < len(draw(names, 0.3)) < 400
    assert draw(names, 0.3) != draw(names, 0.3)


@with_both_workers
def test_models_run_again_only_for_what_needs_them(make_engine: MakeEngine, tmp_path: Path, stubs: types.ModuleType) -> None:
    (tmp_path / "weights").write_text("heavy")
    workflow = Workflow("w")
    model = workflow.add("Load", name="model", path=tmp_path / "weights")
    workflow.output("used", workflow.add("Describe", name="used", model=model.model, text="it"))
    make_engine().run(workflow)
    result = make_engine().run(workflow, verify=1)
    assert (result.ran, result.verified) == (("model",), ("used",))


def test_wrong_output_beside_a_model_is_found(make_engine: MakeEngine, tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("heavy")
    workflow = Workflow("w")
    loaded = workflow.add("Load", name="loaded", path=tmp_path / "weights")
    workflow.output("size", loaded.size)
    make_engine().run(workflow)
    spoil(tmp_path / "cache", "loaded", 7, port="size")
    result = make_engine().run(workflow, verify=1)
    assert (result.differed, result["size"]) == (("loaded",), 5)


def test_numeric_result_of_another_kind_of_machine_is_not_checked(make_engine: MakeEngine, tmp_path: Path) -> None:
    workflow = Workflow("w")
    workflow.output("numeric", workflow.add("Numeric", name="numeric"))
    workflow.output("plain", workflow.add("Fold", name="plain", text="A"))
    make_engine().run(workflow)
    spoil(tmp_path / "cache", "numeric", "rounded", machine="another")
    spoil(tmp_path / "cache", "plain", "wrong", machine="another")
    result = make_engine().run(workflow, verify=1)
    assert (result.cached, result.differed) == (("numeric",), ("plain",))
    assert (result["numeric"], result["plain"]) == ("rounded", "a")
    wrong, unchecked = (notice.message for notice in result.notices)
    assert "and another kind of machine (another)" in wrong
    assert unchecked.startswith("not verified: numeric. Another kind of machine")


def test_impure_nodes_are_not_cached_and_so_not_verified(make_engine: MakeEngine) -> None:
    workflow = Workflow("w")
    dice = workflow.add("Dice", name="dice")
    workflow.output("sum", workflow.add("Plus", name="sum", a=dice))
    make_engine().run(workflow)
    assert make_engine().run(workflow, verify=1).ran == ("dice", "sum")


def test_forced_nodes_run_and_are_not_compared(make_engine: MakeEngine, tmp_path: Path) -> None:
    make_engine().run(chain())
    spoil(tmp_path / "cache", "one", 50.0)
    result = make_engine().run(chain(), force=["one"], verify=1)
    assert (result.verified, result.ran, result.differed) == (("number",), ("one", "two"), ())
    assert make_engine().run(chain(), verify=1).verified == ("number", "one", "two")


def test_cancelled_run_keeps_what_it_verified(make_engine: MakeEngine, tmp_path: Path, stubs: types.ModuleType) -> None:
    workflow = Workflow("w")
    first = workflow.add("Number", name="first", value=1.0)
    stubs.GO.set()
    wait = workflow.add("Wait", name="wait", text="slow", after=first)
    workflow.output("last", wait)
    try:
        make_engine().run(workflow)
        spoil(tmp_path / "cache", "first", 9.0)
        stubs.GO.clear()
        engine = make_engine()
        run = engine.start(workflow, verify=1, raise_errors=False)
        next(event for event in run.events() if isinstance(event, NodeFinished))
        run.cancel()
        result = run.result()
    finally:
        stubs.GO.clear()
    assert (result.status, result.differed) == ("cancelled", ("first",))
    assert make_engine().run(workflow, targets=["first"])["first"] == 1.0


def test_run_record_says_what_was_wrong(make_engine: MakeEngine, tmp_path: Path) -> None:
    make_engine().run(chain())
    wrong = spoil(tmp_path / "cache", "two", 99.0)
    make_engine().run(chain(), verify=1)
    record = next(read_runs(tmp_path / "cache" / "runs"))
    assert record["status"] == "done"
    assert record["nodes"]["one"]["status"] == "verified"
    assert record["nodes"]["two"]["status"] == "differed"
    assert record["nodes"]["two"]["wrong"]["key"] == wrong.key
    assert "wrong" not in record["nodes"]["one"]


def test_environment_sets_the_share(make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    make_engine().run(chain())
    monkeypatch.setenv(VERIFY_VARIABLE, "1")
    assert make_engine().run(chain()).verified == ("number", "one", "two")
    assert make_engine().run(chain(), verify=0).cached == ("two",)
    monkeypatch.setenv(VERIFY_VARIABLE, "")
    assert make_engine().run(chain()).cached == ("two",)


@pytest.mark.parametrize("share", [2, -1, "abc", float("nan"), "1e9", [], "50%"])
def test_bad_share_is_an_error_before_anything_runs(engine: Engine, stubs: types.ModuleType, share: Any) -> None:
    with pytest.raises(SettingsError, match=r"^\[E401\] verify cannot be used: expected the share .* from 0 to 1, such as 0.01"):
        engine.run(chain(), verify=share)
    assert stubs.CALLS == []


def test_bad_share_in_the_environment_names_the_variable(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VERIFY_VARIABLE, "often")
    with pytest.raises(SettingsError, match=r"NODEGRAPH_VERIFY cannot be used: .* found 'often'"):
        engine.run(chain())


def test_other_run_that_joins_gets_the_computed_value(make_engine: MakeEngine, plugins: Plugins, stubs: types.ModuleType) -> None:
    workflow = Workflow("w")
    workflow.output("text", workflow.add("Wait", name="text", text="t"))
    stubs.GO.set()
    engine = make_engine()
    engine.run(workflow)
    stubs.GO.clear()
    try:
        checking = engine.start(workflow, verify=1)
        next(event for event in checking.events() if type(event).__name__ == "NodeStarted")
        assert engine.run(workflow).cached == ("text",)  # it need not wait
    finally:
        stubs.GO.set()
        result = checking.result()
        stubs.GO.clear()
    assert result.verified == ("text",)
