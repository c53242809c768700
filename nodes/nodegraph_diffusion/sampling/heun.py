"""Heun's method."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from nodegraph_diffusion.sampling.interface import Denoise, NoiseSource, OnStep

if TYPE_CHECKING:
    from torch import Tensor


def sample_heun(denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """Heun's method on dx/dsigma = (x - denoised) / sigma (Karras et al. 2022, Alg. 2 without churn): second order.

    Two calls of `denoise` a step, but one for a step to noise level 0, where the slope at the end is not defined.
    """
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        denoised = denoise(x, sigma)
        slope = (x - denoised) / sigma
        x_euler = x + slope * (sigma_next - sigma)
        if sigma_next == 0:
            x = x_euler
        else:
            slope_end = (x_euler - denoise(x_euler, sigma_next)) / sigma_next
            x = x + (slope + slope_end) / 2 * (sigma_next - sigma)
        on_step(i, x, denoised)
    return x
