"""Masks whose grey values set when a cell begins to change."""

from __future__ import annotations

import itertools
import math

import torch

from nodegraph_diffusion.denoising.mask import MaskedDenoiser
from nodegraph_diffusion.sampling import SAMPLERS, sample, sigmas_for
from nodegraph_diffusion.schedules import SCHEDULES
from tests.support.guidance import (
    toy,
)
from tests.support.toy_denoisers import SCHEDULE

X = torch.randn(2, 4, 12, 10, generator=torch.Generator().manual_seed(0)) * 3


def levels(n=5):
    return sigmas_for(SCHEDULES["normal"], SCHEDULE, n)


def differential(latent, noise, mask, denoise, sigmas):
    """Levin & Fried 2023, Alg. 1, with Euler steps and this step's noise level for the known part, implemented again."""
    steps = [float(SCHEDULE.timestep(sigma)) for sigma in sigmas[:-1]]
    x = latent + noise * math.sqrt(1 + float(sigmas[0]) ** 2)
    for sigma, after, step in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), steps, strict=True):
        left = (step - steps[-1]) / (steps[0] - steps[-1])
        changes = (mask >= left) & (mask > 0)
        known = latent + sigma * noise
        denoised = denoise(torch.where(changes, x, known), sigma)
        denoised = torch.where(changes, denoised, latent)
        x = x + (x - denoised) / sigma * (after - sigma)
    return x


def test_soft_mask_sets_when_a_cell_changes():
    latent, noise = torch.randn(2, *X.shape, generator=torch.Generator().manual_seed(2))
    mask = torch.tensor([0.0, 0.1, 0.3, 0.49, 0.51, 0.6, 0.75, 0.8, 0.99, 1.0]).expand(1, 12, 10)
    sigmas = levels()
    result = sample(toy(), latent, noise, SAMPLERS["euler"], sigmas=sigmas, mask=mask, soft_mask="differential")
    torch.testing.assert_close(result, differential(latent, noise, mask[:, None], toy(), sigmas=sigmas), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(result[..., 0], latent[..., 0], rtol=0, atol=1e-5)
    assert not torch.allclose(result, sample(toy(), latent, noise, SAMPLERS["euler"], sigmas=sigmas, mask=mask))


def test_greys_of_a_soft_mask_open_in_order():
    mask = torch.linspace(0, 1, 10).expand(1, 12, 10)
    sigmas = levels(10)
    masked = MaskedDenoiser(toy(), torch.zeros_like(X), torch.zeros_like(X), mask, differential=sigmas)
    opened = []
    for sigma in sigmas[:-1]:
        changed = (masked(X, sigma) != 0).all(dim=(0, 1, 2))
        opened.append([k for k in range(10) if changed[k]])
    assert opened[0] == [9]
    assert opened[-1] == list(range(1, 10))
    assert all(set(before) <= set(after) for before, after in itertools.pairwise(opened))
    assert len({len(one) for one in opened}) >= 9


def test_black_and_white_soft_mask_is_a_plain_mask():
    latent, noise = torch.randn(2, *X.shape, generator=torch.Generator().manual_seed(2))
    mask = (torch.arange(10) > 4).float().expand(1, 12, 10)
    runs = [
        sample(toy(), latent, noise, SAMPLERS["heun"], sigmas=levels(), mask=mask, soft_mask=kind)
        for kind in ("blend", "differential")
    ]
    torch.testing.assert_close(*runs)


def test_soft_mask_of_a_partial_run_starts_with_white():
    sigmas = levels(8)[3:]
    mask = torch.linspace(0, 1, 10).expand(1, 12, 10)
    masked = MaskedDenoiser(toy(), torch.zeros_like(X), torch.zeros_like(X), mask, differential=sigmas)
    assert (masked(X, sigmas[0]) != 0).any(dim=(0, 1, 2)).tolist() == [False] * 9 + [True]
    one_step = MaskedDenoiser(
        toy(), torch.zeros_like(X), torch.zeros_like(X), mask, differential=torch.tensor([SCHEDULE.sigma_min, 0.0])
    )
    assert one_step(X, SCHEDULE.sigma_min).isfinite().all()
