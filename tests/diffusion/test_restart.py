"""Restart goes back to the right levels, as often as asked, with the right amount of noise."""

from __future__ import annotations

import math

import pytest
import torch

from nodegraph_diffusion.sampling import SAMPLERS
from nodegraph_diffusion.schedules.continuous import schedule_karras
from tests.support.steps import START, our_steps
from tests.support.toy_denoisers import SCHEDULE, GaussianDenoiser, TwistedDenoiser, generator_noise, ignore_step, no_noise


def restart_levels(sigmas, **options):
    """The levels that the denoiser is called at, and the pairs of levels between which noise is added."""
    denoise, lifts = GaussianDenoiser(), []

    def noise(sigma_from, sigma_to):
        lifts.append((sigma_from, sigma_to))
        return torch.zeros_like(START)

    SAMPLERS["restart"](denoise, START * sigmas[0], sigmas, noise=noise, on_step=ignore_step, **options)
    return denoise.levels, lifts


def test_restart_without_intervals_is_heun():
    sigmas = schedule_karras(SCHEDULE, 10)
    for ours, heun in zip(our_steps("restart", sigmas, intervals=[]), our_steps("heun", sigmas), strict=True):
        assert torch.equal(ours, heun)


def test_levels_of_restarts():
    sigmas = torch.tensor([8.0, 4.0, 2.0, 1.0, 0.5, 0.0])
    levels, lifts = restart_levels(sigmas, intervals=[[0.9, 3.0, 2, 2], [0.1, 0.4, 1, 1], [20.0, 30.0, 1, 1]])
    middle = ((3 ** (1 / 7) + 1) / 2) ** 7
    again = [3.0, middle, middle, 1.0]
    assert lifts == [(1.0, 3.0), (1.0, 3.0)]  # the second ends below its start, the third is above all levels
    assert levels == pytest.approx([8, 4, 4, 2, 2, 1, *again, *again, 1, 0.5, 0.5])


def test_default_interval_has_the_schedules_steps():
    sigmas = schedule_karras(SCHEDULE, 20)
    levels, ((low, high),) = restart_levels(sigmas)
    assert high == 2.0
    assert low == min(sigmas[:-1].tolist(), key=lambda level: abs(level - 0.1))
    inside = sum(low < level <= 2 for level in sigmas.tolist())
    assert len(levels) == 39 + 2 * inside


def test_restart_adds_the_missing_noise():
    sigmas, drawn = torch.tensor([4.0, 1.0]), generator_noise(START)(0, 0)
    ours = our_steps("restart", sigmas, lambda a, b: drawn, intervals=[[1.0, 3.0, 1, 1]], s_noise=0.8)[-1]
    at_sigma_min = our_steps("heun", sigmas)[-1]
    lifted = at_sigma_min + drawn * 0.8 * math.sqrt(8)
    expected = SAMPLERS["heun"](TwistedDenoiser(), lifted, torch.tensor([3.0, 1.0]), noise=no_noise, on_step=ignore_step)
    torch.testing.assert_close(ours, expected)
