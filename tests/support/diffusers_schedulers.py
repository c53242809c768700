"""The steps that diffusers' schedulers take, to compare with the steps of samplers."""

from __future__ import annotations

import torch

from nodegraph_diffusion.sampling import SAMPLERS
from tests.support.toy_denoisers import TwistedDenoiser, no_noise

PUBLISHED = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
}


START = torch.randn(2, 4, 6, 5, generator=torch.Generator().manual_seed(0))


def reference_steps(scheduler, sigmas, to_x, **step_options):
    """x after each step of a diffusers scheduler, whose sample is x / `to_x`(sigma)."""
    denoise = TwistedDenoiser()
    sample = START.double() * sigmas[0] / to_x(sigmas[0])
    calls, steps = [], []
    for i, timestep in enumerate(scheduler.timesteps):
        sigma = sigmas[i].item()
        x = sample * to_x(sigmas[i])
        predicted = (x - denoise(x, sigma)) / sigma
        sample = scheduler.step(predicted, timestep, sample, **step_options).prev_sample
        calls.append(sigma)
        steps.append(sample * to_x(sigmas[i + 1]))
    return steps


def our_steps(name, sigmas, noise=no_noise, **options):
    steps = []
    x = START.double() * sigmas[0]
    result = SAMPLERS[name](TwistedDenoiser(), x, sigmas, noise=noise, on_step=lambda i, x, denoised: steps.append(x), **options)
    assert result is steps[-1]
    return steps


def preserving(sigma):
    """x over the sample of the variance-preserving schedulers."""
    return (1 + sigma.double() ** 2).sqrt()
