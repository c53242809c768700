"""Euler's method, and its ancestral variant that puts fresh noise in for some of what it takes out."""

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

    On dx/dsigma = (x - denoised) / sigma; Alg. 2 without its correction.
    `s_churn` above 0 puts in noise before each step at a level of at least `s_tmin` and at most `s_tmax`, which raises the level
    by the part `s_churn` / steps, or 0.41 where that is less; `s_noise` scales the noise, 1 being the right amount. Raises
    ValueError where one of them is negative.
    """
    churn = Churn("euler", len(sigmas) - 1, noise, s_churn, s_tmin, s_tmax, s_noise)
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        x, sigma_hat = churn(x, sigma)
        denoised = denoise(x, sigma_hat)
        slope = (x - denoised) / sigma_hat
        x = x + slope * (sigma_next - sigma_hat)
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

    k-diffusion's `euler_ancestral`.
    `eta` is the share of the posterior's noise that is put in: 0 is `euler`, 1 samples the posterior of a denoiser that
    is sure of itself, which makes the step that of `ddpm`. `s_noise` scales the noise itself, 1 being the right amount.
    Raises ValueError where either is negative.
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
    """Where to step down to, and how much noise leads from there up to `sigma_next`: `down^2 + up^2 = sigma_next^2`.

    At `eta` 1, `up` is the standard deviation of x(sigma_next) given x(sigma) and the clean latent (Ho et al. 2020,
    Eq. 7, in the variance-exploding convention). `dtype` is that of the noise levels, and k-diffusion computes in it: of a `down`
    that is small beside `up` little but rounding is left, and it says where a network is asked.
    """
    if eta == 0 or sigma_next == 0:
        return sigma_next, 0.0
    import torch

    start, end = torch.tensor([sigma, sigma_next], dtype=dtype)
    up = min(end, eta * (end**2 * (start**2 - end**2) / start**2) ** 0.5)
    return float((end**2 - up**2) ** 0.5), float(up)


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
