"""Samplers: functions that walk a latent down a list of noise levels, and what a run needs around them."""

from __future__ import annotations

from nodegraph_diffusion.sampling.ddim import sample_ddim, sample_ddpm
from nodegraph_diffusion.sampling.dpmpp import sample_dpmpp_2m
from nodegraph_diffusion.sampling.euler import sample_euler, sample_euler_ancestral
from nodegraph_diffusion.sampling.heun import sample_heun
from nodegraph_diffusion.sampling.interface import Denoise, NoiseSource, OnStep, Sampler
from nodegraph_diffusion.sampling.noise import draw_noise, step_noise_source
from nodegraph_diffusion.sampling.options import check_options, options_of
from nodegraph_diffusion.sampling.run import sample, sigmas_for, start_latent

SAMPLERS: dict[str, Sampler] = {
    "ddim": sample_ddim,
    "ddpm": sample_ddpm,
    "dpmpp_2m": sample_dpmpp_2m,
    "euler": sample_euler,
    "euler_ancestral": sample_euler_ancestral,
    "heun": sample_heun,
}

__all__ = [
    "SAMPLERS",
    "Denoise",
    "NoiseSource",
    "OnStep",
    "Sampler",
    "check_options",
    "draw_noise",
    "options_of",
    "sample",
    "sigmas_for",
    "start_latent",
    "step_noise_source",
]
