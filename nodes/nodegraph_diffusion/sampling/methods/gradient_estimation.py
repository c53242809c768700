"""The gradient-estimation sampler: denoising as gradient descent on the distance to the data (Permenter & Yuan 2024)."""

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
    """Euler's method with an estimated gradient (Permenter & Yuan 2024).

    "Interpreting and Improving Diffusion Models from an Optimization Perspective". With the noise prediction epsilon, which is
    dx/dsigma, a step goes along `ge_gamma` * epsilon + (1 - `ge_gamma`) * epsilon of the last step, which estimates the gradient of
    the distance to the data. One call of `denoise` a step. The first step and a step to noise level 0 are Euler's; `ge_gamma` 1 is
    `euler`.
    """
    return _gradient_estimation(denoise, x, sigmas, on_step=on_step, ge_gamma=ge_gamma, cfg_pp=False)


def sample_gradient_estimation_cfg_pp(
    denoise: GuidedDenoiser, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: OnStep, ge_gamma: float = 2.0
) -> Tensor:
    """`gradient_estimation` with CFG++.

    It steps from the guided estimate; epsilon is that of the negative prediction (see `euler_cfg_pp`).
    """
    return _gradient_estimation(denoise, x, sigmas, on_step=on_step, ge_gamma=ge_gamma, cfg_pp=True)


def _gradient_estimation(denoise: Any, x: Tensor, sigmas: Tensor, *, on_step: OnStep, ge_gamma: float, cfg_pp: bool) -> Tensor:
    estimate = estimates(denoise, cfg_pp)
    epsilon_previous: Tensor | None = None
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        denoised, unguided = estimate(x, sigma)
        epsilon = (x - unguided) / sigma
        x = denoised + epsilon * sigma_next if cfg_pp or sigma_next == 0 else x + epsilon * (sigma_next - sigma)
        if epsilon_previous is not None and sigma_next > 0:
            x = x + (epsilon - epsilon_previous) * ((ge_gamma - 1) * (sigma_next - sigma))
        epsilon_previous = epsilon
        on_step(i, x, denoised)
    return x


SAMPLERS = {
    "gradient_estimation": SamplerSpec(sample_gradient_estimation, order=1, paper=PAPER, aliases=("Gradient Estimation",)),
    "gradient_estimation_cfg_pp": SamplerSpec(sample_gradient_estimation_cfg_pp, order=1, paper=f"{PAPER}; {CFG_PP_PAPER}"),
}
