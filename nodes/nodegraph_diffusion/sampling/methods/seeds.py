"""SEEDS: exponential Runge-Kutta solvers of the reverse diffusion SDE, whose stages share the noise that they draw.

With lambda = -log sigma, the stages lie at parts of a step in lambda; the noise up to a stage is what the earlier ones drew,
faded, and a draw of its own.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from nodegraph_diffusion.denoising import Denoiser
from nodegraph_diffusion.sampling.methods.exponential import StepNoise, hold, phi_2
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

    In terms of the estimate.
    The first stage goes the part `r` of the step; the step is along the estimates at both ends of it, weighted 1 - 1 / (2 r) and
    1 / (2 r). Two draws a step. A step to noise level 0 ends at the estimate, with one call of `denoise`. `eta` is the part
    of the reverse SDE's noise: 0 is deterministic and of second order; `s_noise` scales the noise.
    Raises ValueError where eta or s_noise is negative, or r outside (0, 1).
    """
    require_at_least_0("seeds_2", eta=eta, s_noise=s_noise)
    if not 0 < r < 1:
        raise ValueError(f"sampler seeds_2: expected r between 0 and 1, found {r}; 0.5 is the middle of the step")
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        denoised = denoise(x, sigma)
        if sigma_next == 0:
            x = denoised
        else:
            fresh = StepNoise(noise, sigma, eta, s_noise)
            sigma_1 = _between(sigma, sigma_next, r)
            x_1 = hold(x, denoised, sigma, sigma_1, eta) + fresh.down_to(sigma_1)
            share = 1 / (2 * r)
            target = denoised * (1 - share) + denoise(x_1, sigma_1) * share
            x = hold(x, target, sigma, sigma_next, eta) + fresh.down_to(sigma_next)
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

    In terms of the estimate.
    The stages lie at the parts `r_1` and `r_2` of the step; the change of the estimate up to them is taken to be even, and
    integrated exactly. Three draws a step. A step to noise level 0 ends at the estimate, with one call of `denoise`. `eta` is the
    part of the reverse SDE's noise: 0 is deterministic, and of third order where r_2 is 2/3; `s_noise` scales the noise.
    Raises ValueError where eta or s_noise is negative, or unless 0 < r_1 < r_2 < 1.
    """
    require_at_least_0("seeds_3", eta=eta, s_noise=s_noise)
    if not 0 < r_1 < r_2 < 1:
        raise ValueError(f"sampler seeds_3: expected 0 < r_1 < r_2 < 1, found {r_1} and {r_2}; the defaults are 1/3 and 2/3")
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        denoised = denoise(x, sigma)
        if sigma_next == 0:
            x = denoised
        else:
            fresh = StepNoise(noise, sigma, eta, s_noise)
            h = (1 + eta) * math.log(sigma / sigma_next)
            sigma_1, sigma_2 = _between(sigma, sigma_next, r_1), _between(sigma, sigma_next, r_2)
            x_1 = hold(x, denoised, sigma, sigma_1, eta) + fresh.down_to(sigma_1)
            change_1 = denoise(x_1, sigma_1) - denoised
            x_2 = hold(x, denoised, sigma, sigma_2, eta) + change_1 * (r_2 / r_1 * phi_2(r_2 * h)) + fresh.down_to(sigma_2)
            change_2 = denoise(x_2, sigma_2) - denoised
            x = hold(x, denoised, sigma, sigma_next, eta) + change_2 * (phi_2(h) / r_2) + fresh.down_to(sigma_next)
        on_step(i, x, denoised)
    return x


def _between(sigma: float, sigma_next: float, part: float) -> float:
    """The noise level at a part of the step, in lambda."""
    return sigma * math.exp(part * math.log(sigma_next / sigma))


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
