"""DEIS: the diffusion exponential integrator sampler."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from nodegraph_diffusion.sampling.declared import SamplerSpec
from nodegraph_diffusion.sampling.interface import Denoise, NoiseSource, OnStep
from nodegraph_diffusion.sampling.multistep import ORDERS, adams_weights, require_order

if TYPE_CHECKING:
    from torch import Tensor

_SIGMA_MIN, _SIGMA_MAX, _TIME_MIN = 0.002, 80.0, 1e-3  # of the process whose time is taken, at the times _TIME_MIN and 1


def sample_deis(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: OnStep,
    max_order: int = 3,
    deis_mode: Literal["tab", "rhoab"] = "tab",
) -> Tensor:
    """DEIS: the predicted noise as a polynomial (Zhang & Chen 2022).

    tAB- and rhoAB-DEIS: the predicted noise is taken for a polynomial through the last few.
    A polynomial in time with `tab`, the time of the variance-preserving process as Karras et al. 2022 (Table 1) write it, between
    the levels 0.002 and 80; in sigma with `rhoab`, which makes this `lms`. The integrals are exact, where ComfyUI sums 10000 terms.
    One call of `denoise` a step; the first steps are of lower order, so that the whole is of second order in the limit, and
    a step to noise level 0 is Euler's.
    Raises ValueError unless `max_order` is between 1 and 4.
    """
    require_order("deis", "max_order", max_order)
    time = _time if deis_mode == "tab" else float
    levels = sigmas.tolist()
    slopes: list[Tensor] = []
    for i, (sigma, sigma_next) in enumerate(pairwise(levels)):
        denoised = denoise(x, sigma)
        slopes = [(x - denoised) / sigma, *slopes[: max_order - 1]]
        if sigma_next == 0:
            x = x + slopes[0] * (sigma_next - sigma)
        else:
            for slope, weight in zip(slopes, adams_weights(levels[i::-1][: len(slopes)], sigma_next, time), strict=True):
                x = x + slope * weight
        on_step(i, x, denoised)
    return x


def _time(sigma: float) -> float:
    """When the process is at a noise level: sigma(t)^2 = exp(beta_d / 2 * t^2 + beta_min * t) - 1, solved for t."""
    first, last = math.log1p(_SIGMA_MIN**2), math.log1p(_SIGMA_MAX**2)
    beta_d = 2 * (first / _TIME_MIN - last) / (_TIME_MIN - 1)
    beta_min = last - beta_d / 2
    return (math.sqrt(beta_min**2 + 2 * beta_d * math.log1p(sigma**2)) - beta_min) / beta_d


SAMPLERS = {
    "deis": SamplerSpec(
        sample_deis,
        order=2,
        paper="Zhang & Chen 2022, arXiv:2204.13902",
        ranges={"max_order": ORDERS},
        aliases=("DEIS", "DEISMultistepScheduler"),
    ),
}
