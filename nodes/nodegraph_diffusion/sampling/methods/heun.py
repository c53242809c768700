"""Heun's method, and Heun++, which looks one step further."""

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

    It averages d = dx/dsigma = (x - denoised) / sigma at both ends of a step. Two calls of `denoise` a step; a step to noise
    level 0, where d is not defined, takes one.

    `s_churn` above 0 adds noise before each step at a level between `s_tmin` and `s_tmax`: the level rises by the factor
    1 + min(`s_churn` / steps, 0.41). `s_noise` scales the noise; 1 is the exact amount. Raises ValueError if one of them is
    negative.
    """
    churn = Churn("heun", len(sigmas) - 1, noise, s_churn=s_churn, s_tmin=s_tmin, s_tmax=s_tmax, s_noise=s_noise)
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        x, sigma_hat = churn(x, sigma)
        x, denoised = heun_step(denoise, x, sigma_hat, sigma_next)
        on_step(i, x, denoised)
    return x


def heun_step(denoise: Denoiser, x: Tensor, sigma: float, sigma_next: float) -> tuple[Tensor, Tensor]:
    """`x` at `sigma_next`, and the estimate of the clean latent at `sigma`."""
    denoised = denoise(x, sigma)
    d = (x - denoised) / sigma
    x_euler = x + d * (sigma_next - sigma)
    if sigma_next == 0:
        return x_euler, denoised
    d_prime = (x_euler - denoise(x_euler, sigma_next)) / sigma_next
    return x + (d + d_prime) / 2 * (sigma_next - sigma), denoised


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
    """Heun++: three derivatives, each weighted by its noise level.

    ComfyUI's `heunpp2`; there is no paper. It averages d = dx/dsigma here and one and two steps ahead. A derivative ahead has
    the weight sigma / (3 sigmas[0]). The second to last step looks only one step ahead, with weight sigma / (2 sigmas[0]).
    The derivative here gets the remainder. Three calls of `denoise` a step, two in the second to last, one in the last, which
    is Euler's. These are not the weights of a method of higher order: it converges as `euler` does.

    `s_churn` above 0 adds noise before each step at a level between `s_tmin` and `s_tmax`: the level rises by the factor
    1 + min(`s_churn` / steps, 0.41). `s_noise` scales the noise; 1 is the exact amount. Raises ValueError if one of them is
    negative.
    """
    churn = Churn("heunpp2", len(sigmas) - 1, noise, s_churn=s_churn, s_tmin=s_tmin, s_tmax=s_tmax, s_noise=s_noise)
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        x, sigma_hat = churn(x, sigma)
        denoised = denoise(x, sigma_hat)
        d = (x - denoised) / sigma_hat
        sigmas_ahead = sigmas[i + 1 : min(i + 3, len(sigmas) - 1)]  # at most two, without the last level
        weights = sigmas_ahead / ((len(sigmas_ahead) + 1) * sigmas[0])  # in the dtype of sigmas, as in ComfyUI
        d_mean = d * float(functools.reduce(operator.sub, weights, weights.new_tensor(1)))
        x_k, d_k, sigma_k = x, d, sigma_hat
        for sigma_ahead, weight in zip(sigmas_ahead.tolist(), weights.tolist(), strict=True):
            x_k = x_k + d_k * (sigma_ahead - sigma_k)
            d_k = (x_k - denoise(x_k, sigma_ahead)) / sigma_ahead
            d_mean = d_mean + d_k * weight
            sigma_k = sigma_ahead
        x = x + d_mean * (sigma_next - sigma_hat)
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
