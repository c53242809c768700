"""Parts of a sweep run on machines of their own, and a plain sweep gathers them from the store that they share."""

from __future__ import annotations

import json
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from nodegraph import Engine, Workflow, WorkflowError, sweep
from tests.support.cli import GREETING, Cli

OVER = {"a": [1, 2, 3, 4], "b": [5, 6]}


def sums() -> Workflow:
    workflow = Workflow("sums")
    shared = workflow.add("Number", name="shared", value=100.0)
    left = workflow.add("Plus", name="left", a=shared, b=workflow.param("a", 1.0))
    workflow.output("total", workflow.add("Plus", name="total", a=left, b=workflow.param("b", 10.0)), save="total")
    return workflow


def test_parts_are_gathered_from_the_shared_store(
    make_engine: Callable[..., Engine], stubs: types.ModuleType, tmp_path: Path
) -> None:
    url = f"memory:///{tmp_path.name}"
    numbers = []
    for part in (1, 2, 3):
        engine = make_engine(cache_dir=tmp_path / f"machine {part}", cache_remote=url)
        result = sweep(sums(), OVER, engine=engine, shard=(part, 3), out=tmp_path / f"out {part}")
        numbers.append([point.number for point in result])
        engine.finish_uploads()
        assert (tmp_path / f"out {part}" / f"points-{part}-of-3.csv").exists()
    assert numbers == [[1, 4, 7], [2, 5, 8], [3, 6]]
    assert stubs.CALLS.count("Number") == 1
    assert stubs.CALLS.count("Plus") == 4 + 8
    last = make_engine(cache_dir=tmp_path / "last", cache_remote=url)
    whole = sweep(sums(), OVER, engine=last, out=tmp_path / "out")
    assert len(stubs.CALLS) == 1 + 4 + 8  # nothing ran
    assert [point["total"] for point in whole] == [100 + a + b for a in OVER["a"] for b in OVER["b"]]
    assert len(json.loads((tmp_path / "out/points.json").read_text())["points"]) == 8


def test_parts_in_one_folder_are_kept(make_engine: Callable[..., Engine], stubs: types.ModuleType, tmp_path: Path) -> None:
    for part in (1, 2):
        sweep(sums(), OVER, engine=make_engine(), shard=(part, 2), out=tmp_path / "out")
    written = sorted(path.name for path in (tmp_path / "out").glob("0*"))
    assert len(written) == 8
    whole = sweep(sums(), OVER, engine=make_engine(), out=tmp_path / "out")
    assert all(point.is_kept for point in whole)
    assert sorted(path.name for path in (tmp_path / "out").glob("0*")) == written
    again = sweep(sums(), OVER, engine=make_engine(), shard=(2, 2), out=tmp_path / "out")
    assert [point.is_kept for point in again] == [True] * 4


def test_random_seed_is_refused(make_engine: Callable[..., Engine]) -> None:
    workflow = Workflow("seeds")
    workflow.output("drawn", workflow.add("Draw", seed=workflow.param("seed", "random"), other=workflow.param("other", 1)))
    with pytest.raises(WorkflowError, match="the seed 'seed' is random, and each part of the sweep would draw another one"):
        sweep(workflow, {"other": [1, 2]}, engine=make_engine(), shard=(1, 2))
    assert len(sweep(workflow, {"other": [1, 2]}, engine=make_engine(), params={"seed": 5}, shard=(1, 2))) == 1


@pytest.mark.parametrize("part", ["0/3", "4/3", "x", "1", "1/0"])
def test_part_that_is_wrong(tmp_path: Path, part: str) -> None:
    cli = Cli(tmp_path)
    ran = cli("sweep", cli.write(GREETING), "--over", "word=a,b", "--shard", part)
    assert ran.exit_code == 2
    assert "expected a part such as 3/16" in ran.stderr


def test_command_runs_its_part(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    ran = cli("sweep", cli.write(GREETING), "--over", "word=a,b,c", "--shard", "2/2", "--out", tmp_path / "out")
    assert ran.exit_code == 0, ran.stderr
    assert [Path(line).name[:5] for line in ran.stdout.splitlines()] == ["0002-"]
    assert cli("sweep", cli.folder / "greeting.yaml", "--over", "word=a", "--shard", "1/2", "--sheet").exit_code == 2
