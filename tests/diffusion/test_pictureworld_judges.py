"""The judges of the picture world read drawn pictures, also distorted ones, and reject wrong captions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from nodegraph_diffusion.recipes.pictureworld import Reading, demands_of, draw, faults, reading_of, scene
from nodegraph_diffusion.recipes.pictureworld.hashing import Stream
from nodegraph_diffusion.recipes.pictureworld.judges.accuracy import (
    ATTRIBUTES,
    accuracy,
    changed,
    compared,
    judged_scenes,
    rejections,
)
from nodegraph_diffusion.recipes.pictureworld.judges.distortions import DISTORTIONS, distort, distorted
from nodegraph_diffusion.recipes.pictureworld.judges.matched_filter import judge_by_templates
from nodegraph_diffusion.recipes.pictureworld.judges.network import CELLS, HEADS, SETTING, JudgeNetwork, LearnedJudge
from nodegraph_diffusion.recipes.pictureworld.judges.training import JudgedScenes, answers, loss_of, options, train_judge
from nodegraph_diffusion.recipes.pictureworld.sheet import drawn


@pytest.mark.slow
def test_matched_filter_reads_drawn_pictures() -> None:
    """One picture only: the templates alone take seconds to draw. The slow test below reads many."""
    assert str(accuracy(judge_by_templates, [scene(0, 4)])) == "1 of 1"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(DISTORTIONS))
def test_matched_filter_reads_many_pictures_and_rejects_wrong_captions(name: str) -> None:
    scenes = judged_scenes(100 if name in ("as drawn", "blurred") else 30)
    readings = judge_by_templates(distorted(drawn(scenes), name))
    result = compared(readings, scenes)
    assert result.right >= (0.98 if name == "as drawn" else 0.92) * len(scenes), str(result)
    rejected = rejections(readings, scenes)
    assert rejected.of_other_scenes >= 0.98 * len(scenes), str(rejected)
    assert all(found >= 0.98 * asked for found, asked in rejected.of_changed.values()), str(rejected)


def test_accuracy_counts_faults() -> None:
    scenes = [scene(0, index, count=2) for index in range(4)]
    readings = [reading_of(each) for each in scenes]
    readings[1] = Reading(readings[1].things[:1], readings[1].place, readings[1].time)
    assert compared(readings, scenes).wrong == Counter({"count": 1})
    assert str(compared(readings, scenes)) == "3 of 4 (wrong: count 1)"
    assert rejections(readings, scenes).of_other_scenes == 4


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_a_changed_demand_is_not_met(name: str) -> None:
    each = next(found for index in range(20) if demands_of(found := scene(0, index, count=2)).links)
    wrong = changed(demands_of(each), name, Stream("test"))
    assert wrong is not None
    assert faults(wrong, reading_of(each))


def test_distortions_change_pictures_a_little() -> None:
    pixels = draw(scene(0, 1))[None]
    for name in DISTORTIONS:
        difference = np.abs(distorted(pixels, name).astype(int) - pixels)
        assert (difference.mean() == 0) == (name == "as drawn")
        assert difference.mean() < 12, name
    batch = torch.rand(4, 3, 64, 64)
    assert torch.equal(*(distort(batch, torch.Generator().manual_seed(1)) for _ in range(2)))


def test_answers_have_a_centre_for_each_thing() -> None:
    each = scene(0, 1, count=3)
    cells, setting = answers(reading_of(each))
    assert cells.shape == (len(HEADS), CELLS, CELLS)
    assert int(cells[0].sum()) == 3
    assert (cells[1:, cells[0] == 0] == -1).all()
    assert len(setting) == 2


class Exact(torch.nn.Module):
    """A network that knows the answers for its only picture."""

    def __init__(self, reading: Reading) -> None:
        super().__init__()
        cells, setting = answers(reading)
        hot = [one_hot(plane.clamp_min(0), size).movedim(-1, 0) for plane, size in zip(cells[1:], HEADS[1:], strict=True)]
        self.cells = torch.cat([20.0 * cells[:1] - 10, *(10.0 * plane for plane in hot)])[None]
        named = [one_hot(torch.tensor(number), size) for number, size in zip(setting, SETTING, strict=True)]
        self.setting = torch.cat(named).float()[None]

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.cells, self.setting


def test_learned_judge_reads_the_answers_of_its_network() -> None:
    each = scene(0, 3, count=3)
    judge = LearnedJudge(Exact(reading_of(each)))  # type: ignore[arg-type]
    assert str(compared(judge(drawn([each])), [each])) == "1 of 1"


def test_judge_learns_a_handful_of_pictures(tmp_path: Path) -> None:
    batch = JudgedScenes(2).batch([0, 1], torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    before = loss_of(JudgeNetwork(), batch.pictures, batch.cells, batch.settings)
    judge = train_judge(tmp_path / "run", options(steps=4, batch=2), scenes=2)
    assert loss_of(judge.network, batch.pictures, batch.cells, batch.settings) < before
    judge.save(tmp_path / "judge.safetensors")
    loaded = LearnedJudge.load(tmp_path / "judge.safetensors")
    assert len(loaded(drawn([scene(0, 0)]))) == 1
