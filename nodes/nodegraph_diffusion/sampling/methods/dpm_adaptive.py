"""DPM-Solver with an adaptive step size."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from nodegraph_diffusion.denoising import Denoiser
from nodegraph_diffusion.options import Range
from nodegraph_diffusion.sampling.methods.dpm_solver import (
    PAPER,
    Step,
    ancestral_lambda,
    denoise_in_one_step,
    dpm_solver_1,
    dpm_solver_2,
    dpm_solver_3,
    first_difference,
    lambda_range,
    predict,
    sigma_of,
)
from nodegraph_diffusion.sampling.options import AT_LEAST_0, NOISE_RANGES, require_at_least_0
from nodegraph_diffusion.sampling.protocols import NoiseSource, OnStep
from nodegraph_diffusion.sampling.spec import SamplerSpec

if TYPE_CHECKING:
    from torch import Tensor

_LAMBDA_TOLERANCE = 1e-5  # the run ends this close to its last lambda


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
    """DPM-Solver-12 or -23 that chooses its steps (Lu et al. 2022, App. C).

    `order` is the higher of the two; the step size control is k-diffusion's. Each step is computed with both orders. Its error is
    their difference over max(atol, rtol * |x|), as the root mean square over the whole batch. A PID controller (`pcoeff`, `icoeff`,
    `dcoeff`) sets the length of the next step from the last errors. A step that it would shorten to less than `accept_safety` is
    rejected and tried again, shorter. The first step has length `h_init` in lambda. Each try takes `order` calls of `denoise`.

    It goes from the first of `sigmas` to the last above 0 and ends there, as in ComfyUI; it ignores the levels between. If only one
    level is above 0, the result is the estimate there. `on_step` counts the accepted steps. `eta` above 0 adds that share of an
    ancestral step's noise, scaled by `s_noise`. Raises ValueError for options with which it might not end, and if the error is
    not finite.
    """
    require_at_least_0("dpm_adaptive", eta=eta, s_noise=s_noise)
    _require_options(order, rtol=rtol, atol=atol, h_init=h_init, coefficients=(pcoeff, icoeff, dcoeff), accept_safety=accept_safety)
    lambda_s, lambda_end = lambda_range(sigmas)
    if lambda_s == lambda_end:
        return denoise_in_one_step(denoise, x, sigmas, on_step)
    controller = _PIDController(h_init, (pcoeff, icoeff, dcoeff), 1.5 if eta else order, accept_safety)
    x_previous, accepted_steps = x, 0
    while lambda_s < lambda_end - _LAMBDA_TOLERANCE:
        # nextafter: a step of any length must move forward
        lambda_t = (lambda_s + controller.h).maximum(lambda_s.nextafter(lambda_end)).minimum(lambda_end)
        lambda_down, sigma_up = ancestral_lambda(lambda_s, lambda_t, lambda_end, eta)
        denoised, epsilon = predict(denoise, x, lambda_s)
        x_low, x_high = _both_orders(order, denoise, Step(x, epsilon, lambda_s, lambda_down))
        if controller.accepts(_error(x_low, x_high, x_previous, atol=atol, rtol=rtol)):
            x_previous, x = x_low, x_high
            if sigma_up > 0:
                x = x + noise(sigma_of(lambda_s), sigma_of(lambda_t)) * (s_noise * sigma_up)
            lambda_s = lambda_t
            on_step(accepted_steps, x, denoised)
            accepted_steps += 1
    return x


def _both_orders(order: int, denoise: Denoiser, step: Step) -> tuple[Tensor, Tensor]:
    """The step with orders `order` - 1 and `order`, which share their calls of `denoise`."""
    r1 = 1 / 2 if order == 2 else 1 / 3
    d_1 = first_difference(denoise, step, r1)
    second_order = dpm_solver_2(step, d_1, r1)
    if order == 2:
        return dpm_solver_1(step), second_order
    return second_order, dpm_solver_3(denoise, step, d_1)


def _error(x_low: Tensor, x_high: Tensor, x_previous: Tensor, *, atol: float, rtol: float) -> float:
    delta = (x_low.abs().maximum(x_previous.abs()) * rtol).clamp(min=atol)
    error = float(((x_low - x_high) / delta).float().norm() / math.sqrt(x_low.numel()))
    if not math.isfinite(error):
        raise ValueError(
            f"sampler dpm_adaptive: expected a finite error of the step, found {error}; the denoiser returned NaN, "
            "or the latent exceeds the range of its dtype: use float32"
        )
    return error


class _PIDController:
    """Proposes the length `h` of the next step from the errors of this step and of the last two accepted ones."""

    def __init__(self, h: float, coefficients: tuple[float, float, float], order: float, accept_safety: float) -> None:
        pcoeff, icoeff, dcoeff = coefficients
        self.h, self.accept_safety = h, accept_safety
        self.exponents = (pcoeff + icoeff + dcoeff) / order, -(pcoeff + 2 * dcoeff) / order, dcoeff / order
        self.inverse_errors: tuple[float, float] | None = None  # of the last two accepted steps, newest first

    def accepts(self, error: float) -> bool:
        """Whether the step is accepted. Sets `h`, for the next step or for the next try."""
        inverse_error = 1 / (error + 1e-8)
        last, second_last = self.inverse_errors or (inverse_error, inverse_error)
        factor = math.prod(e**k for e, k in zip((inverse_error, last, second_last), self.exponents, strict=True))
        factor = 1 + math.atan(factor - 1)  # between 0.2 and 2.6
        self.h *= factor
        accepted = factor >= self.accept_safety
        if accepted or self.inverse_errors is None:
            self.inverse_errors = inverse_error, last
        return accepted


def _require_options(
    order: int, *, rtol: float, atol: float, h_init: float, coefficients: tuple[float, float, float], accept_safety: float
) -> None:
    if order not in (2, 3):
        raise ValueError(f"sampler dpm_adaptive: expected order 2 or 3, found {order}. Leave it out to use the default")
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
