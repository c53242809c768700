"""DPM-Solver: singlestep exponential integrators of the predicted noise (Lu et al. 2022, "DPM-Solver").

Over lambda = -log sigma, in the latents of this package, whose scale does not change with the noise level: the paper's alpha is 1
and its epsilon the slope dx/dsigma = (x - denoised) / sigma.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from nodegraph_diffusion.sampling.declared import SamplerSpec
from nodegraph_diffusion.sampling.euler import ancestral_step
from nodegraph_diffusion.sampling.interface import Denoise, NoiseSource, OnStep
from nodegraph_diffusion.sampling.options import NOISE, require_at_least_0

if TYPE_CHECKING:
    from torch import Tensor

PAPER = "Lu et al. 2022, arXiv:2206.00927"


def sample_dpm_solver_3(denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """Singlestep DPM-Solver-3 (Lu et al. 2022, Alg. 2): third order.

    With r1 = 1/3 and r2 = 2/3.
    Three calls of `denoise` a step, but one for a step to noise level 0, which has no middle and is Euler's.
    """
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        denoised = denoise(x, sigma)
        x = solver_step(3, denoise, x, (x - denoised) / sigma, sigma, sigma_next) if sigma_next > 0 else denoised
        on_step(i, x, denoised)
    return x


def sample_dpm_fast(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: OnStep,
    eta: float = 0.0,
    s_noise: float = 1.0,
) -> Tensor:
    """DPM-Solver-fast: three calls a step (Lu et al. 2022, Sec. 3.4).

    As many calls of `denoise` as `sigmas` has steps, three to a step.
    What is left after the steps of third order is done by one of second or first order, or both. The steps are its own, equally
    long in log sigma, from the first of `sigmas` to the last above 0, where the latent stays, as in ComfyUI: choose a schedule that
    ends low. `on_step` counts these steps. Where there is but one level above 0, it is denoised. `eta` above 0 puts in that
    share of an ancestral step's noise, which `s_noise` scales. Raises ValueError where either is negative.
    """
    require_at_least_0("dpm_fast", eta=eta, s_noise=s_noise)
    first, last = solved_range(sigmas)
    if first == last:
        return denoised_at_once(denoise, x, first, on_step)
    orders = _orders(len(sigmas) - 1)
    levels = [first * (last / first) ** (step / len(orders)) for step in range(len(orders))] + [last]
    for i, (order, (sigma, sigma_next)) in enumerate(zip(orders, pairwise(levels), strict=True)):
        sigma_down, sigma_up = kept_above(last, sigma, sigma_next, eta)
        denoised = denoise(x, sigma)
        x = solver_step(order, denoise, x, (x - denoised) / sigma, sigma, sigma_down)
        if sigma_up > 0:
            x = x + noise(sigma, sigma_next) * (s_noise * sigma_up)
        on_step(i, x, denoised)
    return x


def _orders(calls: int) -> list[int]:
    """The orders of steps that take `calls` calls of the denoiser together."""
    if calls % 3 == 0:
        return [3] * (calls // 3 - 1) + [2, 1]
    return [3] * (calls // 3) + [calls % 3]


def solved_range(sigmas: Tensor) -> tuple[float, float]:
    """The first noise level and the last above 0: what a solver spans that chooses its own steps."""
    levels = sigmas.tolist()
    return levels[0], levels[-1] if levels[-1] > 0 else levels[-2]


def denoised_at_once(denoise: Denoise, x: Tensor, sigma: float, on_step: OnStep) -> Tensor:
    """The estimate at `sigma`, as the one step of a run."""
    denoised = denoise(x, sigma)
    on_step(0, denoised, denoised)
    return denoised


def kept_above(last: float, sigma: float, sigma_next: float, eta: float) -> tuple[float, float]:
    """An ancestral step that goes down no further than to `last`."""
    sigma_down = max(last, ancestral_step(sigma, sigma_next, eta)[0]) if eta else sigma_next
    return sigma_down, math.sqrt(max(0.0, sigma_next**2 - sigma_down**2))


def solver_step(order: int, denoise: Denoise, x: Tensor, slope: Tensor, sigma: float, sigma_next: float) -> Tensor:
    """A step of DPM-Solver-1, -2 (r1 = 1/2) or -3 to `sigma_next` above 0, with `order` - 1 calls of `denoise`."""
    h = math.log(sigma / sigma_next)
    if order == 1:
        return first_order(x, slope, sigma, h)
    if order == 2:
        return second_order(x, slope, first_middle(denoise, x, slope, sigma, h, 1 / 2), sigma, h, 1 / 2)
    return third_order(denoise, x, slope, first_middle(denoise, x, slope, sigma, h, 1 / 3), sigma, h)


def first_order(x: Tensor, slope: Tensor, sigma: float, h: float) -> Tensor:
    """DPM-Solver-1: `x` at `sigma` taken on by `h` in lambda (Eq. 3.7)."""
    return x - slope * (sigma * math.exp(-h) * math.expm1(h))


def first_middle(denoise: Denoise, x: Tensor, slope: Tensor, sigma: float, h: float, r1: float) -> Tensor:
    """The slope at `r1` of the step, for the two below."""
    sigma_1 = sigma * math.exp(-r1 * h)
    u_1 = first_order(x, slope, sigma, r1 * h)
    return (u_1 - denoise(u_1, sigma_1)) / sigma_1


def second_order(x: Tensor, slope: Tensor, slope_1: Tensor, sigma: float, h: float, r1: float) -> Tensor:
    """DPM-Solver-2, from the slopes at the start and at `r1` (Alg. 1, where it is 1/2)."""
    scale = sigma * math.exp(-h) * math.expm1(h)
    return x - slope * scale - (slope_1 - slope) * (scale / (2 * r1))


def third_order(
    denoise: Denoise,
    x: Tensor,
    slope: Tensor,
    slope_1: Tensor,
    sigma: float,
    h: float,
    r1: float = 1 / 3,
    r2: float = 2 / 3,
) -> Tensor:
    """DPM-Solver-3, from the slopes at the start and at `r1`, with a call of `denoise` at `r2` (Alg. 2)."""
    sigma_2, sigma_next = sigma * math.exp(-r2 * h), sigma * math.exp(-h)
    u_2 = first_order(x, slope, sigma, r2 * h)
    u_2 = u_2 - (slope_1 - slope) * (sigma_2 * r2 / r1 * (math.expm1(r2 * h) / (r2 * h) - 1))
    slope_2 = (u_2 - denoise(u_2, sigma_2)) / sigma_2
    return first_order(x, slope, sigma, h) - (slope_2 - slope) * (sigma_next / r2 * (math.expm1(h) / h - 1))


SAMPLERS = {
    "dpm_solver_3": SamplerSpec(
        sample_dpm_solver_3, order=3, evaluations_per_step=3, paper=f"{PAPER}, Alg. 2", aliases=("DPM-Solver-3",)
    ),
    "dpm_fast": SamplerSpec(sample_dpm_fast, order=2, evaluations_per_step=None, paper=PAPER, ranges=NOISE, aliases=("DPM fast",)),
}
