"""DPM2: the midpoint method, with the midpoint in log sigma."""

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

    k-diffusion's `dpm_2`: the derivative at the middle of the step, in log sigma, is used for the whole step. Two calls of
    `denoise` a step. A step to noise level 0 has no middle in log sigma: it is an Euler step, with one call.

    `s_churn` above 0 adds noise before each step at a level between `s_tmin` and `s_tmax`: the level rises by the factor
    1 + min(`s_churn` / steps, 0.41). `s_noise` scales the noise; 1 is the exact amount. Raises ValueError if one of them is
    negative.
    """
    churn = Churn("dpm_2", len(sigmas) - 1, noise, s_churn=s_churn, s_tmin=s_tmin, s_tmax=s_tmax, s_noise=s_noise)
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        x, sigma_hat = churn(x, sigma)
        x, denoised = _midpoint_step(denoise, x, sigma_hat, sigma_next, dtype=sigmas.dtype)
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

    `eta` is the share of the posterior's noise that is added; 0 is `dpm_2`. `s_noise` scales the noise. Raises ValueError if
    either is negative.
    """
    require_at_least_0("dpm_2_ancestral", eta=eta, s_noise=s_noise)
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        sigma_down, sigma_up = ancestral_step(sigma, sigma_next, eta, sigmas.dtype)
        x, denoised = _midpoint_step(denoise, x, sigma, sigma_down, dtype=sigmas.dtype)
        if sigma_up > 0:
            x = x + noise(sigma, sigma_next) * (s_noise * sigma_up)
        on_step(i, x, denoised)
    return x


def _midpoint_step(denoise: Denoiser, x: Tensor, sigma: float, sigma_next: float, *, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """`x` at `sigma_next`, and the estimate of the clean latent at `sigma`."""
    denoised = denoise(x, sigma)
    d = (x - denoised) / sigma
    if sigma_next == 0:
        return x + d * (sigma_next - sigma), denoised
    sigma_mid = _midpoint(sigma, sigma_next, dtype)
    x_mid = x + d * (sigma_mid - sigma)
    d_mid = (x_mid - denoise(x_mid, sigma_mid)) / sigma_mid
    return x + d_mid * (sigma_next - sigma), denoised


def _midpoint(sigma: float, sigma_next: float, dtype: torch.dtype) -> float:
    """The noise level halfway between two others, in log sigma.

    Computed in `dtype`, that of the levels, as in k-diffusion: on even schedules it can be halfway between two training steps, and
    rounding decides which of them the network receives.
    """
    import torch

    log_from, log_to = torch.tensor([sigma, sigma_next], dtype=dtype).log()
    return float(log_from.lerp(log_to, 0.5).exp())


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
