"""The kit's checks accept every schedule of the package and find broken ones."""

from __future__ import annotations

import functools

import pytest
import torch

from nodegraph_diffusion.schedules import SCHEDULES
from nodegraph_diffusion.schedules.continuous import schedule_karras
from nodegraph_diffusion.schedules.timesteps import schedule_normal
from nodegraph_diffusion.testing import SCHEDULE_CHECKS, check_schedule
from nodegraph_diffusion.testing.schedules import check_range

FIXED_LEVELS = {"align_your_steps", "vp"}  # the levels printed in their papers, for any model


@pytest.mark.parametrize("check", SCHEDULE_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_passes(name, check):
    if check is check_range and name in FIXED_LEVELS:
        with pytest.raises(AssertionError, match="noise levels between"):
            check(SCHEDULES[name])
    else:
        check(SCHEDULES[name])


def of_two_models(model, steps):
    return schedule_normal(model, steps) if model.prediction == "eps" else schedule_normal(model, steps).flip(0)


def too_high(model, steps):
    return schedule_karras(model, steps) * 1.1


def too_low(model, steps):
    return schedule_karras(model, steps) * 0.9


def precise(model, steps):
    return schedule_karras(model, steps).double()


def open_ended(model, steps):
    return schedule_karras(model, steps + 1)[:-1]


def as_list(model, steps):
    return schedule_karras(model, steps).tolist()


def drawn(model, steps):
    return torch.cat([torch.rand(steps).sort(descending=True)[0] + 1, torch.zeros(1)])


@functools.cache
def lent(model, steps):
    return schedule_karras(model, steps)


def choosy(model, steps):
    if steps != 10:
        raise ValueError("10 steps only")
    return schedule_karras(model, steps)


def mistyped(model, steps, *, rho: int = 7.5):
    return schedule_karras(model, steps, rho=rho)


def wordy(model, steps, unit):
    return schedule_karras(model, steps)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (of_two_models, "0 as the last noise level"),
        (too_high, "noise levels between 0.02917 and 14.61"),
        (too_low, "noise levels between"),
        (precise, "float32"),
        (open_ended, "noise levels for 1 steps|0 as the last noise level"),
        (as_list, "a tensor for 1 steps"),
        (drawn, "the same noise levels twice"),
        (lent, "the same noise levels twice"),
        (choosy, "most of .* steps to be accepted"),
        (mistyped, "option 'rho' expected a whole number"),
        (wordy, "unit"),
    ],
)
def test_broken_schedules_are_found(broken, message):
    with pytest.raises(AssertionError, match=message):
        check_schedule(broken)
