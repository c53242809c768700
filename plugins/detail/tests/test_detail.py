"""detail passes the checks of every sampler except exactness; with amount 0 it is DPM++ 2M and passes that, too."""

from __future__ import annotations

import functools

import pytest
import torch

import detail
from nodegraph_diffusion.sampling import SAMPLERS, SamplerSpec
from nodegraph_diffusion.testing import (
    SAMPLER_CHECKS,
    GaussianDenoiser,
    TwistedDenoiser,
    check_exact,
    even_sigmas,
    registered,
)

SAMPLER = registered(detail, "samplers")["detail"]
UNCHANGED = SamplerSpec(functools.partial(detail.sample_detail, amount=0.0), order=2)


def sampled(sampler, denoise, sigmas, **options):
    x = 10 * torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    return sampler(denoise, x, sigmas, noise=None, on_step=lambda i, x, denoised: None, **options)


@pytest.mark.parametrize("check", [check for check in SAMPLER_CHECKS if check is not check_exact], ids=lambda check: check.__name__)
def test_sampler_passes_the_checks(check):
    check(SAMPLER)


@pytest.mark.parametrize("check", SAMPLER_CHECKS, ids=lambda check: check.__name__)
def test_all_checks_with_amount_0(check):
    check(UNCHANGED)


def test_amount_0_is_dpmpp_2m():
    sigmas = even_sigmas(12, end=True).float()
    expected = sampled(SAMPLERS["dpmpp_2m"], TwistedDenoiser(), sigmas)
    assert torch.equal(sampled(SAMPLER, TwistedDenoiser(), sigmas, amount=0.0), expected)
    assert not torch.allclose(sampled(SAMPLER, TwistedDenoiser(), sigmas), expected, atol=1e-3)


def test_level_is_lowered_in_the_middle():
    denoise, sigmas = GaussianDenoiser(), even_sigmas(11, end=True).float()
    sampled(SAMPLER, denoise, sigmas, amount=0.2, start=0.2, end=0.8)
    factors = torch.tensor(denoise.levels) / sigmas[:-1]
    assert factors[5] == pytest.approx(0.8)
    assert torch.allclose(factors[[0, 1, 2, 8, 9, 10]], torch.ones(6))
    assert bool((factors[3:8] < 1).all())
    assert torch.allclose(factors, factors.flip(0), atol=1e-5)


def test_amount_changes_the_deviation():
    """With an amount above 0 the results are further from the mean of the data, below 0 nearer to it."""
    sigmas = even_sigmas(40, end=True).float()
    plain, unchanged, detailed = (
        float(sampled(SAMPLER, GaussianDenoiser(), sigmas, amount=amount).std()) for amount in (-0.2, 0.0, 0.2)
    )
    assert plain < 0.95 * unchanged
    assert detailed > 1.05 * unchanged


@pytest.mark.parametrize("wrong", [{"amount": 1.0}, {"amount": -1.0}, {"start": 0.8, "end": 0.2}, {"start": -0.1}, {"end": 1.5}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="sampler detail: expected"):
        sampled(SAMPLER, GaussianDenoiser(), even_sigmas(4), **wrong)
