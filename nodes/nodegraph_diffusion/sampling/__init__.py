"""Samplers: functions that walk a latent down a list of noise levels, and what a run needs around them."""

from __future__ import annotations

from nodegraph_diffusion.sampling import dpmpp, dpmpp_sde, dpmpp_singlestep, er_sde, lcm, sa_solver, seeds
from nodegraph_diffusion.sampling.ddim import sample_ddim, sample_ddpm
from nodegraph_diffusion.sampling.declared import SamplerSpec, ScheduleSpec
from nodegraph_diffusion.sampling.euler import sample_euler, sample_euler_ancestral
from nodegraph_diffusion.sampling.heun import sample_heun
from nodegraph_diffusion.sampling.interface import Denoise, GuidedDenoise, NoiseSource, OnStep, Sampler
from nodegraph_diffusion.sampling.noise import draw_noise, step_noise_source
from nodegraph_diffusion.sampling.options import check_options, options_of
from nodegraph_diffusion.sampling.run import sample, sigmas_for, start_latent

SAMPLERS: dict[str, SamplerSpec] = {
    "ddim": SamplerSpec(
        sample_ddim, order=1, other_mask_noise=True, paper="Song et al. 2021, arXiv:2010.02502", aliases=("DDIM", "DDIMScheduler")
    ),
    "ddpm": SamplerSpec(sample_ddpm, stochastic=True, paper="Ho et al. 2020, arXiv:2006.11239", aliases=("DDPMScheduler",)),
    "euler": SamplerSpec(sample_euler, order=1, paper="Karras et al. 2022, arXiv:2206.00364", aliases=("Euler",)),
    "euler_ancestral": SamplerSpec(sample_euler_ancestral, stochastic=True, aliases=("Euler a",)),
    "heun": SamplerSpec(sample_heun, order=2, evaluations_per_step=2, paper="Karras et al. 2022, Alg. 2", aliases=("Heun",)),
    **dpmpp.SAMPLERS,
    **dpmpp_singlestep.SAMPLERS,
    **dpmpp_sde.SAMPLERS,
    **lcm.SAMPLERS,
    **er_sde.SAMPLERS,
    **seeds.SAMPLERS,
    **sa_solver.SAMPLERS,
}

__all__ = [
    "SAMPLERS",
    "Denoise",
    "GuidedDenoise",
    "NoiseSource",
    "OnStep",
    "Sampler",
    "SamplerSpec",
    "ScheduleSpec",
    "check_options",
    "draw_noise",
    "options_of",
    "sample",
    "sigmas_for",
    "start_latent",
    "step_noise_source",
]
