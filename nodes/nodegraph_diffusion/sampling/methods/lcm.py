"""The sampler of consistency models: each step adds noise to the estimate."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from nodegraph_diffusion.denoising import Denoiser
from nodegraph_diffusion.sampling.protocols import NoiseSource, OnStep
from nodegraph_diffusion.sampling.spec import SamplerSpec

if TYPE_CHECKING:
    from torch import Tensor


def sample_lcm(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """Multistep consistency sampling (Luo et al. 2023, Alg. 3).

    Luo et al. 2023, "Latent Consistency Models"; Song et al. 2023, Alg. 1. Each step ends at the estimate plus fresh noise of the
    next level; the last one adds none. Use it with models that were distilled for consistency, or a LoRA for that, with 1 to 8
    steps and a cfg of 1 to 2; with other models the pictures are blurred.
    """
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        denoised = denoise(x, sigma)
        x = denoised + noise(sigma, sigma_next) * sigma_next if sigma_next > 0 else denoised
        on_step(i, x, denoised)
    return x


SAMPLERS = {
    "lcm": SamplerSpec(
        sample_lcm, stochastic=True, paper="Luo et al. 2023, arXiv:2310.04378, Alg. 3", aliases=("LCM", "LCMScheduler")
    ),
}
