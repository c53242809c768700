"""DPM-Solver++ of two calls a step: the singlestep solver with ancestral noise, and the one with a Brownian path.

From level s to t, at lambda = -log sigma, an exponential Euler step is x * t / s + denoised * (1 - t / s).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from nodegraph_diffusion.denoising import Denoiser, GuidedDenoiser
from nodegraph_diffusion.sampling.methods.euler import ancestral_step
from nodegraph_diffusion.sampling.options import NOISE_RANGES, require_at_least_0
from nodegraph_diffusion.sampling.protocols import NoiseSource, OnStep
from nodegraph_diffusion.sampling.spec import SamplerSpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def sample_dpmpp_2s_ancestral(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: OnStep, eta: float = 1.0, s_noise: float = 1.0
) -> Tensor:
    """A DPM-Solver++(2S) step to below the next level, then noise back up.

    Lu et al. 2022, Alg. 1; k-diffusion's noise.
    Second order at `eta` 0, where it draws nothing: the estimate in the middle of the step, in lambda, is the step's. A step to
    noise level 0 ends at the estimate, with one call of `denoise` instead of two. `eta` is the share of the posterior's noise that
    is put in (see `euler_ancestral`), `s_noise` scales it. Raises ValueError where either is negative.
    """
    require_at_least_0("dpmpp_2s_ancestral", eta=eta, s_noise=s_noise)
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        denoised = denoise(x, sigma)
        sigma_down, sigma_up = ancestral_step(sigma, sigma_next, eta, sigmas.dtype)
        if sigma_down == 0:
            x = x + (x - denoised) / sigma * (sigma_down - sigma)  # the estimate, rounded as in k-diffusion
        else:
            sigma_middle = _level_between(sigma, sigma_down, 0.5, sigmas.dtype)
            x_middle = _toward(denoised, x, sigma_middle / sigma)
            x = _toward(denoise(x_middle, sigma_middle), x, sigma_down / sigma)
        if sigma_up > 0:
            x = x + noise(sigma, sigma_next) * (s_noise * sigma_up)
        on_step(i, x, denoised)
    return x


def sample_dpmpp_2s_ancestral_cfg_pp(
    denoise: GuidedDenoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: OnStep,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Tensor:
    """`dpmpp_2s_ancestral` with CFG++ (Chung et al. 2024).

    The noise that stays is the negative side's.
    Both halves of a step shift the latent by the first guided estimate less what the negative side saw last: in the second half
    that is what it saw in the middle, as in ComfyUI. So, without guidance, the difference of these two remains: it is not
    `dpmpp_2s_ancestral` then, and on data whose answer is known (a Gaussian) the pictures vary a fifth less than the data, however
    many the steps. Options as there; CFG++ wants a small cfg: 0.4 to 1. Raises ValueError where one is negative.
    """
    require_at_least_0("dpmpp_2s_ancestral_cfg_pp", eta=eta, s_noise=s_noise)
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        denoised, _, negative = denoise.predict(x, sigma)
        sigma_down, sigma_up = ancestral_step(sigma, sigma_next, eta, sigmas.dtype)
        if sigma_down == 0:
            x = denoised
        else:
            sigma_middle = _level_between(sigma, sigma_down, 0.5, sigmas.dtype)
            x_middle = _toward(denoised, x + (denoised - negative), sigma_middle / sigma)
            denoised_middle, _, negative_middle = denoise.predict(x_middle, sigma_middle)
            x = _toward(denoised_middle, x + (denoised - negative_middle), sigma_down / sigma)
        if sigma_up > 0:
            x = x + noise(sigma, sigma_next) * (s_noise * sigma_up)
        on_step(i, x, denoised)
    return x


def sample_dpmpp_sde(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: OnStep,
    eta: float = 1.0,
    s_noise: float = 1.0,
    r: float = 0.5,
) -> Tensor:
    """DPM-Solver++ for the SDE, singlestep (Lu et al. 2022, App. A.1).

    In k-diffusion's form of two ancestral steps.
    Two calls of `denoise` a step: one ancestral step to the part `r` of it, in lambda, then the whole step along the estimates of
    both, weighted 1 - 1 / (2 r) and 1 / (2 r). Both draw the noise of one Brownian path. A step to noise level 0 ends at the
    estimate. `eta` is the share of the posterior's noise, 0 draws none and is of second order; `s_noise` scales the noise.
    Raises ValueError where eta or s_noise is negative, or r outside (0, 1].
    """
    require_at_least_0("dpmpp_sde", eta=eta, s_noise=s_noise)
    if not 0 < r <= 1:
        raise ValueError(f"sampler dpmpp_sde: expected r above 0 and at most 1, found {r}; 0.5 is the middle of the step")
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        denoised = denoise(x, sigma)
        if sigma_next == 0:
            x = denoised
        else:
            sigma_middle = _level_between(sigma, sigma_next, r, sigmas.dtype)
            x_middle = _ancestral(denoised, x, sigma, sigma_middle, noise, eta, s_noise, sigmas.dtype)
            share = 1 / (2 * r)
            target = denoised * (1 - share) + denoise(x_middle, sigma_middle) * share
            x = _ancestral(target, x, sigma, sigma_next, noise, eta, s_noise, sigmas.dtype)
        on_step(i, x, denoised)
    return x


def _ancestral(
    target: Tensor, x: Tensor, sigma: float, sigma_next: float, noise: NoiseSource, eta: float, s_noise: float, dtype: torch.dtype
) -> Tensor:
    """An exponential Euler step to below `sigma_next`, and noise back up to it."""
    sigma_down, sigma_up = ancestral_step(sigma, sigma_next, eta, dtype)
    x = _toward(target, x, sigma_down / sigma)
    return x + noise(sigma, sigma_next) * (s_noise * sigma_up) if eta > 0 and s_noise > 0 else x


def _toward(target: Tensor, x: Tensor, kept: float) -> Tensor:
    return x * kept + target * (1 - kept)


def _level_between(sigma: float, sigma_next: float, r: float, dtype: torch.dtype) -> float:
    """The noise level at the part `r` of a step in lambda.

    In the `dtype` of the levels, as k-diffusion computes it: a Brownian path is rough enough to show the last bit of a level, and
    what lies halfway between two training steps is told to the network as the one that rounding decides.
    """
    import torch

    start, end = -torch.tensor([sigma, sigma_next], dtype=dtype).log()
    return float((start + r * (end - start)).neg().exp())


SAMPLERS = {
    "dpmpp_2s_ancestral": SamplerSpec(
        sample_dpmpp_2s_ancestral,
        stochastic=True,
        evaluations_per_step=2,
        paper="Lu et al. 2022, arXiv:2211.01095, Alg. 1",
        ranges=NOISE_RANGES,
        aliases=("DPM++ 2S a", "DPMSolverSinglestepScheduler"),
    ),
    "dpmpp_2s_ancestral_cfg_pp": SamplerSpec(
        sample_dpmpp_2s_ancestral_cfg_pp,
        stochastic=True,
        evaluations_per_step=2,
        paper="Chung et al. 2024, arXiv:2406.08070",
        ranges=NOISE_RANGES,
        aliases=("DPM++ 2S a CFG++",),
    ),
    "dpmpp_sde": SamplerSpec(
        sample_dpmpp_sde,
        stochastic=True,
        evaluations_per_step=2,
        paper="Lu et al. 2022, arXiv:2211.01095",
        noise="brownian",
        ranges={**NOISE_RANGES, "r": (1e-3, 1.0)},
        aliases=("dpmpp_sde_gpu", "DPM++ SDE", "DPMSolverSDEScheduler"),
    ),
}
