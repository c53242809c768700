"""SEEDS and ER-SDE take the steps of their papers, and DPM-Solver++ and LCM those of diffusers' stochastic schedulers.

Solvers that no package has are written again here, with the papers' integrals by quadrature.
"""

from __future__ import annotations

import math
from itertools import pairwise

import diffusers
import numpy
import pytest
import torch
from scipy.integrate import quad

from nodegraph_diffusion.schedules import schedule_karras
from tests.support.diffusers_schedulers import PUBLISHED, our_steps, preserving, reference_steps
from tests.support.stochastic_samplers import SIGMAS, START, assert_near, run
from tests.support.toy_denoisers import SCHEDULE, TwistedDenoiser, generator_noise

# diffusers hands tensors to numpy in a way that numpy is about to drop
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def assert_same_result(name, reference, sigmas, **options):
    x = START.double() * sigmas[0]
    ours = run(name, TwistedDenoiser(), x, sigmas, noise=generator_noise(x), **options)
    assert_near(ours, reference(TwistedDenoiser(), x, sigmas.tolist(), generator_noise(x), **options), 1e-7)


# --- SEEDS, from the covariance of its noise: exp(-2 eta (1 - r) h) - exp(-2 eta h) remains of the stage at r ---


def seeds_2(denoise, x, sigmas, noise, eta=1.0, s_noise=1.0, r=0.5):
    for sigma, sigma_next in pairwise(sigmas):
        denoised = denoise(x, sigma)
        if sigma_next == 0:
            x = denoised
            continue
        h = math.log(sigma) - math.log(sigma_next)
        middle = sigma * math.exp(-r * h)
        first, second = (noise(sigma, middle), noise(middle, sigma_next)) if eta else (0.0, 0.0)
        stage = math.exp(-r * h * (1 + eta)) * x + (1 - math.exp(-r * h * (1 + eta))) * denoised
        stage = stage + middle * s_noise * math.sqrt(1 - math.exp(-2 * eta * r * h)) * first
        denoised_2 = denoise(stage, middle)
        target = denoised + (denoised_2 - denoised) / (2 * r)
        x = math.exp(-h * (1 + eta)) * x + (1 - math.exp(-h * (1 + eta))) * target
        remaining = math.sqrt(math.exp(-2 * eta * (1 - r) * h) - math.exp(-2 * eta * h)) * first
        x = x + sigma_next * s_noise * (remaining + math.sqrt(1 - math.exp(-2 * eta * (1 - r) * h)) * second)
    return x


def seeds_3(denoise, x, sigmas, noise, eta=1.0, s_noise=1.0, r_1=1 / 3, r_2=2 / 3):
    for sigma, sigma_next in pairwise(sigmas):
        denoised = denoise(x, sigma)
        if sigma_next == 0:
            x = denoised
            continue
        h = math.log(sigma) - math.log(sigma_next)
        level_1, level_2 = sigma * math.exp(-r_1 * h), sigma * math.exp(-r_2 * h)
        draws = [(noise(*step) if eta else 0.0) for step in ((sigma, level_1), (level_1, level_2), (level_2, sigma_next))]

        def noise_at(r, level, draws=draws, h=h):
            ends = [end for end in (0.0, r_1, r_2, 1.0) if end <= r]
            shares = [math.exp(-2 * eta * (r - end) * h) - math.exp(-2 * eta * (r - start) * h) for start, end in pairwise(ends)]
            return level * s_noise * sum(math.sqrt(share) * draw for share, draw in zip(shares, draws, strict=False))

        def solved(slope, r, x=x, denoised=denoised, h=h):
            """The exact solution at r for the estimate denoised + slope * u."""
            rate = h * (1 + eta)
            drift = quad(lambda u: rate * math.exp(-rate * (r - u)) * u, 0, r, epsabs=1e-13)[0]
            return math.exp(-rate * r) * x + (1 - math.exp(-rate * r)) * denoised + drift * slope

        stage_1 = solved(0.0, r_1) + noise_at(r_1, level_1)
        slope_1 = (denoise(stage_1, level_1) - denoised) / r_1
        stage_2 = solved(slope_1, r_2) + noise_at(r_2, level_2)
        slope_2 = (denoise(stage_2, level_2) - denoised) / r_2
        x = solved(slope_2, 1.0) + noise_at(1.0, sigma_next)
    return x


@pytest.mark.parametrize("sigmas", SIGMAS)
@pytest.mark.parametrize("options", [{}, {"eta": 0.0}, {"eta": 0.6, "s_noise": 0.9, "r": 0.3}])
def test_seeds_2_steps(sigmas, options):
    assert_same_result("seeds_2", seeds_2, sigmas, **options)


@pytest.mark.parametrize("sigmas", SIGMAS)
@pytest.mark.parametrize("options", [{}, {"eta": 0.0}, {"eta": 0.6, "s_noise": 0.9, "r_1": 0.25, "r_2": 0.6}])
def test_seeds_3_steps(sigmas, options):
    assert_same_result("seeds_3", seeds_3, sigmas, **options)


# --- ER-SDE ---


def er_sde(denoise, x, sigmas, noise, s_noise=1.0, max_stage=3):
    """The published solver, with its sums of 200 points from the lower level up."""

    def phi(level):
        return level * (numpy.exp(level**0.3) + 10.0)

    estimates, slopes = [], []
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        estimates.append(denoise(x, sigma))
        if sigma_next == 0:
            x = estimates[-1]
            continue
        r, dt = phi(sigma_next) / phi(sigma), sigma_next - sigma
        x = r * x + (1 - r) * estimates[-1]
        points = sigma_next - numpy.arange(200) * dt / 200
        slopes.append(None)
        if min(max_stage, i + 1) >= 2:
            slopes[-1] = (estimates[-1] - estimates[-2]) / (sigma - sigmas[i - 1])
            x = x + (dt + float((1 / phi(points)).sum()) * -dt / 200 * phi(sigma_next)) * slopes[-1]
        if min(max_stage, i + 1) >= 3:
            bend = (slopes[-1] - slopes[-2]) / ((sigma - sigmas[i - 2]) / 2)
            area = float(((points - sigma) / phi(points)).sum()) * -dt / 200
            x = x + (dt**2 / 2 + area * phi(sigma_next)) * bend
        if s_noise:
            x = x + noise(sigma, sigma_next) * s_noise * math.sqrt(sigma_next**2 - sigma**2 * r**2)
    return x


@pytest.mark.parametrize("sigmas", SIGMAS)
@pytest.mark.parametrize("options", [{}, {"max_stage": 1}, {"max_stage": 2, "s_noise": 0.9}, {"s_noise": 0.0}])
def test_er_sde_steps(sigmas, options):
    assert_same_result("er_sde", er_sde, sigmas, **options)


@pytest.mark.parametrize(
    ("options", "same_as"),
    [
        ({"solver_type": "reverse_time", "max_stage": 1}, ("euler_ancestral", {})),
        ({"solver_type": "reverse_time", "max_stage": 1, "s_noise": 0.7}, ("euler_ancestral", {"s_noise": 0.7})),
        ({"solver_type": "ode", "max_stage": 1}, ("euler", {})),
        ({"solver_type": "reverse_time", "eta": 0.0}, ("er_sde", {"solver_type": "ode"})),
    ],
)
def test_er_sde_contains_other_samplers(options, same_as):
    x, sigmas = START.double() * SCHEDULE.sigma_max, schedule_karras(SCHEDULE, 7).double()
    ours = run("er_sde", TwistedDenoiser(), x, sigmas, noise=generator_noise(x), **options)
    torch.testing.assert_close(ours, run(same_as[0], TwistedDenoiser(), x, sigmas, noise=generator_noise(x), **same_as[1]))


# --- diffusers ---


def multistep(**options):
    scheduler = diffusers.DPMSolverMultistepScheduler(**PUBLISHED, use_karras_sigmas=True, **options)
    scheduler.set_timesteps(20)  # with fewer than 15 it lowers the order toward the end
    return scheduler


@pytest.mark.parametrize("solver_type", ["midpoint", "heun"])
def test_dpmpp_2m_sde_takes_diffusers_steps(solver_type):
    scheduler = multistep(algorithm_type="sde-dpmsolver++", solver_order=2, solver_type=solver_type)
    sigmas = schedule_karras(SCHEDULE, 20)
    reference = reference_steps(scheduler, sigmas, preserving, generator=torch.Generator().manual_seed(3))
    ours = our_steps("dpmpp_2m_sde", sigmas, generator_noise(START), solver_type=solver_type)
    for our, theirs in zip(ours, reference, strict=True):
        assert_near(our, theirs)


def test_dpmpp_3m_takes_diffusers_steps():
    """Without noise: with noise, diffusers has another sign in the second-order term, which then does not vanish with the step."""
    scheduler = multistep(algorithm_type="dpmsolver++", solver_order=3, solver_type="heun")
    sigmas = schedule_karras(SCHEDULE, 20)
    reference = reference_steps(scheduler, sigmas, preserving)
    for our, theirs in zip(our_steps("dpmpp_3m_sde", sigmas, eta=0.0), reference, strict=True):
        assert_near(our, theirs)


@pytest.mark.parametrize("steps", [2, 3, 4, 20])
def test_dpmpp_sde_takes_diffusers_steps(steps):
    scheduler = diffusers.DPMSolverSDEScheduler(**PUBLISHED, use_karras_sigmas=True)
    scheduler.set_timesteps(steps)
    sigmas = schedule_karras(SCHEDULE, steps)
    x = START.double()
    noise, denoise = generator_noise(x), TwistedDenoiser()
    scheduler.noise_sampler = lambda sigma, sigma_next: noise(sigma, sigma_next)
    sample, reference = x * sigmas[0], []
    for i, timestep in enumerate(scheduler.timesteps):
        sigma = float(sigmas[i // 2]) if scheduler.state_in_first_order else float(scheduler.mid_point_sigma)
        sample = scheduler.step((sample - denoise(sample, sigma)) / sigma, timestep, sample).prev_sample
        if scheduler.state_in_first_order:
            reference.append(sample)
    for ours, theirs in zip(our_steps("dpmpp_sde", sigmas, generator_noise(x)), reference, strict=True):
        assert_near(ours, theirs)


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_lcm_takes_diffusers_steps(steps):
    """diffusers mixes a little of the sample into the estimate, 6e-6 of it at the last step; we do not."""
    scheduler = diffusers.LCMScheduler(**PUBLISHED, clip_sample=False)
    scheduler.set_timesteps(steps)
    sigmas = torch.cat([SCHEDULE.sigmas()[scheduler.timesteps], torch.zeros(1)])
    reference = reference_steps(scheduler, sigmas, preserving, generator=torch.Generator().manual_seed(3))
    for ours, theirs in zip(our_steps("lcm", sigmas, generator_noise(START.double())), reference, strict=True):
        assert_near(ours, theirs)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("seeds_2", {"r": 1.0}, "seeds_2: expected r between 0 and 1, found 1.0"),
        ("seeds_2", {"eta": -1.0}, "eta of at least 0, found -1.0"),
        ("seeds_3", {"r_1": 0.7}, "0 < r_1 < r_2 < 1, found 0.7 and 0.66"),
        ("seeds_3", {"s_noise": -1.0}, "s_noise of at least 0, found -1.0"),
        ("er_sde", {"max_stage": 4}, "max_stage 1, 2 or 3, found 4"),
        ("er_sde", {"integration_points": 0}, "at least 1 integration_points, found 0"),
        ("er_sde", {"solver_type": "sde"}, "'er_sde', 'reverse_time', 'ode', found 'sde'"),
        ("sa_solver", {"predictor_order": 0}, "predictor_order from 1 to 6, found 0"),
        ("sa_solver", {"corrector_order": 7}, "corrector_order from 0 .* to 6, found 7"),
        ("sa_solver", {"sde_start": 0.9}, "0 <= sde_start <= sde_end <= 1, found 0.9 and 0.8"),
        ("sa_solver_pece", {"eta": float("nan")}, "eta of at least 0, found nan"),
        ("dpmpp_sde", {"r": 0.0}, "r above 0 and at most 1, found 0.0"),
        ("dpmpp_2m_sde", {"solver_type": "euler"}, "'midpoint' or 'heun', found 'euler'"),
        ("dpmpp_2m_sde_heun", {"eta": -1.0}, "eta of at least 0"),
        ("dpmpp_3m_sde", {"s_noise": -1.0}, "dpmpp_3m_sde: expected s_noise of at least 0"),
        ("dpmpp_2s_ancestral", {"eta": -1.0}, "dpmpp_2s_ancestral: expected eta"),
        ("dpmpp_2s_ancestral_cfg_pp", {"eta": -1.0}, "dpmpp_2s_ancestral_cfg_pp: expected eta"),
    ],
)
def test_options_out_of_range_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        run(name, TwistedDenoiser(), START, schedule_karras(SCHEDULE, 2), **options)
