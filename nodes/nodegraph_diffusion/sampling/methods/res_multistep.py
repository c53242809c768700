"""RES: the refined exponential solver of second order, as a multistep method (Zhang et al. 2023)."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from nodegraph_diffusion.denoising import Denoiser, GuidedDenoiser
from nodegraph_diffusion.sampling.methods.cfg_pp import PAPER as CFG_PP_PAPER
from nodegraph_diffusion.sampling.methods.cfg_pp import estimates
from nodegraph_diffusion.sampling.methods.euler import ancestral_step
from nodegraph_diffusion.sampling.options import NOISE_RANGES, require_at_least_0
from nodegraph_diffusion.sampling.protocols import NoiseSource, OnStep
from nodegraph_diffusion.sampling.spec import SamplerSpec

if TYPE_CHECKING:
    from torch import Tensor

PAPER = "Zhang et al. 2023, arXiv:2308.02157"


def sample_res_multistep(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """The refined exponential solver (RES), multistep, of second order.

    Zhang et al. 2023, "Improved Order Analysis and Design of Exponential Integrator for Diffusion Models Sampling". It uses the
    last two estimates. One call of `denoise` a step. The first step and a step to noise level 0 are Euler's.
    """
    return _res_multistep(denoise, x, sigmas, noise=noise, on_step=on_step, eta=0.0, s_noise=1.0, cfg_pp=False)


def sample_res_multistep_cfg_pp(
    denoise: GuidedDenoiser, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: OnStep
) -> Tensor:
    """`res_multistep` with CFG++.

    It adds the noise of the negative prediction to the guided estimate (see `euler_cfg_pp`).
    """
    return _res_multistep(denoise, x, sigmas, noise=noise, on_step=on_step, eta=0.0, s_noise=1.0, cfg_pp=True)


def sample_res_multistep_ancestral(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: OnStep,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Tensor:
    """A `res_multistep` step to below the next level, then noise back up to it.

    `eta` is the share of the posterior's noise that is added; 0 is `res_multistep`. `s_noise` scales the noise. Raises ValueError
    if either is negative.
    """
    require_at_least_0("res_multistep_ancestral", eta=eta, s_noise=s_noise)
    return _res_multistep(denoise, x, sigmas, noise=noise, on_step=on_step, eta=eta, s_noise=s_noise, cfg_pp=False)


def sample_res_multistep_ancestral_cfg_pp(
    denoise: GuidedDenoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: OnStep,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Tensor:
    """`res_multistep_ancestral` with CFG++, and its options.

    See `res_multistep_cfg_pp`. Raises ValueError if `eta` or `s_noise` is negative.
    """
    require_at_least_0("res_multistep_ancestral_cfg_pp", eta=eta, s_noise=s_noise)
    return _res_multistep(denoise, x, sigmas, noise=noise, on_step=on_step, eta=eta, s_noise=s_noise, cfg_pp=True)


def _res_multistep(
    denoise: Any,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: OnStep,
    eta: float,
    s_noise: float,
    cfg_pp: bool,
) -> Tensor:
    """Over lambda = -log sigma; c2, phi_1, phi_2 and b2 are the paper's. `unguided` is the negative prediction with CFG++."""
    estimate = estimates(denoise, cfg_pp)
    unguided_previous: Tensor | None = None
    sigma_previous = sigma_down_previous = math.nan
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        denoised, unguided = estimate(x, sigma)
        sigma_down, sigma_up = ancestral_step(sigma, sigma_next, eta, sigmas.dtype)
        if unguided_previous is None or sigma_down == 0:
            d = (x - unguided) / sigma
            x = denoised + d * sigma_down if cfg_pp else x + d * (sigma_down - sigma)
        else:
            h = math.log(sigma / sigma_down)
            c2 = math.log(sigma_down_previous / sigma_previous) / h  # the last estimate is at lambda + c2 h, and c2 < 0
            phi_1 = -math.expm1(-h) / h
            phi_2 = (1 - phi_1) / h
            b2 = phi_2 / c2
            x = (x + (denoised - unguided)) * math.exp(-h) + (unguided * (phi_1 - b2) + unguided_previous * b2) * h
        if sigma_up > 0:
            x = x + noise(sigma, sigma_next) * (s_noise * sigma_up)
        unguided_previous, sigma_previous, sigma_down_previous = unguided, sigma, sigma_down
        on_step(i, x, denoised)
    return x


SAMPLERS = {
    "res_multistep": SamplerSpec(sample_res_multistep, order=2, paper=PAPER, aliases=("RES multistep",)),
    "res_multistep_cfg_pp": SamplerSpec(sample_res_multistep_cfg_pp, order=2, paper=f"{PAPER}; {CFG_PP_PAPER}"),
    "res_multistep_ancestral": SamplerSpec(sample_res_multistep_ancestral, stochastic=True, paper=PAPER, ranges=NOISE_RANGES),
    "res_multistep_ancestral_cfg_pp": SamplerSpec(
        sample_res_multistep_ancestral_cfg_pp, stochastic=True, paper=f"{PAPER}; {CFG_PP_PAPER}", ranges=NOISE_RANGES
    ),
}
