"""Parts of a sweep run on machines of their own, and a plain sweep gathers them from the store that they share."""

from __future__ import annotations

import json
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from nodegraph import Engine, SweepError, Workflow, WorkflowError, sweep
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


def test_the_part_that_ends_last_gathers(make_engine: Callable[..., Engine], stubs: types.ModuleType, tmp_path: Path) -> None:
    url = f"memory:///{tmp_path.name}"
    for part in (2, 3, 1):
        engine = make_engine(cache_dir=tmp_path / f"machine {part}", cache_remote=url)
        result = sweep(sums(), OVER, engine=engine, shard=(part, 3), gather=True, out=tmp_path / f"out {part}")
        is_last = part == 1
        assert [point.number for point in result] == ([*range(1, 9)] if is_last else [*range(part, 9, 3)])
        assert bool(result.missing) is not is_last
        assert (tmp_path / f"out {part}" / "points.csv").exists() is is_last
    assert [point.status for point in result] == ["done"] * 8
    assert len(list((tmp_path / "out 1").glob("0*"))) == 8
    assert len(stubs.CALLS) == 1 + 4 + 8


def test_gathering_computes_nothing(make_engine: Callable[..., Engine], stubs: types.ModuleType, tmp_path: Path) -> None:
    sweep(sums(), OVER, engine=make_engine(), shard=(2, 8))
    stubs.CALLS.clear()
    with pytest.raises(SweepError, match=r"7 of 8 points are not in the cache: 1, 3, 4, 5, 6 and 2 more\. Run the parts"):
        sweep(sums(), OVER, engine=make_engine(), gather=True, out=tmp_path / "out")
    assert stubs.CALLS == []
    assert not (tmp_path / "out").exists()
    sweep(sums(), OVER, engine=make_engine())
    stubs.CALLS.clear()
    assert len(sweep(sums(), OVER, engine=make_engine(), gather=True, out=tmp_path / "out")) == 8
    assert stubs.CALLS == []
    with pytest.raises(ValueError, match="computes nothing"):
        sweep(sums(), OVER, engine=make_engine(), gather=True, force=["left"])


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


@pytest.mark.slow
def test_command_gathers_with_the_last_part(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    command = ("sweep", cli.write(GREETING), "--over", "word=a,b,c", "--gather", "--out", tmp_path / "out")
    refused = cli(*command)
    assert refused.exit_code == 1
    assert "3 of 3 points are not in the cache: 1, 2, 3" in refused.stderr
    first = cli(*command, "--shard", "2/2")
    assert first.exit_code == 0, first.stderr
    assert "note: --gather: point 3 is not in the cache, so other parts are not done" in first.stderr
    assert len(first.stdout.splitlines()) == 1
    last = cli(*command, "--shard", "1/2")
    assert [Path(line).name[:5] for line in last.stdout.splitlines()] == ["0001-", "0002-", "0003-"]
    assert (tmp_path / "out/points.csv").exists()
    assert cli(*command, "--force", "x").exit_code == 2
