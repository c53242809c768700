"""`@node(keep=False)`: the result is computed each time it is needed, and nodes below it are found without it."""

from __future__ import annotations

import shutil
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from nodegraph import Engine, Workflow
from tests.support.copying_workers import with_both_workers

MakeEngine = Callable[..., Engine]


def large_and_length(factor: int = 1, text: str = "abc") -> Workflow:
    workflow = Workflow("w")
    large = workflow.add("Large", name="large", text=text, size=4)
    workflow.output("length", workflow.add("Length", name="length", blob=large, factor=factor))
    return workflow


@with_both_workers
def test_node_below_is_found_without_it(make_engine: MakeEngine, stubs: types.ModuleType) -> None:
    first = make_engine().run(large_and_length())
    assert first.ran == ("large", "length")
    assert first.nodes["large"].key is not None
    assert first.nodes["large"].content is None
    stubs.CALLS.clear()
    again = make_engine().run(large_and_length())
    assert (again.pruned, again.cached, again["length"]) == (("large",), ("length",), 12)
    assert stubs.CALLS == []


def test_result_is_not_stored(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.run(large_and_length())
    assert [record.node for record in engine.cache.entries()] == ["length"]
    info = engine.cache.info()
    assert info is not None
    assert info.blobs == 1


@with_both_workers
def test_it_runs_again_for_a_node_that_needs_it(make_engine: MakeEngine, stubs: types.ModuleType) -> None:
    make_engine().run(large_and_length())
    stubs.CALLS.clear()
    assert make_engine().run(large_and_length(factor=2))["length"] == 24
    assert stubs.CALLS == ["Large", "Length"]


@pytest.mark.parametrize("cache_dir", [None, "cache"])
def test_engine_does_not_keep_it_in_memory(make_engine: MakeEngine, tmp_path: Path, cache_dir: str | None) -> None:
    engine = make_engine(cache_dir=None if cache_dir is None else tmp_path / cache_dir)
    engine.run(large_and_length())
    assert engine.run(large_and_length(), targets=["large"]).ran == ("large",)
    assert engine.run(large_and_length(), targets=["large"]).ran == ("large",)
    assert engine.run(large_and_length()).cached == ("length",)


def test_node_below_is_found_by_its_content_key(make_engine: MakeEngine, tmp_path: Path, stubs: types.ModuleType) -> None:
    """Without the digest of the value, which is known only once the node has run."""
    make_engine().run(large_and_length())
    shutil.rmtree(tmp_path / "cache" / "aliases")
    stubs.CALLS.clear()
    assert make_engine().run(large_and_length()).cached == ("length",)
    assert stubs.CALLS == []


def test_node_above_that_gives_the_same_value_does_not_make_it_run(make_engine: MakeEngine, stubs: types.ModuleType) -> None:
    def workflow(text: str) -> Workflow:
        workflow = Workflow("w")
        large = workflow.add("Large", name="large", text=workflow.add("Fold", name="fold", text=text))
        workflow.output("length", workflow.add("Length", name="length", blob=large))
        return workflow

    make_engine().run(workflow("ABC"))
    stubs.CALLS.clear()
    result = make_engine().run(workflow("abc"))
    assert (result.ran, result.pruned, result.cached) == (("fold",), ("large",), ("length",))
    assert stubs.CALLS == ["Fold"]


@with_both_workers
def test_it_can_be_an_output(make_engine: MakeEngine, stubs: types.ModuleType, tmp_path: Path) -> None:
    workflow = Workflow("w")
    workflow.output("large", workflow.add("Large", name="large", text="abc"), save="large")
    for _ in range(2):
        result = make_engine().run(workflow, out=tmp_path / "out", overwrite=True)
        assert result.ran == ("large",)
        assert result["large"] == stubs.Blob(b"abc")
        assert (tmp_path / "out" / "large.bin").read_bytes().startswith(b"abc")


def test_readers_have_objects_of_their_own(make_engine: MakeEngine) -> None:
    workflow = Workflow("w")
    large = workflow.add("Large", name="large", text="abc")
    workflow.output("changed", workflow.add("ChangeBlob", name="changed", blob=large))
    workflow.output("length", workflow.add("Length", name="length", blob=large))
    assert make_engine().run(workflow)["length"] == 3


@pytest.mark.parametrize("type", ["EditAndMake", "EditAndLoad"])
def test_file_changed_while_it_runs_is_in_no_key_below(make_engine: MakeEngine, tmp_path: Path, type: str) -> None:
    """Its digest follows from the key, which covers the file's old content: what was computed from the new one has another key."""
    path = tmp_path / "file"

    def workflow(text: str) -> Workflow:
        workflow = Workflow("w")
        made = workflow.add(type, name="made", path=str(path), text=text)
        below = {"EditAndMake": "Length", "EditAndLoad": "Weights"}[type]
        workflow.output("below", workflow.add(below, name="below", **{"blob" if below == "Length" else "model": made}))
        return workflow

    path.write_text("before")
    first = make_engine().run(workflow("after a while"))
    assert first.nodes["made"].key is None
    assert "changed during the run" in first.notices[0].message
    path.write_text("before")
    assert "made" in make_engine().run(workflow("after a while")).ran


@with_both_workers
@pytest.mark.parametrize(("type", "below"), [("DrawGlobal", "Plus"), ("DrawGlobalLarge", "Length")])
def test_what_is_below_a_global_generator_is_not_found_by_its_static_key(make_engine: MakeEngine, type: str, below: str) -> None:
    workflow = Workflow("w")
    drawn = workflow.add(type, name="drawn")
    workflow.output("below", workflow.add(below, name="below", **{"a" if below == "Plus" else "blob": drawn}))
    make_engine().run(workflow)
    assert "drawn" in make_engine().run(workflow).ran


def test_explain_says_why_it_runs(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.run(large_and_length())
    plan = engine.plan(large_and_length(factor=2))
    reasons = {explained.node: explained.reason for explained in engine.explain(plan)}
    assert reasons == {
        "large": "its type does not keep results, and a node below needs this one",
        "length": "factor: 1 -> 2",
    }
    assert plan.uncached == {"large": reasons["large"]}


def test_it_is_computed_for_a_node_that_is_verified(make_engine: MakeEngine) -> None:
    make_engine().run(large_and_length())
    result = make_engine().run(large_and_length(), verify=1)
    assert (result.ran, result.verified) == (("large",), ("length",))


def test_forced_node_runs_what_is_below(make_engine: MakeEngine) -> None:
    make_engine().run(large_and_length())
    assert make_engine().run(large_and_length(), force=["large"]).ran == ("large", "length")
