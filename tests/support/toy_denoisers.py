"""Small denoisers, and the noise sources and callbacks to run samplers with."""

from __future__ import annotations

import torch
from torch import Tensor

from nodegraph_diffusion.testing import SCHEDULE, GaussianDenoiser, TwistedDenoiser

__all__ = ["SCHEDULE", "GaussianDenoiser", "TwistedDenoiser", "generator_noise", "ignore_step", "no_noise"]


def no_noise(sigma_from: float, sigma_to: float) -> Tensor:
    """The noise source of a sampler that must not draw any."""
    raise AssertionError("a deterministic sampler drew noise")


def ignore_step(i: int, x: Tensor, denoised: Tensor) -> None:
    """An `on_step` that does nothing."""


def generator_noise(like: Tensor, seed: int = 3):
    """Unit noise from one generator, one draw after another."""
    generator = torch.Generator().manual_seed(seed)
    return lambda sigma_from, sigma_to: torch.randn(like.shape, generator=generator, dtype=like.dtype)
