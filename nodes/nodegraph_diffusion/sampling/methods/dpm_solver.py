"""DPM-Solver: singlestep exponential integrators of the predicted noise (Lu et al. 2022, "DPM-Solver").

Over lambda = -log sigma, in the latents of this package, whose scale does not change with the noise level: the paper's alpha is 1
and its epsilon the slope dx/dsigma = (x - denoised) / sigma. A `time` is a lambda, () of the dtype of the noise levels and computed
in it, as k-diffusion does: what lies near halfway between two training steps is told to a network as the one that rounding decides.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from nodegraph_diffusion.denoising import Denoiser
from nodegraph_diffusion.sampling.methods.euler import ancestral_step
from nodegraph_diffusion.sampling.options import NOISE_RANGES, require_at_least_0
from nodegraph_diffusion.sampling.protocols import NoiseSource, OnStep
from nodegraph_diffusion.sampling.spec import SamplerSpec

if TYPE_CHECKING:
    from torch import Tensor

PAPER = "Lu et al. 2022, arXiv:2206.00927"


def sample_dpm_solver_3(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """Singlestep DPM-Solver-3 (Lu et al. 2022, Alg. 2): third order.

    With r1 = 1/3 and r2 = 2/3.
    Three calls of `denoise` a step, but one for a step to noise level 0, which has no middle and is Euler's.
    """
    for i, (time, time_next) in enumerate(pairwise(-sigmas.log())):
        denoised, slope = seen_at(denoise, x, time)
        x = solver_step(3, denoise, x, slope, time, time_next) if time_next.isfinite() else denoised
        on_step(i, x, denoised)
    return x


def sample_dpm_fast(
    denoise: Denoiser,
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
    start, end = solved_range(sigmas)
    if start == end:
        return denoised_at_once(denoise, x, sigmas, on_step)
    import torch

    orders = _orders(len(sigmas) - 1)
    times = torch.linspace(start, end, len(orders) + 1, dtype=sigmas.dtype)
    for i, (order, (time, time_next)) in enumerate(zip(orders, pairwise(times), strict=True)):
        time_down, sigma_up = kept_before(end, time, time_next, eta)
        denoised, slope = seen_at(denoise, x, time)
        x = solver_step(order, denoise, x, slope, time, time_down)
        if sigma_up > 0:
            x = x + noise(level(time), level(time_next)) * (s_noise * sigma_up)
        on_step(i, x, denoised)
    return x


def _orders(calls: int) -> list[int]:
    """The orders of steps that take `calls` calls of the denoiser together."""
    if calls % 3 == 0:
        return [3] * (calls // 3 - 1) + [2, 1]
    return [3] * (calls // 3) + [calls % 3]


def level(time: Tensor) -> float:
    """The noise level at a time."""
    return float(time.neg().exp())


def solved_range(sigmas: Tensor) -> tuple[Tensor, Tensor]:
    """The times of the first noise level and of the last above 0: what a solver spans that chooses its own steps."""
    times = -sigmas.log()
    return times[0], times[-1] if sigmas[-1] > 0 else times[-2]


def denoised_at_once(denoise: Denoiser, x: Tensor, sigmas: Tensor, on_step: OnStep) -> Tensor:
    """The estimate at the first of `sigmas`, as the one step of a run."""
    denoised = denoise(x, float(sigmas[0]))
    on_step(0, denoised, denoised)
    return denoised


def kept_before(end: Tensor, time: Tensor, time_next: Tensor, eta: float) -> tuple[Tensor, float]:
    """Where an ancestral step goes that goes no further than to `end`, and how much noise leads up from there."""
    if not eta:
        return time_next, 0.0
    sigma_next = level(time_next)
    time_down = end.new_tensor(ancestral_step(level(time), sigma_next, eta, end.dtype)[0]).log().neg().minimum(end)
    return time_down, math.sqrt(max(0.0, sigma_next**2 - level(time_down) ** 2))


def seen_at(denoise: Denoiser, x: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    """The estimate at a time, and the slope that it says."""
    sigma = level(time)
    denoised = denoise(x, sigma)
    return denoised, (x - denoised) / sigma


def solver_step(order: int, denoise: Denoiser, x: Tensor, slope: Tensor, time: Tensor, time_next: Tensor) -> Tensor:
    """A step of DPM-Solver-1, -2 (r1 = 1/2) or -3, with `order` - 1 calls of `denoise`."""
    if order == 1:
        return first_order(x, slope, time, time_next)
    if order == 2:
        return second_order(x, slope, first_middle(denoise, x, slope, time, time_next, 1 / 2), time, time_next, 1 / 2)
    return third_order(denoise, x, slope, first_middle(denoise, x, slope, time, time_next, 1 / 3), time, time_next)


def first_order(x: Tensor, slope: Tensor, time: Tensor, time_next: Tensor) -> Tensor:
    """DPM-Solver-1 (Eq. 3.7)."""
    return x - slope * _growth(time_next, time_next - time)


def first_middle(denoise: Denoiser, x: Tensor, slope: Tensor, time: Tensor, time_next: Tensor, r1: float) -> Tensor:
    """The slope at `r1` of the step, for the two below."""
    h = r1 * (time_next - time)
    return seen_at(denoise, x - slope * _growth(time + h, h), time + h)[1]


def second_order(x: Tensor, slope: Tensor, slope_1: Tensor, time: Tensor, time_next: Tensor, r1: float) -> Tensor:
    """DPM-Solver-2, from the slopes at the start and at `r1` (Alg. 1, where it is 1/2)."""
    return first_order(x, slope, time, time_next) - (slope_1 - slope) * _growth(time_next, time_next - time, 2 * r1)


def third_order(
    denoise: Denoiser,
    x: Tensor,
    slope: Tensor,
    slope_1: Tensor,
    time: Tensor,
    time_next: Tensor,
    r1: float = 1 / 3,
    r2: float = 2 / 3,
) -> Tensor:
    """DPM-Solver-3, from the slopes at the start and at `r1`, with a call of `denoise` at `r2` (Alg. 2)."""
    h = time_next - time
    time_2, h_2 = time + r2 * h, r2 * h
    u_2 = x - slope * _growth(time_2, h_2) - (slope_1 - slope) * _bend(time_2, h_2, r1 / r2)
    slope_2 = seen_at(denoise, u_2, time_2)[1]
    return first_order(x, slope, time, time_next) - (slope_2 - slope) * _bend(time_next, h, r2)


def _growth(time_next: Tensor, h: Tensor, part: float = 1.0) -> Tensor:
    """What a slope that stays counts in a step of length h, over `part`: sigma_next (e^h - 1)."""
    return time_next.neg().exp() / part * h.expm1()


def _bend(time_next: Tensor, h: Tensor, part: float) -> Tensor:
    """What a slope that rises evenly adds to that by what it rises in `part` of the step: sigma_next ((e^h - 1) / h - 1)."""
    return time_next.neg().exp() / part * (h.expm1() / h - 1)


SAMPLERS = {
    "dpm_solver_3": SamplerSpec(
        sample_dpm_solver_3, order=3, evaluations_per_step=3, paper=f"{PAPER}, Alg. 2", aliases=("DPM-Solver-3",)
    ),
    "dpm_fast": SamplerSpec(
        sample_dpm_fast, order=2, evaluations_per_step=None, paper=PAPER, ranges=NOISE_RANGES, aliases=("DPM fast",)
    ),
}
