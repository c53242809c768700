"""DPM-Solver++(2M): an exponential integrator over the logarithm of the noise level, of one call a step, and its CFG++ form."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from nodegraph_diffusion.denoising import Denoiser, GuidedDenoiser
from nodegraph_diffusion.sampling.protocols import NoiseSource, OnStep
from nodegraph_diffusion.sampling.spec import SamplerSpec

if TYPE_CHECKING:
    from torch import Tensor


def sample_dpmpp_2m(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """DPM-Solver++(2M), multistep, of second order (Lu et al. 2022, Alg. 2).

    With lambda = -log sigma, one call of `denoise` a step: the estimate is extrapolated from the last two to the middle
    of the step. The first step and a step to noise level 0 are of first order.
    """
    previous: Tensor | None = None
    h_previous = math.inf
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        denoised = denoise(x, sigma)
        h = math.log(sigma / sigma_next) if sigma_next > 0 else math.inf  # lambda_next - lambda
        target = denoised
        if previous is not None and sigma_next > 0:
            target = denoised + (denoised - previous) * (h / (2 * h_previous))
        x = x * (sigma_next / sigma) - target * math.expm1(-h)
        previous, h_previous = denoised, h
        on_step(i, x, denoised)
    return x


def sample_dpmpp_2m_cfg_pp(denoise: GuidedDenoiser, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """DPM-Solver++(2M) with CFG++ (Chung et al. 2024).

    Their Alg. 2, over the solver of `dpmpp_2m`.
    The noise that stays in the latent is the one that the negative side alone sees, (x - negative) / sigma; only the step's target
    is guided. As in ComfyUI, the correction of second order is the difference between this step's guided estimate and the last
    one's negative. Without guidance it is `dpmpp_2m`. CFG++ wants a small cfg: 0.4 to 1.
    """
    negative_previous: Tensor | None = None
    h_previous = math.inf
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        denoised, _, negative = denoise.predict(x, sigma)
        h = math.log(sigma / sigma_next) if sigma_next > 0 else math.inf
        kept = negative * -math.exp(-h)
        if negative_previous is not None and sigma_next > 0:
            kept = kept - (denoised - negative_previous) * (math.expm1(-h) * h / (2 * h_previous))
        x = denoised + kept + x * math.exp(-h)
        negative_previous, h_previous = negative, h
        on_step(i, x, denoised)
    return x


SAMPLERS = {
    "dpmpp_2m": SamplerSpec(
        sample_dpmpp_2m,
        order=2,
        paper="Lu et al. 2022, arXiv:2211.01095, Alg. 2",
        aliases=("DPM++ 2M", "DPMSolverMultistepScheduler"),
    ),
    "dpmpp_2m_cfg_pp": SamplerSpec(
        sample_dpmpp_2m_cfg_pp, order=2, paper="Chung et al. 2024, arXiv:2406.08070", aliases=("DPM++ 2M CFG++",)
    ),
}
