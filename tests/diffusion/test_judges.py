"""Both judges read drawn pictures correctly, and name faults."""

from __future__ import annotations

import numpy as np
import pytest

from nodegraph_diffusion.recipes.tiny import learned_judge
from nodegraph_diffusion.recipes.tiny.data import pictures
from nodegraph_diffusion.recipes.tiny.evaluation import evaluation_captions, score, score_on_real
from nodegraph_diffusion.recipes.tiny.learned_judge import SHIPPED, LearnedJudge, classes, train_judge
from nodegraph_diffusion.recipes.tiny.matched_filter import judge_by_templates
from nodegraph_diffusion.recipes.tiny.verdict import faults
from nodegraph_diffusion.recipes.tiny.world import HELD_OUT, Request, Scene, parse

PAIR = Request((("house", "red"), ("boat", "blue")), "beach", "night")


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (PAIR, []),
        (Request(PAIR.things, "snow", "day"), ["place", "time"]),
        (Request(PAIR.things[::-1], "beach", "night"), ["order"]),
        (Request(PAIR.things[:1], "beach", "night"), ["count"]),
        (Request((("house", "pink"), ("boat", "blue")), "beach", "night"), ["colour"]),
        (Request((("castle", "red"), ("boat", "blue")), "beach", "night"), ["kind"]),
    ],
)
def test_faults_are_named(seen: Request, expected: list[str]) -> None:
    assert faults(PAIR, seen) == expected


def test_open_attributes_are_not_faults() -> None:
    assert faults(parse("a house"), Request((("house", "pink"),), "snow", "day")) == []


def test_learned_judge_reads_drawn_pictures() -> None:
    result = score_on_real(LearnedJudge.load(SHIPPED), 200)
    assert result.right >= 0.98 * result.total, str(result)


@pytest.mark.slow
def test_matched_filter_reads_drawn_pictures() -> None:
    result = score_on_real(judge_by_templates, 2)
    assert result.right == result.total, str(result)


@pytest.mark.slow
def test_matched_filter_reads_many_drawn_pictures() -> None:
    result = score_on_real(judge_by_templates, 200)
    assert result.right >= 0.98 * result.total, str(result)


def test_picture_of_something_else_is_wrong() -> None:
    drawn = pictures("valid", 4)
    assert score(judge_by_templates, drawn[:, ::-1].copy(), [PAIR] * 4).right == 0


def test_judge_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned_judge, "BATCH", 8)
    losses: list[str] = []
    network = train_judge(0, losses.append, scenes=40, steps=3)
    assert len(losses) == 1
    assert all(np.isfinite(value.numpy()).all() for value in network.state_dict().values())


def test_classes_of_an_empty_scene_are_unknown() -> None:
    assert classes(Scene("snow", "night", (), horizon=0.55, seed=0)) == [0, -100, -100, -100, -100, 2, 2]


def test_evaluation_captions_name_held_out_combinations() -> None:
    for things in (1, 2):
        asked = [parse(text) for text in evaluation_captions(things, 50)]
        assert all(len(request.things) == things and request.place and request.time for request in asked)
        assert all(set(request.things) <= HELD_OUT for request in asked)
