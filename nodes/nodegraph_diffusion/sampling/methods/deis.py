"""DEIS: the diffusion exponential integrator sampler (Zhang & Chen 2022)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from nodegraph_diffusion.denoising import Denoiser
from nodegraph_diffusion.sampling.methods.multistep import ORDER_RANGE, adams_bashforth_coefficients, require_order
from nodegraph_diffusion.sampling.protocols import NoiseSource, OnStep
from nodegraph_diffusion.sampling.spec import SamplerSpec

if TYPE_CHECKING:
    from torch import Tensor

# the variance-preserving process of Karras et al. 2022 (Table 1), with noise level 0.002 at time 1e-3 and 80 at time 1
_SIGMA_MIN, _SIGMA_MAX, _T_MIN = 0.002, 80.0, 1e-3
_LOG_FIRST, _LOG_LAST = math.log1p(_SIGMA_MIN**2), math.log1p(_SIGMA_MAX**2)
_BETA_D = 2 * (_LOG_FIRST / _T_MIN - _LOG_LAST) / (_T_MIN - 1)
_BETA_MIN = _LOG_LAST - _BETA_D / 2


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

    tAB- and rhoAB-DEIS integrate the polynomial through the last few noise predictions. With `tab` it is a polynomial in time t:
    that of the variance-preserving process of Karras et al. 2022 (Table 1) between the levels 0.002 and 80. With `rhoab` it is one
    in sigma, which makes this `lms`. The integrals in t are sums over `integration_points` from one end of the step to the other,
    each weighted with the same part of the step, as in AMED-Solver's code and in ComfyUI: their relative error is about
    1 / `integration_points`. Those in sigma are exact.

    One call of `denoise` a step. The first steps have a lower order, so that the whole converges with second order; the first step
    and a step to noise level 0 are Euler's. Raises ValueError unless `max_order` is between 1 and 4 and `integration_points` at
    least 2.
    """
    require_order("deis", "max_order", max_order)
    if integration_points < 2:
        raise ValueError(f"sampler deis: expected at least 2 integration_points, found {integration_points}; 10000 is usual")
    levels = sigmas.tolist()
    epsilons: list[Tensor] = []  # newest first
    for i, (sigma, sigma_next) in enumerate(pairwise(levels)):
        denoised = denoise(x, sigma)
        epsilons = [(x - denoised) / sigma, *epsilons[: max_order - 1]]
        previous = levels[i::-1][: len(epsilons)]
        if len(epsilons) == 1 or sigma_next == 0:
            coefficients = [sigma_next - sigma]
        elif deis_mode == "tab":
            coefficients = _tab_coefficients(previous, sigma_next, integration_points)
        else:
            coefficients = adams_bashforth_coefficients(previous, sigma_next)
        for epsilon, coefficient in zip(epsilons, coefficients, strict=False):
            x = x + epsilon * coefficient
        on_step(i, x, denoised)
    return x


def _tab_coefficients(sigmas: Sequence[float], sigma_next: float, points: int) -> list[float]:
    """The coefficients of tAB-DEIS for a step from `sigmas[0]`, newest first: the integrals of l_j(t) dsigma/dt.

    l_j is the Lagrange polynomial in t over the times of `sigmas`.
    """
    import torch

    times = [_time(sigma) for sigma in sigmas]
    dt = (_time(sigma_next) - times[0]) / points
    t = torch.linspace(times[0], _time(sigma_next), points, dtype=torch.float64)
    sigma_squared = (_BETA_D / 2 * t**2 + _BETA_MIN * t).expm1()
    dsigma_dt = (_BETA_D * t + _BETA_MIN) * (sigma_squared + 1) / (2 * sigma_squared.sqrt())
    coefficients = []
    for j, t_j in enumerate(times):
        l_j = torch.ones_like(t)
        for k, t_k in enumerate(times):
            if k != j:
                l_j = l_j * ((t - t_k) / (t_j - t_k))
        coefficients.append(float((l_j * dsigma_dt).sum()) * dt)
    return coefficients


def _time(sigma: float) -> float:
    """The time t of a noise level: sigma(t)^2 = exp(beta_d / 2 * t^2 + beta_min * t) - 1, solved for t."""
    return (math.sqrt(_BETA_MIN**2 + 2 * _BETA_D * math.log1p(sigma**2)) - _BETA_MIN) / _BETA_D


SAMPLERS = {
    "deis": SamplerSpec(
        sample_deis,
        order=2,
        paper="Zhang & Chen 2022, arXiv:2204.13902",
        ranges={"max_order": ORDER_RANGE, "integration_points": (2, None)},
        aliases=("DEIS", "DEISMultistepScheduler"),
    ),
}
