"""SEEDS: exponential Runge-Kutta solvers of the reverse diffusion SDE (Gonzalez et al. 2023).

Over lambda = -log sigma, the stages of a step are at lambda + r h. The noise of a stage contains that of the earlier stages, scaled
down, and a draw for the interval since the last one.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from nodegraph_diffusion.denoising import Denoiser
from nodegraph_diffusion.sampling.methods.exponential import SDENoise, exponential_euler_step, phi_2
from nodegraph_diffusion.sampling.options import NOISE_RANGES, require_at_least_0
from nodegraph_diffusion.sampling.protocols import NoiseSource, OnStep
from nodegraph_diffusion.sampling.spec import SamplerSpec

if TYPE_CHECKING:
    from torch import Tensor


def sample_seeds_2(
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
    """SEEDS-2, of two stages (Gonzalez et al. 2023).

    With data prediction. The stage is at lambda + `r` h; the step uses the estimates at its start and at the stage, weighted 1 - 1
    / (2 r) and 1 / (2 r). Two draws a step. A step to noise level 0 ends at the estimate, with one call of `denoise`. `eta` is the
    share of the reverse SDE's noise; 0 is deterministic and of second order. `s_noise` scales the noise. Raises ValueError if eta
    or s_noise is negative, or r outside (0, 1).
    """
    require_at_least_0("seeds_2", eta=eta, s_noise=s_noise)
    if not 0 < r < 1:
        raise ValueError(f"sampler seeds_2: expected r between 0 and 1, found {r}; 0.5 is the middle of the step")
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        denoised = denoise(x, sigma)
        if sigma_next == 0:
            x = denoised
        else:
            sde_noise = SDENoise(noise, sigma, eta, s_noise)
            sigma_1 = _stage_sigma(sigma, sigma_next, r)
            x_1 = exponential_euler_step(x, denoised, sigma, sigma_1, eta=eta) + sde_noise.at(sigma_1)
            factor = 1 / (2 * r)
            d = denoised * (1 - factor) + denoise(x_1, sigma_1) * factor
            x = exponential_euler_step(x, d, sigma, sigma_next, eta=eta) + sde_noise.at(sigma_next)
        on_step(i, x, denoised)
    return x


def sample_seeds_3(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: OnStep,
    eta: float = 1.0,
    s_noise: float = 1.0,
    r_1: float = 1 / 3,
    r_2: float = 2 / 3,
) -> Tensor:
    """SEEDS-3, of three stages (Gonzalez et al. 2023).

    With data prediction. The stages are at lambda + `r_1` h and lambda + `r_2` h; the estimate is taken to change linearly up to
    them, and integrated exactly. Three draws a step. A step to noise level 0 ends at the estimate, with one call of `denoise`.
    `eta` is the share of the reverse SDE's noise; 0 is deterministic, and of third order if r_2 is 2/3. `s_noise` scales the noise.
    Raises ValueError if eta or s_noise is negative, or unless 0 < r_1 < r_2 < 1.
    """
    require_at_least_0("seeds_3", eta=eta, s_noise=s_noise)
    if not 0 < r_1 < r_2 < 1:
        raise ValueError(f"sampler seeds_3: expected 0 < r_1 < r_2 < 1, found {r_1} and {r_2}; the defaults are 1/3 and 2/3")
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        denoised = denoise(x, sigma)
        if sigma_next == 0:
            x = denoised
        else:
            sde_noise = SDENoise(noise, sigma, eta, s_noise)
            h = (1 + eta) * math.log(sigma / sigma_next)
            sigma_1, sigma_2 = _stage_sigma(sigma, sigma_next, r_1), _stage_sigma(sigma, sigma_next, r_2)
            x_1 = exponential_euler_step(x, denoised, sigma, sigma_1, eta=eta) + sde_noise.at(sigma_1)
            d_1 = denoise(x_1, sigma_1) - denoised
            x_2 = exponential_euler_step(x, denoised, sigma, sigma_2, eta=eta)
            x_2 = x_2 + d_1 * (r_2 / r_1 * phi_2(r_2 * h)) + sde_noise.at(sigma_2)
            d_2 = denoise(x_2, sigma_2) - denoised
            x = exponential_euler_step(x, denoised, sigma, sigma_next, eta=eta)
            x = x + d_2 * (phi_2(h) / r_2) + sde_noise.at(sigma_next)
        on_step(i, x, denoised)
    return x


def _stage_sigma(sigma: float, sigma_next: float, r: float) -> float:
    """The noise level at lambda + r h."""
    return sigma * math.exp(r * math.log(sigma_next / sigma))


PAPER = "Gonzalez et al. 2023, arXiv:2305.14267"

SAMPLERS = {
    "seeds_2": SamplerSpec(
        sample_seeds_2,
        stochastic=True,
        evaluations_per_step=2,
        paper=PAPER,
        ranges={**NOISE_RANGES, "r": (1e-3, 0.999)},
        aliases=("SEEDS-2",),
    ),
    "seeds_3": SamplerSpec(
        sample_seeds_3,
        stochastic=True,
        evaluations_per_step=3,
        paper=PAPER,
        ranges={**NOISE_RANGES, "r_1": (1e-3, 0.999), "r_2": (1e-3, 0.999)},
        aliases=("SEEDS-3",),
    ),
}
