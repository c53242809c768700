"""DEIS: the diffusion exponential integrator sampler."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from nodegraph_diffusion.denoising import Denoiser
from nodegraph_diffusion.sampling.methods.multistep import ORDERS, adams_weights, require_order
from nodegraph_diffusion.sampling.protocols import NoiseSource, OnStep
from nodegraph_diffusion.sampling.spec import SamplerSpec

if TYPE_CHECKING:
    from torch import Tensor

_SIGMA_MIN, _SIGMA_MAX, _TIME_MIN = 0.002, 80.0, 1e-3  # of the process whose time is taken, at the times _TIME_MIN and 1
_FIRST, _LAST = math.log1p(_SIGMA_MIN**2), math.log1p(_SIGMA_MAX**2)
_BETA_D = 2 * (_FIRST / _TIME_MIN - _LAST) / (_TIME_MIN - 1)
_BETA_MIN = _LAST - _BETA_D / 2


def sample_deis(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: OnStep,
    max_order: int = 3,
    deis_mode: Literal["tab", "rhoab"] = "tab",
    integration_points: int = 10_000,
) -> Tensor:
    """DEIS: the predicted noise as a polynomial (Zhang & Chen 2022).

    tAB- and rhoAB-DEIS: the predicted noise is taken for a polynomial through the last few.
    A polynomial in time with `tab`, the time of the variance-preserving process as Karras et al. 2022 (Table 1) write it, between
    the levels 0.002 and 80; in sigma with `rhoab`, which makes this `lms`. The integrals in time are sums over
    `integration_points` from one end of the step to the other, each a step's part long, as in the code that ComfyUI has from the
    authors of AMED-Solver: they err by about one part in as many. Those in sigma are exact.
    One call of `denoise` a step; the first steps are of lower order, so that the whole is of second order in the limit, and
    the first one and one to noise level 0 are Euler's.
    Raises ValueError unless `max_order` is between 1 and 4 and `integration_points` at least 2.
    """
    require_order("deis", "max_order", max_order)
    if integration_points < 2:
        raise ValueError(f"sampler deis: expected at least 2 integration_points, found {integration_points}; 10000 is usual")
    levels = sigmas.tolist()
    slopes: list[Tensor] = []
    for i, (sigma, sigma_next) in enumerate(pairwise(levels)):
        denoised = denoise(x, sigma)
        slopes = [(x - denoised) / sigma, *slopes[: max_order - 1]]
        behind = levels[i::-1][: len(slopes)]
        if len(slopes) == 1 or sigma_next == 0:
            weights = [sigma_next - sigma]
        elif deis_mode == "tab":
            weights = _summed_weights(behind, sigma_next, integration_points)
        else:
            weights = adams_weights(behind, sigma_next)
        for slope, weight in zip(slopes, weights, strict=False):
            x = x + slope * weight
        on_step(i, x, denoised)
    return x


def _summed_weights(levels: Sequence[float], sigma_next: float, points: int) -> list[float]:
    """What each slope counts in a step from `levels[0]`, where they are taken to be the polynomial in time through `levels`."""
    import torch

    times = [_time(sigma) for sigma in levels]
    width = (_time(sigma_next) - times[0]) / points
    now = torch.linspace(times[0], _time(sigma_next), points, dtype=torch.float64)
    growth = (_BETA_D / 2 * now**2 + _BETA_MIN * now).expm1()  # sigma^2
    speed = (_BETA_D * now + _BETA_MIN) * (growth + 1) / (2 * growth.sqrt())  # of sigma
    weights = []
    for j, time in enumerate(times):
        basis = torch.ones_like(now)
        for k, other in enumerate(times):
            if k != j:
                basis = basis * ((now - other) / (time - other))
        weights.append(float((basis * speed).sum()) * width)
    return weights


def _time(sigma: float) -> float:
    """When the process is at a noise level: sigma(t)^2 = exp(beta_d / 2 * t^2 + beta_min * t) - 1, solved for t."""
    return (math.sqrt(_BETA_MIN**2 + 2 * _BETA_D * math.log1p(sigma**2)) - _BETA_MIN) / _BETA_D


SAMPLERS = {
    "deis": SamplerSpec(
        sample_deis,
        order=2,
        paper="Zhang & Chen 2022, arXiv:2204.13902",
        ranges={"max_order": ORDERS, "integration_points": (2, None)},
        aliases=("DEIS", "DEISMultistepScheduler"),
    ),
}
