"""DPM-Solver with steps as long as the error allows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from nodegraph_diffusion.denoising import Denoiser
from nodegraph_diffusion.options import Range
from nodegraph_diffusion.sampling.methods.dpm_solver import (
    PAPER,
    denoised_at_once,
    first_middle,
    first_order,
    kept_before,
    level,
    second_order,
    seen_at,
    solved_range,
    third_order,
)
from nodegraph_diffusion.sampling.options import AT_LEAST_0, NOISE_RANGES, require_at_least_0
from nodegraph_diffusion.sampling.protocols import NoiseSource, OnStep
from nodegraph_diffusion.sampling.spec import SamplerSpec

if TYPE_CHECKING:
    from torch import Tensor

_NEAR = 1e-5  # in lambda: so close to the end, it is reached


def sample_dpm_adaptive(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: OnStep,
    order: Literal[2, 3] = 3,
    rtol: float = 0.05,
    atol: float = 0.0078,
    h_init: float = 0.05,
    pcoeff: float = 0.0,
    icoeff: float = 1.0,
    dcoeff: float = 0.0,
    accept_safety: float = 0.81,
    eta: float = 0.0,
    s_noise: float = 1.0,
) -> Tensor:
    """DPM-Solver-12 or -23 with steps of its own choice (Lu et al. 2022, App. C).

    Adaptive by `order`, its steps chosen as k-diffusion does.
    A step is taken by both orders; their difference, over the larger of `atol` and `rtol` times the latent, in the root mean
    square over the whole batch, is its error. A controller makes the next step longer or shorter by the last errors
    (`pcoeff`, `icoeff`, `dcoeff`: proportional, integral, differential), and one that it would shorten to less than
    `accept_safety` is tried again, shorter. The first is `h_init` long, in log sigma. `order` calls of `denoise` for each try.

    It goes from the first of `sigmas` to the last above 0, where the latent stays, as in ComfyUI, and heeds no other; where there
    is but one above 0, that is denoised. `on_step` counts the steps that were kept, as many as it takes. `eta` above 0 puts in that
    share of an ancestral step's noise, which `s_noise` scales. Raises ValueError for options that could not end, and
    where the error is not finite.
    """
    require_at_least_0("dpm_adaptive", eta=eta, s_noise=s_noise)
    _require_ends(order, rtol, atol, h_init, (pcoeff, icoeff, dcoeff), accept_safety)
    time, end = solved_range(sigmas)
    if time == end:
        return denoised_at_once(denoise, x, sigmas, on_step)
    control = _StepControl(h_init, pcoeff, icoeff, dcoeff, 1.5 if eta else order, accept_safety)
    x_low_before, steps = x, 0
    while time < end - _NEAR:
        time_next = (time + control.h).maximum(time.nextafter(end)).minimum(end)  # however short the step
        time_down, sigma_up = kept_before(end, time, time_next, eta)
        denoised, slope = seen_at(denoise, x, time)
        x_low, x_high = _both_orders(order, denoise, x, slope, time, time_down)
        if control.accepts(_error(x_low, x_high, x_low_before, atol, rtol)):
            x_low_before, x = x_low, x_high
            if sigma_up > 0:
                x = x + noise(level(time), level(time_next)) * (s_noise * sigma_up)
            time = time_next
            on_step(steps, x, denoised)
            steps += 1
    return x


def _both_orders(order: int, denoise: Denoiser, x: Tensor, slope: Tensor, time: Tensor, time_next: Tensor) -> tuple[Tensor, Tensor]:
    """The same step by `order` - 1 and by `order`, which share their calls of `denoise`."""
    r1 = 1 / 2 if order == 2 else 1 / 3
    slope_1 = first_middle(denoise, x, slope, time, time_next, r1)
    middle = second_order(x, slope, slope_1, time, time_next, r1)
    if order == 2:
        return first_order(x, slope, time, time_next), middle
    return middle, third_order(denoise, x, slope, slope_1, time, time_next)


def _error(x_low: Tensor, x_high: Tensor, x_low_before: Tensor, atol: float, rtol: float) -> float:
    allowed = (x_low.abs().maximum(x_low_before.abs()) * rtol).clamp(min=atol)
    error = float(((x_low - x_high) / allowed).float().norm() / math.sqrt(x_low.numel()))
    if not math.isfinite(error):
        raise ValueError(
            f"sampler dpm_adaptive: expected a finite error of the step, found {error}; the denoiser gave NaN, "
            "or the latent outgrew its number format: take float32"
        )
    return error


class _StepControl:
    """Proposes the length of the next step from the errors of the last three that were kept."""

    def __init__(self, h: float, pcoeff: float, icoeff: float, dcoeff: float, order: float, accept_safety: float) -> None:
        self.h, self.accept_safety = h, accept_safety
        self.exponents = (pcoeff + icoeff + dcoeff) / order, -(pcoeff + 2 * dcoeff) / order, dcoeff / order
        self.before: tuple[float, float] | None = None  # the inverse errors of the last two steps

    def accepts(self, error: float) -> bool:
        inverse = 1 / (error + 1e-8)
        last, second_last = self.before or (inverse, inverse)
        factor = math.prod(e**k for e, k in zip((inverse, last, second_last), self.exponents, strict=True))
        factor = 1 + math.atan(factor - 1)  # between 0.2 and 2.6
        self.h *= factor
        accepted = factor >= self.accept_safety
        if accepted or self.before is None:
            self.before = inverse, last
        return accepted


def _require_ends(
    order: int, rtol: float, atol: float, h_init: float, coefficients: tuple[float, float, float], accept_safety: float
) -> None:
    if order not in (2, 3):
        raise ValueError(f"sampler dpm_adaptive: expected order 2 or 3, found {order}; 3 is the default")
    if not (rtol >= 0 and atol > 0 and h_init > 0):
        raise ValueError(
            "sampler dpm_adaptive: expected rtol of at least 0 and atol and h_init above 0, "
            f"found rtol {rtol}, atol {atol} and h_init {h_init}; 0.05, 0.0078 and 0.05 are the defaults"
        )
    if min(coefficients) < 0 or sum(coefficients) <= 0 or not 0 < accept_safety <= 1:
        pcoeff, icoeff, dcoeff = coefficients
        raise ValueError(
            "sampler dpm_adaptive: expected pcoeff, icoeff and dcoeff of at least 0, not all 0, and accept_safety above 0 "
            f"and at most 1, found {pcoeff}, {icoeff}, {dcoeff} and {accept_safety}; 0, 1, 0 and 0.81 are the defaults"
        )


RANGES: dict[str, Range] = {
    **NOISE_RANGES,
    **dict.fromkeys(("rtol", "pcoeff", "icoeff", "dcoeff"), AT_LEAST_0),
    **dict.fromkeys(("atol", "h_init"), (1e-9, None)),
    "accept_safety": (1e-3, 1.0),
}

SAMPLERS = {
    "dpm_adaptive": SamplerSpec(
        sample_dpm_adaptive, evaluations_per_step=None, paper=f"{PAPER}, App. C", ranges=RANGES, aliases=("DPM adaptive",)
    ),
}
