"""The gradient-estimation sampler, for which denoising is gradient descent on the distance to the data."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from nodegraph_diffusion.denoising import Denoiser, GuidedDenoiser
from nodegraph_diffusion.sampling.methods.cfg_pp import PAPER as CFG_PP_PAPER
from nodegraph_diffusion.sampling.methods.cfg_pp import estimates
from nodegraph_diffusion.sampling.protocols import NoiseSource, OnStep
from nodegraph_diffusion.sampling.spec import SamplerSpec

if TYPE_CHECKING:
    from torch import Tensor

PAPER = "Permenter & Yuan 2024, arXiv:2306.04848"


def sample_gradient_estimation(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: OnStep, ge_gamma: float = 2.0
) -> Tensor:
    """Euler's step along this slope and the last (Permenter & Yuan 2024).

    Along `ge_gamma` of this slope and 1 - `ge_gamma` of the last one.
    "Interpreting and Improving Diffusion Models from an Optimization Perspective": the two estimate the gradient of the distance.
    One call of `denoise` a step. The first step, and one to noise level 0, are Euler's; `ge_gamma` 1 is `euler`.
    """
    return _walk(denoise, x, sigmas, on_step, ge_gamma, cfg_pp=False)


def sample_gradient_estimation_cfg_pp(
    denoise: GuidedDenoiser, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: OnStep, ge_gamma: float = 2.0
) -> Tensor:
    """`gradient_estimation` with CFG++.

    From the guided estimate, along the slopes of the negative side (see `euler_cfg_pp`).
    """
    return _walk(denoise, x, sigmas, on_step, ge_gamma, cfg_pp=True)


def _walk(denoise: Any, x: Tensor, sigmas: Tensor, on_step: OnStep, ge_gamma: float, cfg_pp: bool) -> Tensor:
    estimate = estimates(denoise, cfg_pp)
    slope_before: Tensor | None = None
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        denoised, seen = estimate(x, sigma)
        slope = (x - seen) / sigma
        x = denoised + slope * sigma_next if cfg_pp or sigma_next == 0 else x + slope * (sigma_next - sigma)
        if slope_before is not None and sigma_next > 0:
            x = x + (slope - slope_before) * ((ge_gamma - 1) * (sigma_next - sigma))
        slope_before = slope
        on_step(i, x, denoised)
    return x


SAMPLERS = {
    "gradient_estimation": SamplerSpec(sample_gradient_estimation, order=1, paper=PAPER, aliases=("Gradient Estimation",)),
    "gradient_estimation_cfg_pp": SamplerSpec(sample_gradient_estimation_cfg_pp, order=1, paper=f"{PAPER}; {CFG_PP_PAPER}"),
}
