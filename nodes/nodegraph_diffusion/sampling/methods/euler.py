"""Euler's method, and its ancestral variant, which replaces part of the noise that it removes by fresh noise."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from nodegraph_diffusion.denoising import Denoiser
from nodegraph_diffusion.sampling.methods.churn import CHURN, Churn
from nodegraph_diffusion.sampling.options import NOISE_RANGES, require_at_least_0
from nodegraph_diffusion.sampling.protocols import NoiseSource, OnStep
from nodegraph_diffusion.sampling.spec import SamplerSpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def sample_euler(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: OnStep,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float | None = None,
    s_noise: float = 1.0,
) -> Tensor:
    """Euler's method (Karras et al. 2022, Alg. 2 uncorrected): first order.

    A step along d = dx/dsigma = (x - denoised) / sigma: Alg. 2 without its second-order correction.

    `s_churn` above 0 adds noise before each step at a level between `s_tmin` and `s_tmax`: the level rises by the factor
    1 + min(`s_churn` / steps, 0.41). `s_noise` scales the noise; 1 is the exact amount. Raises ValueError if one of them is
    negative.
    """
    churn = Churn("euler", len(sigmas) - 1, noise, s_churn=s_churn, s_tmin=s_tmin, s_tmax=s_tmax, s_noise=s_noise)
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        x, sigma_hat = churn(x, sigma)
        denoised = denoise(x, sigma_hat)
        d = (x - denoised) / sigma_hat
        x = x + d * (sigma_next - sigma_hat)
        on_step(i, x, denoised)
    return x


def sample_euler_ancestral(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: OnStep,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Tensor:
    """An Euler step to below the next noise level, then noise back up to it.

    k-diffusion's `euler_ancestral`. `eta` is the share of the posterior's noise that is added: 0 is `euler`; 1 samples
    x(sigma_next) given x(sigma) and the estimate, a step of `ddpm`. `s_noise` scales the noise; 1 is the exact amount.
    Raises ValueError if either is negative.
    """
    require_at_least_0("euler_ancestral", eta=eta, s_noise=s_noise)
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        denoised = denoise(x, sigma)
        sigma_down, sigma_up = ancestral_step(sigma, sigma_next, eta, sigmas.dtype)
        x = denoised if sigma_down == 0 else x + (x - denoised) / sigma * (sigma_down - sigma)
        if sigma_up > 0:
            x = x + noise(sigma, sigma_next) * (s_noise * sigma_up)
        on_step(i, x, denoised)
    return x


def ancestral_step(sigma: float, sigma_next: float, eta: float, dtype: torch.dtype) -> tuple[float, float]:
    """(sigma_down, sigma_up): the level to step down to, and the noise to add there. sigma_down^2 + sigma_up^2 = sigma_next^2.

    At `eta` 1, sigma_up is the standard deviation of x(sigma_next) given x(sigma) and the clean latent (Ho et al. 2020, Eq. 7, in
    the variance-exploding convention). Computed in `dtype`, that of the noise levels, as in k-diffusion: if sigma_down is much
    smaller than sigma_up, it is mostly rounding error, and some samplers call the network at that level.
    """
    if eta == 0 or sigma_next == 0:
        return sigma_next, 0.0
    import torch

    sigma_from, sigma_to = torch.tensor([sigma, sigma_next], dtype=dtype)
    sigma_up = min(sigma_to, eta * (sigma_to**2 * (sigma_from**2 - sigma_to**2) / sigma_from**2) ** 0.5)
    return float((sigma_to**2 - sigma_up**2) ** 0.5), float(sigma_up)


SAMPLERS = {
    "euler": SamplerSpec(
        sample_euler,
        order=1,
        paper="Karras et al. 2022, arXiv:2206.00364",
        ranges=CHURN,
        aliases=("Euler", "EulerDiscreteScheduler"),
    ),
    "euler_ancestral": SamplerSpec(
        sample_euler_ancestral, stochastic=True, ranges=NOISE_RANGES, aliases=("Euler a", "EulerAncestralDiscreteScheduler")
    ),
}
