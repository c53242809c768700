"""Heun's method, and Heun++ that looks a step further."""

from __future__ import annotations

import functools
import operator
from itertools import pairwise
from typing import TYPE_CHECKING

from nodegraph_diffusion.denoising import Denoiser
from nodegraph_diffusion.sampling.methods.churn import CHURN, Churn
from nodegraph_diffusion.sampling.protocols import NoiseSource, OnStep
from nodegraph_diffusion.sampling.spec import SamplerSpec

if TYPE_CHECKING:
    from torch import Tensor


def sample_heun(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: OnStep,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float | None = None,
    s_noise: float = 1.0,
) -> Tensor:
    """Heun's method (Karras et al. 2022, Alg. 2): second order.

    On dx/dsigma = (x - denoised) / sigma.
    Two calls of `denoise` a step, but one for a step to noise level 0, where the slope at the end is not defined.

    `s_churn` above 0 puts in noise before each step at a level of at least `s_tmin` and at most `s_tmax`, which raises the level
    by the part `s_churn` / steps, or 0.41 where that is less; `s_noise` scales the noise, 1 being the right amount. Raises
    ValueError where one of them is negative.
    """
    churn = Churn("heun", len(sigmas) - 1, noise, s_churn, s_tmin, s_tmax, s_noise)
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        x, sigma_hat = churn(x, sigma)
        x, denoised = heun_step(denoise, x, sigma_hat, sigma_next)
        on_step(i, x, denoised)
    return x


def heun_step(denoise: Denoiser, x: Tensor, sigma: float, sigma_next: float) -> tuple[Tensor, Tensor]:
    """`x` taken from `sigma` to `sigma_next`, and the estimate of the clean latent at the start."""
    denoised = denoise(x, sigma)
    slope = (x - denoised) / sigma
    x_euler = x + slope * (sigma_next - sigma)
    if sigma_next == 0:
        return x_euler, denoised
    slope_end = (x_euler - denoise(x_euler, sigma_next)) / sigma_next
    return x + (slope + slope_end) / 2 * (sigma_next - sigma), denoised


def sample_heunpp2(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: OnStep,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float | None = None,
    s_noise: float = 1.0,
) -> Tensor:
    """Heun++: three slopes, each weighted by its noise level.

    ComfyUI's `heunpp2`, of no paper: the slopes here and one and two steps on.
    The slopes ahead count sigma / (3 sigmas[0]), or / (2 sigmas[0]) in the last step but one, which looks one step on, and the
    slope here counts the rest: three calls of `denoise` a step, two in the last but one, one in the last, which is Euler's.
    These are not the weights of a method of higher order: it converges as `euler` does.

    `s_churn` above 0 puts in noise before each step at a level of at least `s_tmin` and at most `s_tmax`, which raises the level
    by the part `s_churn` / steps, or 0.41 where that is less; `s_noise` scales the noise, 1 being the right amount. Raises
    ValueError where one of them is negative.
    """
    churn = Churn("heunpp2", len(sigmas) - 1, noise, s_churn, s_tmin, s_tmax, s_noise)
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        x, sigma_hat = churn(x, sigma)
        denoised = denoise(x, sigma_hat)
        slope = (x - denoised) / sigma_hat
        ahead = sigmas[i + 1 : min(i + 3, len(sigmas) - 1)]  # the levels of the slopes ahead, the last level not being one
        shares = ahead / ((len(ahead) + 1) * sigmas[0])  # and what they count, as precise as they are
        mean = slope * float(functools.reduce(operator.sub, shares, shares.new_tensor(1)))
        x_ahead, slope_ahead, level = x, slope, sigma_hat
        for level_ahead, share in zip(ahead.tolist(), shares.tolist(), strict=True):
            x_ahead = x_ahead + slope_ahead * (level_ahead - level)
            slope_ahead = (x_ahead - denoise(x_ahead, level_ahead)) / level_ahead
            mean = mean + slope_ahead * share
            level = level_ahead
        x = x + mean * (sigma_next - sigma_hat)
        on_step(i, x, denoised)
    return x


SAMPLERS = {
    "heun": SamplerSpec(
        sample_heun,
        order=2,
        evaluations_per_step=2,
        paper="Karras et al. 2022, arXiv:2206.00364, Alg. 2",
        ranges=CHURN,
        aliases=("Heun", "HeunDiscreteScheduler"),
    ),
    "heunpp2": SamplerSpec(sample_heunpp2, order=1, evaluations_per_step=3, ranges=CHURN, aliases=("Heun++",)),
}
