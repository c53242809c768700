"""The shipped workflows that use others: what they write, and what their parts share."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodegraph import Engine, Workflow, sweep
from nodegraph.cli import main
from tests.support.small_model import SIDE
from tests.support.workspace import WORKFLOWS


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(tmp_path / "cache")


def test_hires_enlarges_and_keeps_the_first_picture(engine: Engine, model: Path, tmp_path: Path) -> None:
    result = engine.run(WORKFLOWS / "hires.yaml", params={"model": model, "scale": 3.0}, out=tmp_path)
    assert result["small"].pixels.shape == (1, SIDE, SIDE, 3)
    assert result["picture"].pixels.shape == (1, 3 * SIDE, 3 * SIDE, 3)
    assert {path.name for path in tmp_path.glob("*.png")} == {"hires-7.png", "hires-7-small.png"}
    single = engine.run(WORKFLOWS / "txt2img.yaml", params={"model": model})
    assert set(single.cached) | set(single.pruned) == set(
        single.nodes
    )  # nodes inside have the keys that they have in their own file


def test_variations_make_a_picture_for_each_seed(engine: Engine, model: Path, tmp_path: Path) -> None:
    result = engine.run(WORKFLOWS / "variations.yaml", params={"model": model, "seeds": [4, 5]}, out=tmp_path)
    first, second = result["pictures"]
    assert not (first.pixels == second.pixels).all()
    assert {path.name for path in tmp_path.glob("*.png")} == {"variations-0.png", "variations-1.png", "variations-sheet.png"}


@pytest.mark.slow
def test_xy_is_a_sweep_with_a_sheet(engine: Engine, model: Path, tmp_path: Path) -> None:
    workflow = Workflow.load(WORKFLOWS / "xy.yaml")
    result = sweep(workflow, engine=engine, params={"model": model}, out=tmp_path)
    assert len(result) == 12
    assert result.status == "done"
    height, width = result.sheet().pixels.shape[1:3]
    assert width > 4 * 128
    assert height > 3 * 128


def test_examples_are_copied_with_the_workflows_that_they_use(tmp_path: Path) -> None:
    from click.testing import CliRunner

    ran = CliRunner().invoke(main, ["examples", "hires", "variations", "--copy", str(tmp_path)])
    assert ran.exit_code == 0, ran.output
    copied = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert copied == {"hires.yaml", "txt2img.yaml", "variations.yaml", "img2img.yaml", "examples/castle.png"}
