"""DPM-Solver: singlestep exponential integrators of the noise prediction (Lu et al. 2022, "DPM-Solver").

A step goes from s to t, over lambda = -log sigma. The latents of this package keep their scale at every noise level, so the paper's
alpha is 1 and its epsilon is (x - denoised) / sigma. Each lambda is a 0-dim tensor with the dtype of `sigmas`, as in k-diffusion: a
level halfway between two training steps is rounded to one of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
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


@dataclass(frozen=True, eq=False)
class Step:
    """A step from `x` at `lambda_s` to `lambda_t`, with the noise prediction `epsilon` at its start."""

    x: Tensor
    epsilon: Tensor
    lambda_s: Tensor
    lambda_t: Tensor

    @property
    def h(self) -> Tensor:
        """The length of the step in lambda."""
        return self.lambda_t - self.lambda_s

    @property
    def sigma_t(self) -> Tensor:
        """The noise level at the end of the step."""
        return self.lambda_t.neg().exp()


def sample_dpm_solver_3(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """Singlestep DPM-Solver-3 (Lu et al. 2022, Alg. 2): third order.

    r1 is 1/3 and r2 is 2/3. Three calls of `denoise` a step. A step to noise level 0 has no middle in lambda: it is an Euler step,
    with one call.
    """
    for i, (lambda_s, lambda_t) in enumerate(pairwise(-sigmas.log())):
        denoised, epsilon = predict(denoise, x, lambda_s)
        x = dpm_solver_step(3, denoise, Step(x, epsilon, lambda_s, lambda_t)) if lambda_t.isfinite() else denoised
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

    It calls `denoise` as often as `sigmas` has steps: steps of third order take three calls each, and a step of second or first
    order, or one of each, takes the remaining ones. The sampler chooses these steps, equally long in lambda, from the first of
    `sigmas` to the last above 0, and ends there, as in ComfyUI: choose a schedule that ends at a low level. `on_step` counts these
    steps. If only one level is above 0, the result is the estimate there. `eta` above 0 adds that share of an ancestral step's
    noise, scaled by `s_noise`. Raises ValueError if either is negative.
    """
    require_at_least_0("dpm_fast", eta=eta, s_noise=s_noise)
    lambda_start, lambda_end = lambda_range(sigmas)
    if lambda_start == lambda_end:
        return denoise_in_one_step(denoise, x, sigmas, on_step)
    import torch

    orders = _orders(len(sigmas) - 1)
    lambdas = torch.linspace(lambda_start, lambda_end, len(orders) + 1, dtype=sigmas.dtype)
    for i, (order, (lambda_s, lambda_t)) in enumerate(zip(orders, pairwise(lambdas), strict=True)):
        lambda_down, sigma_up = ancestral_lambda(lambda_s, lambda_t, lambda_end, eta)
        denoised, epsilon = predict(denoise, x, lambda_s)
        x = dpm_solver_step(order, denoise, Step(x, epsilon, lambda_s, lambda_down))
        if sigma_up > 0:
            x = x + noise(sigma_of(lambda_s), sigma_of(lambda_t)) * (s_noise * sigma_up)
        on_step(i, x, denoised)
    return x


def _orders(calls: int) -> list[int]:
    """The orders of steps that make `calls` calls of the denoiser together."""
    if calls % 3 == 0:
        return [3] * (calls // 3 - 1) + [2, 1]
    return [3] * (calls // 3) + [calls % 3]


def sigma_of(lambda_t: Tensor) -> float:
    """The noise level exp(-lambda)."""
    return float(lambda_t.neg().exp())


def lambda_range(sigmas: Tensor) -> tuple[Tensor, Tensor]:
    """The lambdas of the first noise level and of the last one above 0."""
    lambdas = -sigmas.log()
    return lambdas[0], lambdas[-1] if sigmas[-1] > 0 else lambdas[-2]


def denoise_in_one_step(denoise: Denoiser, x: Tensor, sigmas: Tensor, on_step: OnStep) -> Tensor:
    """The estimate at the first of `sigmas`, as the only step of a run."""
    denoised = denoise(x, float(sigmas[0]))
    on_step(0, denoised, denoised)
    return denoised


def ancestral_lambda(lambda_s: Tensor, lambda_t: Tensor, lambda_end: Tensor, eta: float) -> tuple[Tensor, float]:
    """The lambda that an ancestral step goes down to, at most `lambda_end`, and the sigma_up of the noise that it then adds."""
    if not eta:
        return lambda_t, 0.0
    sigma_t = sigma_of(lambda_t)
    sigma_down, _ = ancestral_step(sigma_of(lambda_s), sigma_t, eta, lambda_end.dtype)
    lambda_down = lambda_end.new_tensor(sigma_down).log().neg().minimum(lambda_end)
    return lambda_down, math.sqrt(max(0.0, sigma_t**2 - sigma_of(lambda_down) ** 2))


def predict(denoise: Denoiser, x: Tensor, lambda_s: Tensor) -> tuple[Tensor, Tensor]:
    """The estimate of the clean latent at `lambda_s`, and the noise prediction epsilon that follows from it."""
    sigma = sigma_of(lambda_s)
    denoised = denoise(x, sigma)
    return denoised, (x - denoised) / sigma


def dpm_solver_step(order: int, denoise: Denoiser, step: Step) -> Tensor:
    """A step of DPM-Solver-1, -2 (r1 = 1/2) or -3 (r1 = 1/3, r2 = 2/3), with `order` - 1 calls of `denoise`."""
    if order == 1:
        return dpm_solver_1(step)
    if order == 2:
        return dpm_solver_2(step, first_difference(denoise, step, r1=1 / 2), r1=1 / 2)
    return dpm_solver_3(denoise, step, first_difference(denoise, step, r1=1 / 3))


def dpm_solver_1(step: Step) -> Tensor:
    """x_t = x_s - sigma_t (e^h - 1) epsilon(x_s, s) (Eq. 3.7)."""
    return step.x - step.epsilon * (step.sigma_t * step.h.expm1())


def first_difference(denoise: Denoiser, step: Step, r1: float) -> Tensor:
    """D_1 = epsilon(u_1, s_1) - epsilon(x_s, s), with u_1 from DPM-Solver-1 at lambda_1 = lambda_s + r1 h."""
    h_1 = r1 * step.h
    lambda_1 = step.lambda_s + h_1
    u_1 = step.x - step.epsilon * (lambda_1.neg().exp() * h_1.expm1())
    return predict(denoise, u_1, lambda_1)[1] - step.epsilon


def dpm_solver_2(step: Step, d_1: Tensor, r1: float) -> Tensor:
    """DPM-Solver-2 for any r1 (Alg. 1 has r1 = 1/2), from D_1 at r1."""
    return dpm_solver_1(step) - d_1 * (step.sigma_t / (2 * r1) * step.h.expm1())


def dpm_solver_3(denoise: Denoiser, step: Step, d_1: Tensor, r1: float = 1 / 3, r2: float = 2 / 3) -> Tensor:
    """DPM-Solver-3 (Alg. 2), from D_1 at r1; it calls `denoise` once, at r2."""
    h_2 = r2 * step.h
    lambda_2 = step.lambda_s + h_2
    sigma_2 = lambda_2.neg().exp()
    u_2 = step.x - step.epsilon * (sigma_2 * h_2.expm1()) - d_1 * (sigma_2 / (r1 / r2) * (h_2.expm1() / h_2 - 1))
    d_2 = predict(denoise, u_2, lambda_2)[1] - step.epsilon
    return dpm_solver_1(step) - d_2 * (step.sigma_t / r2 * (step.h.expm1() / step.h - 1))


SAMPLERS = {
    "dpm_solver_3": SamplerSpec(
        sample_dpm_solver_3, order=3, evaluations_per_step=3, paper=f"{PAPER}, Alg. 2", aliases=("DPM-Solver-3",)
    ),
    "dpm_fast": SamplerSpec(
        sample_dpm_fast, order=2, evaluations_per_step=None, paper=PAPER, ranges=NOISE_RANGES, aliases=("DPM fast",)
    ),
}
