"""Samplers: functions that denoise a latent step by step along a list of noise levels."""

from __future__ import annotations

from nodegraph_diffusion.sampling.measured_orders import MEASURED
from nodegraph_diffusion.sampling.methods import (
    adams,
    cfg_pp,
    ddim,
    deis,
    dpm_2,
    dpm_adaptive,
    dpm_solver,
    dpmpp,
    dpmpp_sde,
    dpmpp_singlestep,
    er_sde,
    euler,
    gradient_estimation,
    heun,
    lcm,
    res_multistep,
    restart,
    sa_solver,
    seeds,
    uni_pc,
)
from nodegraph_diffusion.sampling.noise import draw_noise, step_noise_source
from nodegraph_diffusion.sampling.protocols import NoiseSource, OnStep, Sampler
from nodegraph_diffusion.sampling.run import sample, sigmas_for, start_latent
from nodegraph_diffusion.sampling.spec import SamplerSpec

SAMPLERS: dict[str, SamplerSpec] = {
    **ddim.SAMPLERS,
    **dpmpp.SAMPLERS,
    **euler.SAMPLERS,
    **cfg_pp.SAMPLERS,
    **heun.SAMPLERS,
    **dpm_2.SAMPLERS,
    **adams.SAMPLERS,
    **deis.SAMPLERS,
    **dpm_solver.SAMPLERS,
    **dpm_adaptive.SAMPLERS,
    **res_multistep.SAMPLERS,
    **gradient_estimation.SAMPLERS,
    **uni_pc.SAMPLERS,
    **restart.SAMPLERS,
    **dpmpp_singlestep.SAMPLERS,
    **dpmpp_sde.SAMPLERS,
    **lcm.SAMPLERS,
    **er_sde.SAMPLERS,
    **seeds.SAMPLERS,
    **sa_solver.SAMPLERS,
}
for _name, _spec in SAMPLERS.items():
    _spec.measured = MEASURED.get(_name)

__all__ = [
    "SAMPLERS",
    "NoiseSource",
    "OnStep",
    "Sampler",
    "SamplerSpec",
    "draw_noise",
    "sample",
    "sigmas_for",
    "start_latent",
    "step_noise_source",
]
