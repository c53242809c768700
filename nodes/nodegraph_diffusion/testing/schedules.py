"""The checks that every schedule must pass, each a function.

A schedule may raise ValueError for a number of steps that it has no levels for; it must accept most of those tried here. A failed
check raises AssertionError with what was expected and found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from nodegraph_diffusion.noise_schedule import NoiseSchedule
from nodegraph_diffusion.options import check_options, options_of, require_callable_with
from nodegraph_diffusion.schedules import Schedule
from nodegraph_diffusion.testing.toys import require

MODELS = (
    NoiseSchedule(),
    NoiseSchedule(prediction="v", zero_snr=True),
    NoiseSchedule(steps=250, beta_start=0.0015, beta_end=0.0195),
)
"""Stable Diffusion 1; one with zero terminal signal-to-noise ratio; a coarser one."""

STEPS = (1, 2, 3, 8, 10, 25, 60)


def check_options_hold(schedule: Schedule) -> None:
    """It can be called as a schedule, and its options have defaults of the annotated types."""
    try:
        require_callable_with(schedule, "schedule", ("noise_schedule", "steps"))
        check_options("schedule", schedule, options_of(schedule))
    except ValueError as error:
        raise AssertionError(str(error)) from error


def check_levels(schedule: Schedule) -> None:
    """It returns float32 noise levels on the CPU, decreasing to 0: usually one more than there are steps."""
    for model, steps, levels in _levels(schedule):
        where = f"for {steps} steps of {model}"
        require(isinstance(levels, torch.Tensor), f"a tensor {where}", type(levels).__name__)
        require(levels.dtype == torch.float32, f"float32 {where}", f"{levels.dtype}")
        require(levels.device.type == "cpu", f"noise levels on the CPU {where}", f"{levels.device}")
        require(levels.ndim == 1 and len(levels) >= 2, f"({steps + 1},) noise levels {where}", f"shape {tuple(levels.shape)}")
        require(bool(levels.isfinite().all()), f"finite noise levels {where}", f"{levels.tolist()}")
        require(float(levels[-1]) == 0, f"0 as the last noise level {where}", f"{float(levels[-1]):g}")
        require(bool((levels.diff() < 0).all()), f"each noise level below the one before {where}", f"{levels.tolist()}")


def check_range(schedule: Schedule) -> None:
    """All levels but the last, 0, are in the range that the model was trained on."""
    for model, steps, levels in _levels(schedule):
        low, high = model.sigma_min * (1 - 1e-4), model.sigma_max * (1 + 1e-4)
        least, most = float(levels[:-1].min()), float(levels.max())
        require(
            low <= least and most <= high,
            f"noise levels between {model.sigma_min:.4g} and {model.sigma_max:.4g} for {steps} steps of {model}",
            f"{least:.4g} to {most:.4g}",
        )


def check_same(schedule: Schedule) -> None:
    """Two calls return the same levels, even if the caller changes those of the first in place."""
    model, steps = MODELS[0], 10
    first = schedule(model, steps)
    original = first.clone()
    first.zero_()
    require(torch.equal(schedule(model, steps), original), "the same noise levels twice", "others")


SCHEDULE_CHECKS: tuple[Callable[[Schedule], None], ...] = (check_options_hold, check_levels, check_range, check_same)
"""All checks of a schedule."""


def check_schedule(schedule: Schedule) -> None:
    """Run all of `SCHEDULE_CHECKS`. Raises AssertionError at the first that fails."""
    for check in SCHEDULE_CHECKS:
        check(schedule)


def _levels(schedule: Schedule) -> Iterator[tuple[NoiseSchedule, int, Tensor]]:
    """Its levels for each model and number of steps."""
    for model in MODELS:
        refused: list[Any] = []
        for steps in STEPS:
            try:
                levels = schedule(model, steps)
            except ValueError as error:
                refused.append(f"{steps}: {error}")
                continue
            yield model, steps, levels
        require(len(refused) <= len(STEPS) // 2, f"most of {STEPS} steps to be accepted for {model}", f"these refused: {refused}")
