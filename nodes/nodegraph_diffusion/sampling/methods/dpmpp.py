"""DPM-Solver++(2M), a multistep exponential integrator over lambda = -log sigma, and its CFG++ form."""

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

    One call of `denoise` a step: D extrapolates the last two estimates to the middle of the step, in lambda. The first step and a
    step to noise level 0 are of first order.
    """
    denoised_previous: Tensor | None = None
    h_previous = math.inf
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        denoised = denoise(x, sigma)
        h = math.log(sigma / sigma_next) if sigma_next > 0 else math.inf  # lambda_next - lambda
        d = denoised  # the paper's D
        if denoised_previous is not None and sigma_next > 0:
            d = denoised + (denoised - denoised_previous) * (h / (2 * h_previous))  # 1 / (2 r), with r = h_previous / h
        x = x * (sigma_next / sigma) - d * math.expm1(-h)
        denoised_previous, h_previous = denoised, h
        on_step(i, x, denoised)
    return x


def sample_dpmpp_2m_cfg_pp(denoise: GuidedDenoiser, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """DPM-Solver++(2M) with CFG++ (Chung et al. 2024).

    Their Alg. 2 with the solver of `dpmpp_2m`. The noise that remains in the latent is that of the negative prediction,
    (x - negative) / sigma; only the estimate is guided. As in ComfyUI, the second-order correction is the difference between the
    guided estimate of this step and the negative prediction of the last. Without guidance it is `dpmpp_2m`. CFG++ needs a small
    cfg: 0.4 to 1.
    """
    negative_previous: Tensor | None = None
    h_previous = math.inf
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        denoised, _, negative = denoise.predict(x, sigma)
        h = math.log(sigma / sigma_next) if sigma_next > 0 else math.inf
        correction = negative * -math.exp(-h)
        if negative_previous is not None and sigma_next > 0:
            correction = correction - (denoised - negative_previous) * (math.expm1(-h) * h / (2 * h_previous))
        x = denoised + correction + x * math.exp(-h)
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
