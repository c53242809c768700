"""UniPC: a unified predictor (UniP) and corrector (UniC) (Zhao et al. 2023)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from nodegraph_diffusion.denoising import Denoiser
from nodegraph_diffusion.sampling.protocols import NoiseSource, OnStep
from nodegraph_diffusion.sampling.spec import SamplerSpec

if TYPE_CHECKING:
    from torch import Tensor

PAPER = "Zhao et al. 2023, arXiv:2302.04867"
_SIGMA_END = 0.001  # replaces level 0, whose lambda is infinite: ComfyUI's value

BType = Literal["bh1", "bh2"]
"""The function B(h): `bh1` is h, `bh2` is exp(h) - 1."""


class _Time(NamedTuple):
    """A time of the variance-preserving process z = alpha * clean + sigma * noise, as the paper writes it.

    `level` is the noise level sigma / alpha, which the denoiser receives. `scale` is sqrt(1 + level^2): the latents of this package
    are z * scale. `lambda_` is log(alpha / sigma).
    """

    level: float
    scale: float
    lambda_: float
    alpha: float
    sigma: float


def sample_uni_pc(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """UniPC with B(h) = h (Zhao et al. 2023), as ComfyUI runs it.

    Alg. 1 and 2, with data prediction. UniP predicts a step from the last estimates; the estimate at its end lets UniC correct the
    step before the next one starts: one call of `denoise` a step. The order is at most 3, lower in the first and the last steps,
    and 1 in the very last step, which is not corrected. Level 0 is replaced by 0.001.
    """
    return _uni_pc(denoise, x, sigmas, on_step=on_step, b_type="bh1")


def sample_uni_pc_bh2(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """`uni_pc` with B(h) = exp(h) - 1, which the paper uses for few steps."""
    return _uni_pc(denoise, x, sigmas, on_step=on_step, b_type="bh2")


def _uni_pc(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, on_step: OnStep, b_type: BType) -> Tensor:
    """Works on z, as the paper does, so rounding matches ComfyUI's."""
    times = _times(sigmas)
    steps = len(times) - 1
    max_order = max(1, min(3, steps - 1))
    buffer: list[tuple[_Time, Tensor]] = []  # the last times and the estimates there, newest first
    z = x / times[0].scale
    z_previous, order = z, 0
    for i in range(steps):
        denoised = _predict_data(denoise, z, times[i])
        if i > 0:
            z = _update(z_previous, buffer[:order], times[i], b_type, denoised_t=denoised)  # UniC
        buffer = [(times[i], denoised), *buffer[:2]]
        z_previous, order = z, min(max_order, i + 1, steps - i)
        z = _update(z_previous, buffer[:order], times[i + 1], b_type)  # UniP
        x = z / times[i + 1].alpha
        on_step(i, x, denoised)
    return x


def _predict_data(denoise: Denoiser, z: Tensor, t: _Time) -> Tensor:
    """The data prediction x_theta(z, t) = (z - sigma * epsilon_theta) / alpha."""
    x = z * t.scale
    epsilon = (x - denoise(x, t.level)) / t.level
    return (z - epsilon * t.sigma) / t.alpha


def _times(sigmas: Tensor) -> list[_Time]:
    """The times of the noise levels `sigmas`, (n,), computed in their dtype; level 0 is replaced by a level near it.

    In float32, as ComfyUI computes them, 1 - alpha^2 is rounded; at the lowest levels the remaining noise changes by hundredths. If
    levels are so low or so close that rounding would make lambda infinite or not increasing, they are computed without this
    rounding.
    """
    if sigmas[-1] == 0:
        sigmas = sigmas.clone()
        sigmas[-1] = min(_SIGMA_END, float(sigmas[-2]) / 10)
    scale = (sigmas**2 + 1).sqrt()
    log_alpha = 0.5 * (1 / (sigmas**2 + 1)).log()
    alpha, variance = log_alpha.exp(), 1 - (2 * log_alpha).exp()
    sigma, lambda_ = variance.sqrt(), log_alpha - 0.5 * variance.log()
    if not (lambda_.isfinite().all() and (lambda_.diff() > 0).all()):
        alpha, sigma, lambda_ = 1 / scale, sigmas / scale, -sigmas.log()
    columns = (column.tolist() for column in (sigmas, scale, lambda_, alpha, sigma))
    return [_Time(*row) for row in zip(*columns, strict=True)]


def _update(z: Tensor, buffer: Sequence[tuple[_Time, Tensor]], t: _Time, b_type: BType, denoised_t: Tensor | None = None) -> Tensor:
    """`z` from the newest time s in `buffer` to t: UniP, or UniC if the estimate at t is passed as `denoised_t`.

    z_t = sigma_t / sigma_s z_s - alpha_t (e^-h - 1) x_theta(s) - alpha_t B(-h) sum_m a_m D_m / r_m
    with D_m = x_theta(s_m) - x_theta(s). The order is the number of estimates in `buffer`.
    """
    (s, denoised), *others = buffer
    h = t.lambda_ - s.lambda_
    points = [((other.lambda_ - s.lambda_) / h, estimate) for other, estimate in others]  # (r_m, x_theta(s_m))
    if denoised_t is not None:
        points.append((1.0, denoised_t))
    b_h = -h if b_type == "bh1" else math.expm1(-h)
    z = z * (t.sigma / s.sigma) - denoised * (t.alpha * math.expm1(-h))
    for (r_m, estimate), a_m in zip(points, _coefficients([r for r, _ in points], -h, b_h), strict=True):
        d_m = estimate - denoised
        z = z - d_m * (t.alpha * b_h * a_m / r_m)
    return z


def _coefficients(r: Sequence[float], h: float, b_h: float) -> list[float]:
    """The a_m for the points `r`: the solution of R(h) a B(h) = phi(h) (Zhao et al. 2023, Theorem 3.1).

    For a single point it is 1/2, as in the paper.
    """
    import torch

    if len(r) < 2:
        return [0.5] * len(r)
    phi_k, right_side = math.expm1(h) / h - 1, []
    for k in range(1, len(r) + 1):
        right_side.append(phi_k * math.factorial(k) / b_h)
        phi_k = phi_k / h - 1 / math.factorial(k + 1)
    r_matrix = torch.tensor([[r_m**k for r_m in r] for k in range(len(r))], dtype=torch.float64)
    coefficients: list[float] = torch.linalg.solve(r_matrix, torch.tensor(right_side, dtype=torch.float64)).tolist()
    return coefficients


SAMPLERS = {
    "uni_pc": SamplerSpec(sample_uni_pc, order=2, paper=PAPER, discard_penultimate=True, aliases=("UniPC",)),
    "uni_pc_bh2": SamplerSpec(
        sample_uni_pc_bh2, order=2, paper=PAPER, discard_penultimate=True, aliases=("UniPC BH2", "UniPCMultistepScheduler")
    ),
}
