"""DPM-Solver++: exponential integrators over the logarithm of the noise level."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from nodegraph_diffusion.sampling.declared import SamplerSpec
from nodegraph_diffusion.sampling.interface import Denoise, NoiseSource, OnStep

if TYPE_CHECKING:
    from torch import Tensor


def sample_dpmpp_2m(denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """DPM-Solver++(2M), the multistep solver of second order (Lu et al. 2022, "DPM-Solver++", Alg. 2).

    With lambda = -log sigma, one call of `denoise` a step: the estimate is extrapolated from the last two to the middle
    of the step. The first step and a step to noise level 0 are of first order.
    """
    previous: Tensor | None = None
    h_previous = math.inf
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        denoised = denoise(x, sigma)
        h = math.log(sigma / sigma_next) if sigma_next > 0 else math.inf  # lambda_next - lambda
        target = denoised
        if previous is not None and sigma_next > 0:
            target = denoised + (denoised - previous) * (h / (2 * h_previous))
        x = x * (sigma_next / sigma) - target * math.expm1(-h)
        previous, h_previous = denoised, h
        on_step(i, x, denoised)
    return x


SAMPLERS = {
    "dpmpp_2m": SamplerSpec(sample_dpmpp_2m, order=2, paper="Lu et al. 2022, arXiv:2211.01095", aliases=("DPM++ 2M",)),
}
