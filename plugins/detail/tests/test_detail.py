"""detail keeps the promises of every sampler but one: it is exact only where it tells the truth, and there it is DPM++ 2M."""

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
TRUTHFUL = SamplerSpec(functools.partial(detail.sample_detail, amount=0.0), order=2)


def sampled(sampler, denoise, sigmas, **options):
    x = 10 * torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    return sampler(denoise, x, sigmas, noise=None, on_step=lambda i, x, denoised: None, **options)


@pytest.mark.parametrize("check", [check for check in SAMPLER_CHECKS if check is not check_exact], ids=lambda check: check.__name__)
def test_it_keeps_its_promises(check):
    check(SAMPLER)


@pytest.mark.parametrize("check", SAMPLER_CHECKS, ids=lambda check: check.__name__)
def test_it_is_exact_where_it_tells_the_truth(check):
    check(TRUTHFUL)


def test_without_an_amount_it_is_dpmpp_2m():
    sigmas = even_sigmas(12, end=True).float()
    expected = sampled(SAMPLERS["dpmpp_2m"], TwistedDenoiser(), sigmas)
    assert torch.equal(sampled(SAMPLER, TwistedDenoiser(), sigmas, amount=0.0), expected)
    assert not torch.allclose(sampled(SAMPLER, TwistedDenoiser(), sigmas), expected, atol=1e-3)


def test_the_network_hears_of_less_noise_in_the_middle():
    denoise, sigmas = GaussianDenoiser(), even_sigmas(11, end=True).float()
    sampled(SAMPLER, denoise, sigmas, amount=0.2, start=0.2, end=0.8)
    shares = torch.tensor(denoise.levels) / sigmas[:-1]
    assert shares[5] == pytest.approx(0.8)
    assert torch.allclose(shares[[0, 1, 2, 8, 9, 10]], torch.ones(6))
    assert bool((shares[3:8] < 1).all())
    assert torch.allclose(shares, shares.flip(0), atol=1e-5)


def test_what_is_left_of_the_noise_becomes_picture():
    """Data around a mean come out further from it with an amount above 0, nearer with one below."""
    sigmas = even_sigmas(40, end=True).float()
    plain, truthful, rich = (
        float(sampled(SAMPLER, GaussianDenoiser(), sigmas, amount=amount).std()) for amount in (-0.2, 0.0, 0.2)
    )
    assert plain < 0.95 * truthful
    assert rich > 1.05 * truthful


@pytest.mark.parametrize("wrong", [{"amount": 1.0}, {"amount": -1.0}, {"start": 0.8, "end": 0.2}, {"start": -0.1}, {"end": 1.5}])
def test_what_is_out_of_range_is_refused(wrong):
    with pytest.raises(ValueError, match="sampler detail: expected"):
        sampled(SAMPLER, GaussianDenoiser(), even_sigmas(4), **wrong)
