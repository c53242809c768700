"""Runs of stochastic samplers on toy denoisers."""

from __future__ import annotations

import math

import pytest
import torch

from nodegraph_diffusion.denoising import Predictions
from nodegraph_diffusion.sampling import SAMPLERS
from nodegraph_diffusion.schedules import schedule_karras, schedule_normal, schedule_simple
from tests.support.toy_denoisers import SCHEDULE, GaussianDenoiser, ignore_step, no_noise

START = torch.randn(2, 4, 6, 5, generator=torch.Generator().manual_seed(0))


SCHEDULES = {"karras": schedule_karras, "normal": schedule_normal, "simple": schedule_simple}


def _sigmas():
    """Noise levels of several schedules and numbers of steps, to 0 and ending above it, as parameters of a test."""
    for name, schedule in SCHEDULES.items():
        for steps in (1, 2, 3, 4, 20):
            sigmas = schedule(SCHEDULE, steps).double()
            yield pytest.param(sigmas, id=f"{name}-{steps}")
            if steps > 1:
                yield pytest.param(sigmas[:-1], id=f"{name}-{steps}-not-to-0")


SIGMAS = list(_sigmas())


class Sided:
    """A denoiser with another negative prediction."""

    noise_schedule = SCHEDULE

    def __init__(self, denoiser, difference=0.3):
        self.denoiser, self.difference = denoiser, difference
        self.calls = 0

    def __call__(self, x, sigma):
        self.calls += 1
        return self.denoiser(x, sigma)

    def predict(self, x, sigma, negative=True):
        denoised = self(x, sigma)
        return Predictions(denoised, denoised, denoised + self.difference * (x / (1 + float(sigma))).sin())


def run(name, denoise, x, sigmas, noise=no_noise, on_step=ignore_step, **options):
    return SAMPLERS[name](denoise, x, sigmas, noise=noise, on_step=on_step, **options)


def assert_near(ours, reference, tolerance=1e-4):
    """The largest difference, in standard deviations of the reference."""
    assert ours.shape == reference.shape
    assert float((ours - reference).abs().max() / reference.std()) < tolerance


def error(name, steps, start=10.0, **options):
    """The distance from the exact solution after `steps` steps, even in log sigma, from level `start` to 0.1, without noise."""
    denoise = GaussianDenoiser()
    x = START.double() * start
    sigmas = torch.logspace(math.log10(start), -1, steps + 1, dtype=torch.float64)
    return (run(name, Sided(denoise, 0.0), x, sigmas, **options) - denoise.solution(x, start, 0.1)).abs().max().item()
