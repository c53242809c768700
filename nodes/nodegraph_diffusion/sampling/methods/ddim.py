"""The samplers of the variance-preserving papers: DDPM and DDIM.

They are written as in the papers, over z = sqrt(alpha) * clean + sqrt(1 - alpha) * noise, where alpha is the cumulative signal
level: alpha-bar in the DDPM paper, alpha in the DDIM paper. The latent of this package is x = z / sqrt(alpha), and
sigma = sqrt((1 - alpha) / alpha).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from nodegraph_diffusion.denoising import Denoiser
from nodegraph_diffusion.sampling.protocols import NoiseSource, OnStep
from nodegraph_diffusion.sampling.spec import SamplerSpec

if TYPE_CHECKING:
    from torch import Tensor


def sample_ddpm(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """Ancestral sampling (Ho et al. 2020, Alg. 2), along the levels of `sigmas`.

    It takes the steps of `sigmas`, not all trained ones. The variance is the paper's beta-tilde (Eq. 7). Apart from rounding, these
    are the steps of `euler_ancestral` at eta 1. The coefficients have the dtype of `sigmas`, as in ComfyUI, which shows if a level
    is in the thousands.
    """
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised = denoise(x, float(sigma))
        alpha_bar, alpha_bar_next = 1 / (sigma**2 + 1), 1 / (sigma_next**2 + 1)
        alpha = alpha_bar / alpha_bar_next
        epsilon = (x - denoised) / sigma
        z = x / (1 + sigma**2).sqrt()
        z = (1 / alpha).sqrt() * (z - (1 - alpha) * epsilon / (1 - alpha_bar).sqrt())  # Eq. 11
        if sigma_next > 0:
            beta_tilde = (1 - alpha) * (1 - alpha_bar_next) / (1 - alpha_bar)
            z = z + beta_tilde.sqrt() * noise(float(sigma), float(sigma_next))
        x = z * (1 + sigma_next**2).sqrt()
        on_step(i, x, denoised)
    return x


def sample_ddim(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: OnStep, eta: float = 0.0) -> Tensor:
    """Denoising diffusion implicit models (Song et al. 2021, Eq. 12 and 16).

    `eta` 0 draws no noise, and its steps are Euler's; 1 is DDPM. Raises ValueError unless it is between them.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"sampler ddim: expected eta between 0 and 1, found {eta}; 0 is deterministic, 1 is DDPM")
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        denoised = denoise(x, sigma)
        alpha, alpha_next = _alpha(sigma), _alpha(sigma_next)
        epsilon = (x - denoised) / sigma
        deviation = eta * math.sqrt((1 - alpha_next) / (1 - alpha) * (1 - alpha / alpha_next))  # sigma(eta), Eq. 16
        if deviation > 0:
            direction = epsilon * math.sqrt(max(0.0, 1 - alpha_next - deviation**2))  # "direction pointing to x_t", Eq. 12
            z = denoised * math.sqrt(alpha_next) + direction
            x = (z + noise(sigma, sigma_next) * deviation) / math.sqrt(alpha_next)
        else:
            x = x + epsilon * (sigma_next - sigma)  # the same, with Euler's rounding, which shows if sigma is in the thousands
        on_step(i, x, denoised)
    return x


def _alpha(sigma: float) -> float:
    """The cumulative signal level at a noise level; 1 without noise."""
    return 1 / (1 + sigma**2)


SAMPLERS = {
    "ddim": SamplerSpec(
        sample_ddim,
        order=1,
        other_mask_noise=True,
        paper="Song et al. 2021, arXiv:2010.02502",
        ranges={"eta": (0.0, 1.0)},
        aliases=("DDIM", "DDIMScheduler"),
    ),
    "ddpm": SamplerSpec(sample_ddpm, stochastic=True, paper="Ho et al. 2020, arXiv:2006.11239", aliases=("DDPM", "DDPMScheduler")),
}
