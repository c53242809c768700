"""The multistep samplers take the steps of diffusers' schedulers, which get our noise levels.

Three conventions differ. diffusers extrapolates the last step of iPNDM to noise level 0; ours ends at the estimate, as in ComfyUI.
Its UniPC goes to level 0; ours to 0.001. Its PNDM scheduler takes the first step in two calls.
"""

from __future__ import annotations

import diffusers
import pytest
import torch

from tests.support.steps import START, assert_same_steps, every_schedule, our_steps
from tests.support.toy_denoisers import TwistedDenoiser

# diffusers hands tensors to numpy in a way that numpy is about to drop
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]


def with_levels(scheduler, sigmas, last=0.0):
    """A scheduler of diffusers with our noise levels."""
    scheduler.set_timesteps(len(sigmas) - 1)
    scheduler.sigmas = torch.cat([sigmas[:-1].double(), sigmas[-1:].double().clamp(min=last)])
    scheduler.timesteps = torch.arange(len(sigmas) - 1).flip(0)
    scheduler.num_inference_steps = len(sigmas) - 1
    return scheduler


def preserving(sigma):
    """x over the sample of the variance-preserving schedulers."""
    return (1 + sigma**2) ** 0.5


@every_schedule
@pytest.mark.parametrize(("name", "kind"), [("uni_pc", "bh1"), ("uni_pc_bh2", "bh2")])
def test_uni_pc_takes_diffusers_steps(name, kind, sigmas):
    steps = len(sigmas) - 1
    scheduler = with_levels(
        diffusers.UniPCMultistepScheduler(solver_order=max(1, min(3, steps - 1)), solver_type=kind), sigmas, last=0.001
    )
    levels, sample, reference = scheduler.sigmas, START * sigmas[0] / preserving(sigmas[0]), []
    for i, timestep in enumerate(scheduler.timesteps):
        x = sample * preserving(levels[i])
        predicted = (x - TwistedDenoiser()(x, levels[i])) / levels[i]
        sample = scheduler.step(predicted, timestep, sample).prev_sample
        reference.append(sample * preserving(levels[i + 1]))
    assert_same_steps(our_steps(name, sigmas), reference)


def variance_preserving_steps(scheduler, sigmas, output):
    """x after each call of a scheduler for the sample x / sqrt(1 + sigma^2); `output`(x, slope, sigma) is the network's."""
    levels = sigmas.double()
    sample, steps = START * sigmas[0] / preserving(levels[0]), []
    for timestep, (here, there) in scheduler:
        x = sample * preserving(levels[here])
        slope = (x - TwistedDenoiser()(x, levels[here])) / levels[here]
        sample = output(timestep, slope, sample, levels[here])
        steps.append(sample * preserving(levels[there]))
    return steps


@every_schedule
def test_plms_takes_diffusers_steps(sigmas):
    steps = len(sigmas) - 1
    scheduler = diffusers.PNDMScheduler(num_train_timesteps=steps, skip_prk_steps=True, set_alpha_to_one=True)
    scheduler.set_timesteps(steps)
    signal = 1 / (1 + sigmas.double() ** 2)
    scheduler.alphas_cumprod, scheduler.final_alpha_cumprod = signal[:-1].flip(0), signal[-1]
    # their second call is at the end of the first step, and takes that step again
    path = [(0, 1)] if steps == 1 else [(0, 1), (1, 1), *((i, i + 1) for i in range(1, steps))]
    calls = list(zip(scheduler.timesteps.tolist(), path, strict=True))
    reference = variance_preserving_steps(
        calls, sigmas, lambda timestep, slope, sample, sigma: scheduler.step(slope, timestep, sample).prev_sample
    )
    ours = our_steps("plms", sigmas)
    if steps == 1 and sigmas[-1] > 0:
        return  # theirs then has no second call
    assert_same_steps(ours, reference if steps == 1 else reference[1:])


@every_schedule
def test_ipndm_takes_diffusers_steps(sigmas):
    steps = len(sigmas) - 1
    scheduler = with_levels(diffusers.IPNDMScheduler(), sigmas)
    scheduler.alphas = 1 / preserving(sigmas.double())
    scheduler.betas = sigmas.double() / preserving(sigmas.double())

    def step(timestep, slope, sample, sigma):  # their network predicts the velocity
        clean = sample * preserving(sigma) - slope * sigma
        velocity = (slope - clean * sigma) / preserving(sigma)
        return scheduler.step(velocity, timestep, sample).prev_sample

    calls = [(timestep, (i, i + 1)) for i, timestep in enumerate(scheduler.timesteps.tolist())]
    reference, ours = variance_preserving_steps(calls, sigmas, step), our_steps("ipndm", sigmas)
    compared = steps - 1 if sigmas[-1] == 0 else steps
    assert_same_steps(ours[:compared], reference[:compared])


@every_schedule
def test_dpm_2_takes_diffusers_steps(sigmas):
    steps = len(sigmas) - 1
    scheduler = diffusers.KDPM2DiscreteScheduler(num_train_timesteps=10)  # its levels are replaced below
    scheduler.set_timesteps(steps)
    levels = sigmas.double()
    between = levels.log().lerp(levels.roll(1).log(), 0.5).exp()
    scheduler.sigmas = torch.cat([levels[:1], levels[1:].repeat_interleave(2), levels[-1:]])
    scheduler.sigmas_interpol = torch.cat([between[:1], between[1:].repeat_interleave(2), between[-1:]])
    scheduler.timesteps = torch.arange(2 * steps)
    sample, reference = START * sigmas[0], []
    for i in range(2 * steps if sigmas[-1] > 0 else 2 * steps - 1):
        sigma = scheduler.sigmas[i] if scheduler.state_in_first_order else scheduler.sigmas_interpol[i]
        if scheduler.state_in_first_order and scheduler.sigmas[i + 1] == 0:  # theirs has no middle there either
            reference.append(TwistedDenoiser()(sample, sigma))
            break
        sample = scheduler.step((sample - TwistedDenoiser()(sample, sigma)) / sigma, scheduler.timesteps[i], sample).prev_sample
        if scheduler.state_in_first_order:
            reference.append(sample)
    assert_same_steps(our_steps("dpm_2", sigmas), reference)
