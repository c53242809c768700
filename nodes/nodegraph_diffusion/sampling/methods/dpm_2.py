"""DPM2: the midpoint method, with the middle taken in the logarithm of the noise level."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from nodegraph_diffusion.denoising import Denoiser
from nodegraph_diffusion.sampling.methods.churn import CHURN, Churn
from nodegraph_diffusion.sampling.methods.euler import ancestral_step
from nodegraph_diffusion.sampling.options import NOISE_RANGES, require_at_least_0
from nodegraph_diffusion.sampling.protocols import NoiseSource, OnStep
from nodegraph_diffusion.sampling.spec import SamplerSpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PAPER = "Lu et al. 2022, arXiv:2206.00927; Karras et al. 2022, arXiv:2206.00364"


def sample_dpm_2(
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
    """The midpoint method in log sigma, after DPM-Solver-2: second order.

    k-diffusion's `dpm_2`: the slope of the whole step is that in its middle by log sigma.
    Two calls of `denoise` a step, but one for a step to noise level 0, which has no middle and is Euler's.

    `s_churn` above 0 puts in noise before each step at a level of at least `s_tmin` and at most `s_tmax`, which raises the level
    by the part `s_churn` / steps, or 0.41 where that is less; `s_noise` scales the noise, 1 being the right amount. Raises
    ValueError where one of them is negative.
    """
    churn = Churn("dpm_2", len(sigmas) - 1, noise, s_churn, s_tmin, s_tmax, s_noise)
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        x, sigma_hat = churn(x, sigma)
        x, denoised = _midpoint_step(denoise, x, sigma_hat, sigma_next, sigmas.dtype)
        on_step(i, x, denoised)
    return x


def sample_dpm_2_ancestral(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: OnStep,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Tensor:
    """A step of `dpm_2` to below the next noise level, then noise back up to it.

    `eta` is the share of the posterior's noise that is put in, 0 being `dpm_2`; `s_noise` scales the noise itself.
    Raises ValueError where either is negative.
    """
    require_at_least_0("dpm_2_ancestral", eta=eta, s_noise=s_noise)
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        sigma_down, sigma_up = ancestral_step(sigma, sigma_next, eta, sigmas.dtype)
        x, denoised = _midpoint_step(denoise, x, sigma, sigma_down, sigmas.dtype)
        if sigma_up > 0:
            x = x + noise(sigma, sigma_next) * (s_noise * sigma_up)
        on_step(i, x, denoised)
    return x


def _midpoint_step(denoise: Denoiser, x: Tensor, sigma: float, sigma_next: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """`x` taken from `sigma` to `sigma_next`, and the estimate of the clean latent at the start."""
    denoised = denoise(x, sigma)
    slope = (x - denoised) / sigma
    if sigma_next == 0:
        return x + slope * (sigma_next - sigma), denoised
    sigma_middle = _middle(sigma, sigma_next, dtype)
    x_middle = x + slope * (sigma_middle - sigma)
    slope = (x_middle - denoise(x_middle, sigma_middle)) / sigma_middle
    return x + slope * (sigma_next - sigma), denoised


def _middle(sigma: float, sigma_next: float, dtype: torch.dtype) -> float:
    """The noise level in the middle by its logarithm.

    In the `dtype` of the levels, as k-diffusion computes it: at eta 1, that is the level that the noise leads up to, which on even
    schedules lies halfway between two training steps, where rounding decides which one the network is told of.
    """
    import torch

    start, end = torch.tensor([sigma, sigma_next], dtype=dtype).log()
    return float(start.lerp(end, 0.5).exp())


SAMPLERS = {
    "dpm_2": SamplerSpec(
        sample_dpm_2,
        order=2,
        evaluations_per_step=2,
        paper=PAPER,
        discard_penultimate=True,
        ranges=CHURN,
        aliases=("DPM2", "KDPM2DiscreteScheduler"),
    ),
    "dpm_2_ancestral": SamplerSpec(
        sample_dpm_2_ancestral,
        stochastic=True,
        evaluations_per_step=2,
        paper=PAPER,
        discard_penultimate=True,
        ranges=NOISE_RANGES,
        aliases=("DPM2 a", "KDPM2AncestralDiscreteScheduler"),
    ),
}
