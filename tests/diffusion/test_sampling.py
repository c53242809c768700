"""The basic samplers: their errors, the steps of diffusers, and which of them are the same."""

from __future__ import annotations

import math

import diffusers
import pytest
import torch

from nodegraph_diffusion.denoising.unguided import as_guided
from nodegraph_diffusion.sampling import SAMPLERS
from nodegraph_diffusion.schedules.continuous import schedule_karras
from nodegraph_diffusion.schedules.timesteps import schedule_normal
from tests.support.diffusers_schedulers import PUBLISHED, START, our_steps, preserving, reference_steps
from tests.support.toy_denoisers import (
    SCHEDULE,
    GaussianDenoiser,
    TwistedDenoiser,
    generator_noise,
    ignore_step,
    no_noise,
)

# diffusers hands tensors to numpy in a way that numpy is about to drop
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BASIC = ["ddim", "ddpm", "dpmpp_2m", "euler", "euler_ancestral", "heun"]


def run(name, denoise, x, sigmas, noise=no_noise, **options):
    return SAMPLERS[name](as_guided(denoise), x, sigmas, noise=noise, on_step=ignore_step, **options)


def noise_for(name, x):
    return generator_noise(x) if SAMPLERS[name].stochastic else no_noise


def error(name, steps):
    """The distance from the exact solution after `steps` steps, even in log sigma, from level 10 to 0.1."""
    denoise = GaussianDenoiser()
    x = START.double() * 10
    sigmas = torch.logspace(1, -1, steps + 1, dtype=torch.float64)
    return (run(name, denoise, x, sigmas) - denoise.solution(x, 10.0, 0.1)).abs().max().item()


@pytest.mark.parametrize("name", ["ddim", "euler", "heun", "dpmpp_2m"])
def test_error_after_128_steps_is_small(name):
    assert error(name, 128) < 0.05 ** SAMPLERS[name].order


@pytest.mark.parametrize(
    ("name", "options"),
    [("ddpm", {}), ("euler_ancestral", {}), ("euler_ancestral", {"eta": 0.5}), ("ddim", {"eta": 1.0})],
)
def test_mean_and_deviation_are_those_of_the_data(name, options):
    denoise = GaussianDenoiser(mean=0.7, deviation=0.5)
    unit = torch.randn(1, 1, 150, 150, generator=torch.Generator().manual_seed(1))
    x = 0.7 + unit * math.hypot(0.5, SCHEDULE.sigma_max)
    sampled = run(name, denoise, x, schedule_karras(SCHEDULE, 400), noise=generator_noise(x), **options)
    assert sampled.mean().item() == pytest.approx(0.7, abs=0.01)
    assert sampled.std().item() == pytest.approx(0.5, rel=0.02)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("ddim", {}), ("euler", {})),
        (("ddim", {"eta": 0.6}), ("euler_ancestral", {"eta": 0.6})),
        (("ddpm", {}), ("euler_ancestral", {})),
        (("ddpm", {}), ("ddim", {"eta": 1.0})),
        (("euler", {}), ("euler_ancestral", {"eta": 0.0})),
    ],
)
def test_these_samplers_are_the_same(one, other):
    x, sigmas = START.double() * SCHEDULE.sigma_max, schedule_karras(SCHEDULE, 9).double()
    first, second = (run(name, TwistedDenoiser(), x, sigmas, noise=generator_noise(x), **options) for name, options in (one, other))
    torch.testing.assert_close(first, second)


def same(x):
    return 1.0


def assert_same_steps(ours, reference):
    assert len(ours) == len(reference)
    for our, theirs in zip(ours, reference, strict=True):
        torch.testing.assert_close(our, theirs, rtol=3e-5, atol=3e-5)


@pytest.mark.parametrize("karras", [False, True])
def test_euler_takes_diffusers_steps(karras):
    scheduler = diffusers.EulerDiscreteScheduler(**PUBLISHED, use_karras_sigmas=karras, timestep_spacing="linspace")
    scheduler.set_timesteps(10)  # 999 / 9 is a whole number: no interpolation in either
    sigmas = (schedule_karras if karras else schedule_normal)(SCHEDULE, 10)
    assert_same_steps(our_steps("euler", sigmas), reference_steps(scheduler, sigmas, same))


def test_euler_ancestral_takes_diffusers_steps():
    scheduler = diffusers.EulerAncestralDiscreteScheduler(**PUBLISHED, timestep_spacing="linspace")
    scheduler.set_timesteps(10)
    sigmas = schedule_normal(SCHEDULE, 10)
    reference = reference_steps(scheduler, sigmas, same, generator=torch.Generator().manual_seed(3))
    assert_same_steps(our_steps("euler_ancestral", sigmas, generator_noise(START.double())), reference)


def test_heun_takes_diffusers_steps():
    scheduler = diffusers.HeunDiscreteScheduler(**PUBLISHED, use_karras_sigmas=True, timestep_spacing="linspace")
    scheduler.set_timesteps(8)
    sigmas = schedule_karras(SCHEDULE, 8)
    twice = torch.cat([sigmas[:1], sigmas[1:-1].repeat_interleave(2), sigmas[-1:]])  # theirs has a level for each call
    reference = reference_steps(scheduler, twice, same)
    assert_same_steps(our_steps("heun", sigmas), reference[1::2] + reference[-1:])


def test_dpmpp_2m_takes_diffusers_steps():
    scheduler = diffusers.DPMSolverMultistepScheduler(**PUBLISHED, use_karras_sigmas=True, timestep_spacing="linspace")
    scheduler.set_timesteps(9)
    sigmas = schedule_karras(SCHEDULE, 9)
    assert_same_steps(our_steps("dpmpp_2m", sigmas), reference_steps(scheduler, sigmas, preserving))


@pytest.mark.parametrize("eta", [0.0, 0.7, 1.0])
def test_ddim_takes_diffusers_steps(eta):
    scheduler = diffusers.DDIMScheduler(**PUBLISHED, clip_sample=False)
    scheduler.set_timesteps(10)
    sigmas = torch.cat([SCHEDULE.sigmas()[scheduler.timesteps], torch.zeros(1)])
    reference = reference_steps(scheduler, sigmas, preserving, eta=eta, generator=torch.Generator().manual_seed(3))
    ours = our_steps("ddim", sigmas, generator_noise(START.double()) if eta else no_noise, eta=eta)
    assert_same_steps(ours[:-1], reference[:-1])
    torch.testing.assert_close(ours[-1], reference[-1], rtol=3e-5, atol=3e-5)


def test_ddpm_takes_diffusers_steps():
    scheduler = diffusers.DDPMScheduler(**PUBLISHED, clip_sample=False)
    scheduler.set_timesteps(10)
    sigmas = torch.cat([SCHEDULE.sigmas()[scheduler.timesteps], torch.zeros(1)])
    reference = reference_steps(scheduler, sigmas, preserving, generator=torch.Generator().manual_seed(3))
    assert_same_steps(our_steps("ddpm", sigmas, generator_noise(START.double())), reference)


@pytest.mark.parametrize("name", BASIC)
def test_calls_reports_and_inputs(name):
    x, sigmas = START * SCHEDULE.sigma_max, schedule_karras(SCHEDULE, 6)
    kept_x, kept_sigmas = x.clone(), sigmas.clone()
    denoise, reports = GaussianDenoiser(), []
    noise = noise_for(name, x)
    sampled = SAMPLERS[name](as_guided(denoise), x, sigmas, noise=noise, on_step=lambda *report: reports.append(report))

    assert torch.equal(x, kept_x)
    assert torch.equal(sigmas, kept_sigmas)
    assert [i for i, _, _ in reports] == list(range(6))
    assert torch.equal(reports[-1][1], sampled)
    assert all(denoised.shape == x.shape for _, _, denoised in reports)
    calls = SAMPLERS[name].evaluations_per_step
    assert 5 * calls + 1 <= len(denoise.levels) <= 6 * calls
    assert sampled.dtype == torch.float32
    if name != "sa_solver_pece":  # its last estimate is later than the reported one
        torch.testing.assert_close(sampled, reports[-1][2], rtol=0, atol=1e-5)  # the last step ends at its estimate
    assert torch.equal(sampled, run(name, GaussianDenoiser(), x, sigmas, noise=noise_for(name, x)))


@pytest.mark.parametrize("name", [name for name in BASIC if name != "dpmpp_2m"])  # it needs the last step of the first part
def test_two_parts_of_a_run_equal_the_whole(name):
    x, sigmas = START * SCHEDULE.sigma_max, schedule_karras(SCHEDULE, 6)
    noise = generator_noise(x)
    whole = run(name, TwistedDenoiser(), x, sigmas, noise=noise)
    noise = generator_noise(x)
    half = run(name, TwistedDenoiser(), x, sigmas[:4], noise=noise)
    assert torch.equal(run(name, TwistedDenoiser(), half, sigmas[3:], noise=noise), whole)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ddim", {"eta": 1.5}, "eta between 0 and 1, found 1.5"),
        ("euler_ancestral", {"eta": -0.1}, "eta of at least 0, found -0.1"),
        ("euler_ancestral", {"s_noise": -1.0}, "s_noise of at least 0, found -1.0"),
    ],
)
def test_options_out_of_range_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        run(name, TwistedDenoiser(), START, schedule_karras(SCHEDULE, 2), **options)
