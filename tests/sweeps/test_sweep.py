"""Sweeps: shared work, values, failures, and going on."""

from __future__ import annotations

import json
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nodegraph import Cancelled, Engine, SweepError, Workflow, WorkflowError, sweep
from nodegraph.cache.store.safe_io import SafeFiles
from nodegraph.sweeps.points import Point


def sums() -> Workflow:
    """A slow part that all points share, and one that depends on the axes."""
    workflow = Workflow("sums")
    a, b = workflow.param("a", 1.0), workflow.param("b", 10.0)
    shared = workflow.add("Number", name="shared", value=100.0)
    left = workflow.add("Plus", name="left", a=shared, b=a)
    workflow.output("total", workflow.add("Plus", name="total", a=left, b=b), save="total-{a}")
    return workflow


def tables(folder: Path) -> Any:
    return json.loads((folder / "points.json").read_text())


def test_each_point_has_the_values_of_a_run_of_its_own(make_engine: Callable[..., Engine]) -> None:
    engine, single = make_engine(), make_engine(cache_dir=None)
    result = sweep(sums(), {"a": [1, 2, 3], "total.b": "5..6"}, engine=engine)
    assert len(result) == 6
    for point in result:
        assert point["total"] == single.run(sums(), params=dict(point.params))["total"]
    assert [point.params for point in result][:2] == [{"a": 1.0, "total.b": 5.0}, {"a": 1.0, "total.b": 6.0}]
    assert repr(result).startswith("<SweepResult of sums over a, total.b (3 x 2): done, 6 points in ")


@pytest.mark.parametrize("cache", ["disk", "memory"])
def test_shared_work_is_done_once(make_engine: Callable[..., Engine], stubs: types.ModuleType, cache: str) -> None:
    engine = make_engine(**({"cache_dir": None} if cache == "memory" else {}))
    sweep(sums(), {"a": [1, 2, 3], "b": [1, 2, 3, 4]}, engine=engine)
    assert stubs.CALLS.count("Number") == 1
    assert stubs.CALLS.count("Plus") == 3 + 12


def test_a_point_asks_the_cache_once_for_each_of_its_own_results(
    make_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it reads nothing that it has just written: opening files is most of what a small point costs."""
    read: list[Path] = []
    original = SafeFiles.read

    def noting(files: SafeFiles, path: Path) -> bytes | None:
        read.append(path)
        return original(files, path)

    monkeypatch.setattr(SafeFiles, "read", noting)
    engine = make_engine()
    sweep(sums(), {"a": [1.0]}, engine=engine)
    read.clear()
    sweep(sums(), {"a": [2.0, 3.0, 4.0]}, engine=engine)
    assert len(read) == 3 * 2  # `left` and `total` of each point
    assert {path.parent.parent.name for path in read} == {"aliases"}
    assert len(set(read)) == len(read)


def test_model_is_loaded_once(make_engine: Callable[..., Engine], stubs: types.ModuleType, tmp_path: Path) -> None:
    (tmp_path / "model").write_text("w")
    workflow = Workflow("models")
    model = workflow.add("Load", path=tmp_path / "model")
    workflow.output("text", workflow.add("Describe", model=model.model, text=workflow.param("text", "x")))
    result = sweep(workflow, {"text": "a,b,c"}, engine=make_engine())
    assert [point["text"] for point in result] == ["a by w", "b by w", "c by w"]
    assert stubs.CALLS.count("Load") == 1


def test_force_runs_a_shared_node_once(make_engine: Callable[..., Engine], stubs: types.ModuleType) -> None:
    for _ in range(2):
        stubs.CALLS.clear()
        sweep(sums(), {"a": [1, 2], "b": [1, 2]}, engine=make_engine(), force=["shared"])
        assert stubs.CALLS.count("Number") == 1
        assert stubs.CALLS.count("Plus") == 2 + 4


def test_values_are_freed_after_their_last_use(make_engine: Callable[..., Engine], stubs: types.ModuleType) -> None:
    workflow = Workflow("blobs")
    made = workflow.add("Make", text=workflow.param("text", "x"))
    workflow.output("grown", workflow.add("Grow", blob=made))
    sweep(workflow, {"text": [f"t{i}" for i in range(20)]}, engine=make_engine())
    assert max(stubs.MOST_ALIVE) <= 3


def test_files_and_tables(engine: Engine, tmp_path: Path) -> None:
    result = sweep(sums(), {"a": "1..2", "b": [0.5]}, engine=engine, out=tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "0001-total-1.json",
        "0002-total-2.json",
        "points.csv",
        "points.json",
    ]
    assert json.loads((tmp_path / "out/0002-total-2.json").read_text()) == 102.5
    written = tables(tmp_path / "out")
    assert (written["workflow"], written["status"], written["over"]) == ("sums", "done", {"a": ["1", "2"], "b": [0.5]})
    row = written["points"][1]
    assert (row["point"], row["params"], row["status"]) == (2, {"a": 2.0, "b": 0.5}, "done")
    assert row["files"] == {"total": ["0002-total-2.json"]}
    assert row["keys"] == result[1].keys
    assert len(row["keys"]["total"]) == 64
    lines = (tmp_path / "out/points.csv").read_text().splitlines()
    assert lines[0] == "point,a,b,status,seconds,total,key of total,error"
    assert lines[2].startswith("2,2,0.5,done,")
    assert result.table()[1]["total"] == "0002-total-2.json"
    assert repr(result.table()).splitlines()[0].split() == [
        "point",
        "a",
        "b",
        "status",
        "seconds",
        "total",
        "key",
        "of",
        "total",
        "error",
    ]
    assert "<td>0.5</td>" in result.table()._repr_html_()


def test_same_sweep_again_repeats_nothing_even_without_a_cache(
    make_engine: Callable[..., Engine], stubs: types.ModuleType, tmp_path: Path
) -> None:
    def run(over: dict[str, Any]) -> list[bool]:
        result = sweep(sums(), over, engine=make_engine(cache_dir=None), out=tmp_path)
        assert [json.loads((tmp_path / p.files["total"][0]).read_text()) for p in result] == [
            100 + p.params["a"] + p.params["b"] for p in result
        ]
        return [point.is_kept for point in result]

    assert run({"a": [1, 2], "b": [5]}) == [False, False]
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.json")}
    stubs.CALLS.clear()
    assert run({"a": [1, 2], "b": [5]}) == [True, True]
    assert stubs.CALLS == []
    assert {path.name: path.read_bytes() for path in tmp_path.glob("0*.json")}.items() <= before.items()
    assert run({"a": [1, 2, 3], "b": [5]}) == [True, True, False]
    assert run({"a": [1, 3], "b": [5]}) == [True, False]
    assert run({"a": [1, 3], "b": [6]}) == [False, False]  # the files of the same name are replaced
    assert sorted(path.name for path in tmp_path.glob("0*")) == [
        "0001-total-1.json",
        "0002-total-2.json",
        "0002-total-3.json",
        "0003-total-3.json",
    ]


def test_point_whose_file_was_removed_or_edited_runs_again(make_engine: Callable[..., Engine], tmp_path: Path) -> None:
    over = {"a": [1, 2, 3]}
    sweep(sums(), over, engine=make_engine(), out=tmp_path)
    (tmp_path / "0001-total-1.json").unlink()
    (tmp_path / "0002-total-2.json").write_text('"mine"')
    result = sweep(sums(), over, engine=make_engine(), out=tmp_path)
    assert [point.is_kept for point in result] == [False, False, True]
    assert result[0].files == {"total": ["0001-total-1.json"]}
    assert result[1].files == {"total": ["0002-total-2-2.json"]}
    assert (tmp_path / "0002-total-2.json").read_text() == '"mine"'


def test_changed_workflow_or_value_runs_again(make_engine: Callable[..., Engine], tmp_path: Path) -> None:
    sweep(sums(), {"a": [1]}, engine=make_engine(), out=tmp_path)
    changed = sums()
    changed.replace("shared", value=200.0)
    result = sweep(changed, {"a": [1]}, engine=make_engine(), out=tmp_path)
    assert not result[0].is_kept
    assert json.loads((tmp_path / "0001-total-1.json").read_text()) == 211
    assert not sweep(changed, {"a": [1]}, params={"b": 3}, engine=make_engine(), out=tmp_path)[0].is_kept


def test_impure_points_are_kept_too(make_engine: Callable[..., Engine], stubs: types.ModuleType, tmp_path: Path) -> None:
    workflow = Workflow("dice")
    workflow.output("sum", workflow.add("Plus", a=workflow.add("Dice"), b=workflow.param("b", 1.0)))
    sweep(workflow, {"b": [1, 2]}, engine=make_engine(), out=tmp_path)
    assert [p.is_kept for p in sweep(workflow, {"b": [1, 2]}, engine=make_engine(), out=tmp_path)] == [True, True]
    assert [p.is_kept for p in sweep(workflow, {"b": [1, 3]}, engine=make_engine(), out=tmp_path)] == [True, False]
    assert stubs.CALLS.count("Dice") == 3


def test_folder_of_another_sweep_is_refused(engine: Engine, tmp_path: Path) -> None:
    sweep(sums(), {"a": [1]}, engine=engine, out=tmp_path)
    with pytest.raises(WorkflowError, match="holds the points of another sweep: of sums, over a"):
        sweep(sums(), {"b": [1]}, engine=engine, out=tmp_path)
    sweep(sums(), {"b": [1]}, engine=engine, out=tmp_path, overwrite=True)
    assert tables(tmp_path)["over"] == {"b": [1]}


@pytest.mark.parametrize("keep_going", [False, True])
def test_failing_point_does_not_lose_the_others(engine: Engine, tmp_path: Path, keep_going: bool) -> None:
    workflow = Workflow("chosen")
    good, bad = workflow.add("Text", name="good"), workflow.add("Fail", name="bad", text="this one")
    workflow.output("out", workflow.add("Switch", on=workflow.param("which", "good"), cases={"good": good, "bad": bad}), save="x")
    with pytest.raises(SweepError, match=r"E231\] point 2 \(which=bad\) failed: .*no good: this one"):
        sweep(workflow, {"which": ["good", "bad", "good"]}, engine=engine, out=tmp_path, keep_going=keep_going)
    statuses = [row["status"] for row in tables(tmp_path)["points"]]
    assert statuses == ["done", "failed", "done" if keep_going else "skipped"]
    assert "no good: this one" in tables(tmp_path)["points"][1]["error"]
    assert "no good: this one" in (tmp_path / "points.csv").read_text()
    result = sweep(workflow, {"which": ["good", "bad", "good"]}, engine=engine, out=tmp_path, keep_going=True, raise_errors=False)
    assert [point.is_kept for point in result] == [True, False, keep_going]
    assert result.status == "failed"


def test_every_value_is_checked_before_anything_runs(engine: Engine, stubs: types.ModuleType, tmp_path: Path) -> None:
    with pytest.raises(WorkflowError) as caught:
        sweep(sums(), {"a": [1, "x"], "total.b": "1,y", "totl.b": [1]}, engine=engine, out=tmp_path / "out")
    assert "Did you mean 'total.b'?" in str(caught.value)
    with pytest.raises(WorkflowError) as caught:
        sweep(sums(), {"a": [1, "x"], "total.b": "1,y"}, engine=engine, out=tmp_path / "out")
    assert [problem.code for problem in caught.value.problems] == ["E110", "E110"]
    assert "'a', 'b' of node 'left': expected a number, found 'x'" in str(caught.value)
    assert "--over total.b, 'b' of node 'total': expected a number, found 'y'" in str(caught.value)
    assert stubs.CALLS == []
    assert not (tmp_path / "out").exists()


def test_cancelled_sweep_goes_on(make_engine: Callable[..., Engine], tmp_path: Path) -> None:
    engine = make_engine()
    with pytest.raises(Cancelled, match="interrupted after 2 of 4 points"):
        sweep(
            sums(), {"a": [1, 2, 3, 4]}, engine=engine, out=tmp_path, on_point=lambda p: engine.cancel() if p.number == 2 else None
        )
    assert [row["status"] for row in tables(tmp_path)["points"]] == ["done", "done", "skipped", "skipped"]
    result = sweep(sums(), {"a": [1, 2, 3, 4]}, engine=make_engine(), out=tmp_path)
    assert [point.is_kept for point in result] == [True, True, False, False]


def test_random_seed_is_drawn_once_for_all_points(make_engine: Callable[..., Engine], tmp_path: Path) -> None:
    workflow = Workflow("drawn")
    workflow.output("seed", workflow.add("Draw", seed=workflow.param("seed", "random")), save="{seed}-{x}")
    workflow.param("x", 1)
    result = sweep(workflow, {"x": [1, 2]}, engine=make_engine(), out=tmp_path)
    assert result[0]["seed"] == result[1]["seed"] == result.seeds["seed"]
    again = sweep(workflow, {"x": [1, 2, 3]}, engine=make_engine(), out=tmp_path)
    assert again.seeds == result.seeds
    assert [point.is_kept for point in again] == [True, True, False]


def test_sweep_of_a_file_with_composed_nodes(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "inner.yaml").write_text(
        "nodegraph: 1\nparams: {text: x}\nnodes: {folded: {use: Fold, text: $params.text}}\noutputs: {text: {from: $folded}}\n"
        "sweep: {over: {text: [never]}}\n"
    )
    (tmp_path / "outer.yaml").write_text(
        "nodegraph: 1\n"
        "params: {words: {type: 'list[text]', default: [A]}, times: 1, word: W}\n"
        "nodes:\n"
        "  many: {use: ./inner.yaml, each: {text: $params.words}}\n"
        "  again: {use: '#twice', text: $params.word, repeat: {times: $params.times, carry: {text: text}}}\n"
        "outputs: {many: {from: $many.text}, again: {from: $again.text}}\n"
        "workflows:\n"
        "  twice:\n"
        "    params: {text: {type: text}}\n"
        "    nodes: {t: {use: Many, numbers: [1], text: $params.text}}\n"
        "    outputs: {text: {from: $t}}\n"
        "sweep: {over: {words: [[A], [B, C]], times: 1..2}}\n"
    )
    result = sweep(tmp_path / "outer.yaml", engine=engine, out=tmp_path / "out")
    assert [point["many"] for point in result] == [["a"], ["a"], ["b", "c"], ["b", "c"]]
    assert [point["again"] for point in result] == ["W [1.0]", "W [1.0] [1.0]"] * 2
    assert sorted(path.name for path in (tmp_path / "out").glob("0003*")) == [
        "0003-outer-again.json",
        "0003-outer-many-0.json",
        "0003-outer-many-1.json",
    ]
    composed = sweep(tmp_path / "outer.yaml", {"again.text": "x,y"}, engine=engine)
    assert [point["again"] for point in composed] == ["x [1.0]", "y [1.0]"]


def test_values_that_only_python_has(engine: Engine) -> None:
    workflow = Workflow("any")
    workflow.output("value", workflow.add("Anything", value=workflow.param("value", None)))
    result = sweep(workflow, {"value": [[1, 2], None, True]}, engine=engine, targets=["anything"])
    assert [point["anything"] for point in result] == [[1, 2], None, True]
    with pytest.raises(KeyError, match=r"point 1 has no value 'x'\. Its outputs are anything"):
        result[0]["x"]


def test_sheet_needs_a_backend_that_can_show_values(engine: Engine) -> None:
    result = sweep(sums(), {"a": [1]}, engine=engine)
    with pytest.raises(ValueError, match="output 'total': float cannot be shown on a sheet"):
        result.sheet()


def test_file_that_changes_during_a_sweep_counts_as_it_is_at_each_point(engine: Engine, tmp_path: Path) -> None:
    """All points are checked before the first one runs. From then on, a point that reads a file sees what is in it by then."""
    (tmp_path / "word").write_text("one")
    workflow = Workflow("reading")
    read = workflow.add("Contents", name="read", path=str(tmp_path / "word"))
    workflow.output("text", workflow.add("Repeat", text=read, times=workflow.param("times", 1)))

    def change(point: Any) -> None:
        if point.number == 2:
            (tmp_path / "word").write_text("other")
        if point.number == 3:
            (tmp_path / "word").unlink()

    with pytest.raises(SweepError, match=r"point 4 \(times=4\) failed: .*there is no file") as caught:
        sweep(workflow, {"times": [1, 2, 3, 4]}, engine=engine, out=tmp_path / "out", on_point=change)
    assert isinstance(caught.value.__cause__, WorkflowError)
    rows = tables(tmp_path / "out")["points"]
    assert [row["status"] for row in rows] == ["done", "done", "done", "failed"]
    values = [json.loads((tmp_path / "out" / row["files"]["text"][0]).read_text()) for row in rows[:3]]
    assert values == ["one", "oneone", "otherotherother"]
    (tmp_path / "word").write_text("one")
    again = sweep(workflow, {"times": [1, 2, 3, 4]}, engine=engine, out=tmp_path / "out")
    assert [point.is_kept for point in again] == [True, True, False, False]
    assert [point["text"] for point in again[2:]] == ["one" * 3, "one" * 4]


def test_a_folder_that_is_removed_during_a_sweep_is_made_again(make_engine: Callable[..., Engine], tmp_path: Path) -> None:
    def remove(point: Point) -> None:
        if point.number == 1:
            for file in (tmp_path / "out/deep").iterdir():
                file.unlink()
            (tmp_path / "out/deep").rmdir()

    workflow = Workflow("deep")
    workflow.output("n", workflow.add("Number", name="n"), save="deep/{n.value}")
    result = sweep(workflow, {"n.value": [1, 2, 3]}, engine=make_engine(), out=tmp_path / "out", on_point=remove)
    assert [point.status for point in result] == ["done"] * 3
    assert sorted(path.name for path in (tmp_path / "out/deep").iterdir()) == ["0002-2.0.json", "0003-3.0.json"]
