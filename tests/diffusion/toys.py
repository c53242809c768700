"""Denoisers whose answer is known or cheap, and what samplers need besides one."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nodegraph_diffusion.schedule import NoiseSchedule

SCHEDULE = NoiseSchedule()


class GaussianDenoiser:
    """The exact denoiser of data drawn from N(mean, deviation^2), every element by itself."""

    schedule = SCHEDULE

    def __init__(self, mean: float = 0.7, deviation: float = 0.5) -> None:
        self.mean, self.deviation = mean, deviation
        self.levels: list[float] = []

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        self.levels.append(float(sigma))
        share = self.deviation**2 / (self.deviation**2 + sigma**2)
        return self.mean + (x - self.mean) * share

    def solution(self, x: Tensor, sigma: float, sigma_end: float) -> Tensor:
        """Where the probability flow takes `x` from level `sigma` to `sigma_end`."""
        ratio = (self.deviation**2 + sigma_end**2) / (self.deviation**2 + sigma**2)
        return self.mean + (x - self.mean) * math.sqrt(ratio)


class TwistedDenoiser:
    """A denoiser that is linear in nothing and mixes neighbours; it means nothing."""

    schedule = SCHEDULE

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        scaled = x / (1 + float(sigma) ** 2) ** 0.5
        return torch.tanh(scaled + 0.3 * scaled.roll(1, -1)) * (1 + 0.2 * math.sin(float(sigma))) + 0.1 * scaled.cos()


def no_noise(sigma_from: float, sigma_to: float) -> Tensor:
    """The noise of a sampler that must not ask for any."""
    raise AssertionError("a deterministic sampler drew noise")


def ignore_step(i: int, x: Tensor, denoised: Tensor) -> None:
    """Progress that nobody watches."""


def generator_noise(like: Tensor, seed: int = 3):
    """Unit noise from one generator, one draw after another."""
    generator = torch.Generator().manual_seed(seed)
    return lambda sigma_from, sigma_to: torch.randn(like.shape, generator=generator, dtype=like.dtype)
