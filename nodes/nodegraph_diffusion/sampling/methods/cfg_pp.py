"""CFG++: samplers that add the noise of the negative prediction to the guided estimate (Chung et al. 2024)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

from nodegraph_diffusion.denoising import GuidedDenoiser
from nodegraph_diffusion.sampling.methods.euler import ancestral_step
from nodegraph_diffusion.sampling.options import NOISE_RANGES, require_at_least_0
from nodegraph_diffusion.sampling.protocols import NoiseSource, OnStep
from nodegraph_diffusion.sampling.spec import SamplerSpec

if TYPE_CHECKING:
    from torch import Tensor

PAPER = "Chung et al. 2024, arXiv:2406.08070"


def estimates(denoise: GuidedDenoiser, cfg_pp: bool) -> Callable[[Tensor, float], tuple[Tensor, Tensor]]:
    """A function that returns the guided estimate, and the one that the noise is computed from.

    That is the negative prediction with CFG++, else the guided estimate again.
    """

    def guided_and_negative(x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        denoised, _, negative = denoise.predict(x, sigma)
        return denoised, negative

    def guided_twice(x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        denoised = denoise(x, sigma)
        return denoised, denoised

    return guided_and_negative if cfg_pp else guided_twice


def sample_euler_cfg_pp(denoise: GuidedDenoiser, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """Euler's method with CFG++ (Chung et al. 2024, Alg. 2).

    A step goes from the guided estimate along the derivative d = (x - negative) / sigma of the negative prediction. The cfg of the
    denoiser is the paper's lambda, for which 1 or less is enough: 0.6 is about as strong as 7.5 elsewhere. If both predictions are
    the same, this is `euler`.
    """
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        denoised, _, negative = denoise.predict(x, sigma)
        d = (x - negative) / sigma
        x = denoised + d * sigma_next
        on_step(i, x, denoised)
    return x


def sample_euler_ancestral_cfg_pp(
    denoise: GuidedDenoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: OnStep,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Tensor:
    """`euler_ancestral` with CFG++ (Chung et al. 2024).

    A step of `euler_cfg_pp` to below the next noise level, then noise back up to it. `eta` is the share of the posterior's noise
    that is added; 0 is `euler_cfg_pp`. `s_noise` scales the noise. Raises ValueError if either is negative.
    """
    require_at_least_0("euler_ancestral_cfg_pp", eta=eta, s_noise=s_noise)
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        denoised, _, negative = denoise.predict(x, sigma)
        sigma_down, sigma_up = ancestral_step(sigma, sigma_next, eta, sigmas.dtype)
        d = (x - negative) / sigma
        x = denoised + d * sigma_down
        if sigma_up > 0:
            x = x + noise(sigma, sigma_next) * (s_noise * sigma_up)
        on_step(i, x, denoised)
    return x


SAMPLERS = {
    "euler_cfg_pp": SamplerSpec(sample_euler_cfg_pp, order=1, paper=PAPER, aliases=("Euler CFG++",)),
    "euler_ancestral_cfg_pp": SamplerSpec(
        sample_euler_ancestral_cfg_pp, stochastic=True, paper=PAPER, ranges=NOISE_RANGES, aliases=("Euler a CFG++",)
    ),
}
