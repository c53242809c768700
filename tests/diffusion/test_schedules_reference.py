"""Sampling schedules have the levels of the programs and papers that define them."""

from __future__ import annotations

import math

import diffusers
import numpy as np
import pytest
import torch
from diffusers.schedulers import AysSchedules
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from nodegraph_diffusion.noise_schedule import NoiseSchedule
from nodegraph_diffusion.schedules import SCHEDULES
from nodegraph_diffusion.schedules.align_your_steps import TABLES
from tests.support.k_diffusion import SAMPLING as K

SD1 = NoiseSchedule()
NO_SIGNAL = NoiseSchedule(prediction="v", zero_snr=True)  # at the last training step
NO_NOISE = NoiseSchedule(beta_start=1e-12)  # at the first one
LARGEST, SMALLEST = SD1.sigma_max, SD1.sigma_min
PUBLISHED = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}

# diffusers hands tensors to numpy in a way that numpy is about to drop
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def levels(name: str, steps: int, schedule: NoiseSchedule = SD1, **options: object) -> torch.Tensor:
    return SCHEDULES[name](schedule, steps, **options)


def at(*timesteps: float, schedule: NoiseSchedule = SD1) -> torch.Tensor:
    """The levels of these training steps, and 0."""
    return torch.cat([schedule.sigma(torch.tensor(timesteps)), torch.zeros(1)])


def assert_same(ours: torch.Tensor, theirs: torch.Tensor, rtol: float = 1e-6) -> None:
    torch.testing.assert_close(ours, theirs.float(), rtol=rtol, atol=0)


# The ramps: k-diffusion's, and closed forms


@pytest.mark.parametrize("steps", [1, 2, 9, 20, 50])
@pytest.mark.parametrize("schedule", [SD1, NO_SIGNAL], ids=["eps", "zero-snr"])
@pytest.mark.parametrize(("rho", "power"), [(1.0, 0.5), (3.0, 1.0), (7.0, 2.0)])
def test_ramps_equal_kdiffusion(steps, schedule, rho, power):
    """To the last bit: see tests/diffusion/test_brownian_noise.py for why."""
    ends = steps, schedule.sigma_min, schedule.sigma_max
    assert torch.equal(levels("karras", steps, schedule, rho=rho), K.get_sigmas_karras(*ends, rho))
    assert torch.equal(levels("polyexponential", steps, schedule, rho=power), K.get_sigmas_polyexponential(*ends, power))
    assert torch.equal(levels("exponential", steps, schedule), K.get_sigmas_exponential(*ends))


@pytest.mark.parametrize("options", [{}, {"beta_d": 5.0, "beta_min": 0.3, "eps_s": 0.01}])
def test_vp_equals_kdiffusion(options):
    """k-diffusion subtracts 1 from an exponential near 1 in float32; ComfyUI fixed that."""
    theirs = K.get_sigmas_vp(15, **options)
    assert_same(levels("vp", 15, **options), theirs, rtol=1e-3)
    assert_same(levels("vp", 15, **options)[:-3], theirs[:-3], rtol=2e-6)


def test_vp_is_the_variance_preserving_process():
    sigmas = levels("vp", 4).double()
    t = torch.tensor([1, 0.667, 0.334, 0.001], dtype=torch.float64)
    log_signal = -0.25 * t**2 * 19.9 - 0.5 * t * 0.1  # Song et al. 2021, Eq. 33
    torch.testing.assert_close((1 + sigmas[:-1] ** 2).rsqrt(), log_signal.exp(), rtol=1e-6, atol=0)
    assert sigmas[0].item() == pytest.approx(152.167, rel=1e-5)
    assert sigmas[-2].item() == pytest.approx(math.sqrt(math.expm1(19.9e-6 / 2 + 1e-4)), rel=1e-6)


def test_kl_optimal_is_even_in_the_arc_tangent():
    angles = levels("kl_optimal", 11)[:-1].double().atan()
    expected = torch.linspace(math.atan(LARGEST), math.atan(SMALLEST), 11, dtype=torch.float64)
    torch.testing.assert_close(angles, expected, rtol=1e-6, atol=0)


def test_kl_optimal_rounds_as_comfyui_does():
    """In float32, which changes the largest level of a zero-SNR model."""
    part = torch.arange(6, dtype=torch.float32) / 5
    angles = part * math.atan(NO_SIGNAL.sigma_min) + (1 - part) * math.atan(NO_SIGNAL.sigma_max)
    assert_same(levels("kl_optimal", 6, NO_SIGNAL)[:-1], angles.tan(), rtol=1e-5)
    assert abs(levels("kl_optimal", 6, NO_SIGNAL)[0].item() / NO_SIGNAL.sigma_max - 1) > 1e-5


@pytest.mark.parametrize(("mu", "beta"), [(0.0, 0.5), (0.4, 0.3), (-1.0, 0.8)])
def test_laplace_has_the_quantiles_of_its_distribution(mu, beta):
    sigmas = levels("laplace", 9, mu=mu, beta=beta)[:-1].double()
    away = (sigmas.log() - mu) / beta
    above = torch.where(away > 0, (-away).exp() / 2, 1 - away.exp() / 2)  # the part of the distribution above each level
    expected = torch.linspace(0, 1, 9, dtype=torch.float64)
    torch.testing.assert_close(above[1:-1], expected[1:-1], rtol=0, atol=1e-5)
    assert sigmas[0] == LARGEST
    assert sigmas[-1].item() == pytest.approx(max(SMALLEST, math.exp(mu + beta * math.log(1e-5))), rel=1e-5)


def test_laplace_has_each_level_once():
    sigmas = levels("laplace", 1000, beta=1.0)
    assert 900 < len(sigmas) < 1000
    assert sigmas[[0, -2]].tolist() == [LARGEST, SMALLEST]


def test_linear_quadratic_equals_manual_values():
    parts = torch.tensor([1, 0.9875, 0.975, 0.725, 0])  # 0.025 in two steps, then 0.0125 u + 0.2375 u^2 more
    assert_same(levels("linear_quadratic", 4), parts * LARGEST)
    assert levels("linear_quadratic", 1).tolist() == [LARGEST, 0]
    parts = torch.tensor([1, 0.9, 0.625, 0])  # 0.1 in one step, then 0.1 u + 0.175 u^2 more
    assert_same(levels("linear_quadratic", 3, threshold_noise=0.1, linear_steps=1), parts * LARGEST)


@settings(deadline=None)
@given(steps=st.integers(4, 60), threshold=st.floats(0.001, 0.1), data=st.data())
def test_linear_quadratic_is_a_line_then_a_parabola(steps, threshold, data):
    linear = data.draw(st.integers(max(1, steps // 4), steps - 1))
    taken = 1 - levels("linear_quadratic", steps, threshold_noise=threshold, linear_steps=linear).double() / LARGEST
    assert taken[linear].item() == pytest.approx(threshold, abs=1e-6)
    torch.testing.assert_close(
        taken[: linear + 1].diff(), torch.full((linear,), threshold / linear, dtype=torch.float64), rtol=0, atol=1e-6
    )
    bends = taken[linear:].diff().diff()
    curvature = (1 - threshold - threshold / linear * (steps - linear)) / (steps - linear) ** 2
    torch.testing.assert_close(bends, torch.full_like(bends, 2 * curvature), rtol=0, atol=2e-6)
    assert (taken[linear + 1] - taken[linear]).item() == pytest.approx(threshold / linear + curvature, abs=1e-6)


# Training steps, by ComfyUI's rules worked out by hand


def test_normal_visits_evenly_spaced_timesteps():
    assert_same(levels("normal", 5), at(999, 749.25, 499.5, 249.75, 0))


def test_timesteps_are_rounded_as_comfyui_rounds_them():
    """To float32, which matters if the last level is far above the one before."""
    for steps in range(2, 60):
        visited = torch.linspace(999, 0, steps + 1, dtype=torch.float32)
        assert_same(levels("sgm_uniform", steps, NO_SIGNAL)[:-1], NO_SIGNAL.sigma(visited)[:-1])
        assert_same(levels("normal", steps + 1, NO_SIGNAL)[:-1], NO_SIGNAL.sigma(visited))


def test_normal_ends_on_a_trained_level_that_has_no_noise():
    """It also visits one more training step; that level itself is the 0."""
    assert NO_NOISE.sigma_min < 1e-5
    assert_same(levels("normal", 4, NO_NOISE), at(999, 749.25, 499.5, 249.75, schedule=NO_NOISE))


def test_sgm_uniform_skips_the_first_timestep():
    assert_same(levels("sgm_uniform", 4), at(999, 749.25, 499.5, 249.75))


def test_simple_picks_trained_levels():
    assert_same(levels("simple", 4), at(999, 749, 499, 249))
    assert_same(levels("simple", 3), at(999, 666, 333))


def test_ddim_uniform_goes_up_from_the_second_timestep():
    assert_same(levels("ddim_uniform", 4), at(751, 501, 251, 1))
    assert_same(levels("ddim_uniform", 20), at(*range(951, 0, -50)))
    more = levels("ddim_uniform", 30)
    assert len(more) - 1 == 31
    assert_same(more, at(*range(991, 0, -33)))


def test_ddim_uniform_ends_on_a_noiseless_second_level():
    faint = NoiseSchedule(steps=10_000, beta_start=1e-13, beta_end=1e-4)
    assert faint.sigmas()[1] < 1e-5
    assert_same(levels("ddim_uniform", 4, faint), at(8001, 6001, 4001, 2001, schedule=faint))


def test_beta_of_a_half_is_the_arcsine_distribution():
    quantiles = 1 - np.arange(12) / 12
    timesteps = np.rint(999 * np.sin(np.pi * quantiles / 2) ** 2)
    assert_same(levels("beta", 12, alpha=0.5, beta=0.5), at(*timesteps))


def test_beta_visits_timesteps_at_even_quantiles():
    timesteps = SD1.timestep(levels("beta", 20)[:-1]).round().double().numpy()
    low, high = (special.betainc(0.6, 0.6, np.clip((timesteps + by) / 999, 0, 1)) for by in (-0.5, 0.5))
    quantiles = 1 - np.arange(20) / 20
    assert ((low <= quantiles) & (quantiles <= high)).all()


def test_beta_has_each_timestep_once():
    assert len(levels("beta", 1000)) - 1 < 900


def test_turbo_visits_the_first_of_ten_timesteps():
    assert_same(levels("turbo", 1), at(999))
    assert_same(levels("turbo", 4), at(999, 899, 799, 699))
    assert_same(levels("turbo", 2, denoise=0.5), at(499, 399))


# Align Your Steps: the published tables


@pytest.mark.parametrize(("model", "name"), [("sd1", "StableDiffusion"), ("sdxl", "StableDiffusionXL")])
def test_align_your_steps_equals_the_published_table(model, name):
    sigmas = levels("align_your_steps", 10, model=model)
    assert_same(sigmas, at(*AysSchedules[f"{name}Timesteps"]), rtol=2e-6)
    assert_same(sigmas, torch.tensor(AysSchedules[f"{name}Sigmas"]), rtol=0.02)  # which are rounded, and of a table between steps


def test_video_align_your_steps_equals_the_table():
    assert_same(levels("align_your_steps", 10, model="svd"), torch.tensor(AysSchedules["StableDiffusionVideoSigmas"]))


@pytest.mark.parametrize("model", TABLES)
def test_align_your_steps_interpolates_the_logarithm(model):
    table = levels("align_your_steps", 10, model=model)
    twice = levels("align_your_steps", 20, model=model)
    assert_same(twice[::2], table)
    assert_same(twice[1:-2:2], (table[:-2] * table[1:-1]).sqrt())
    assert twice[-2].item() == pytest.approx(math.sqrt(TABLES[model][-2] * TABLES[model][-1]), rel=1e-6)
    assert_same(levels("align_your_steps", 5, model=model), table[::2])


# diffusers' schedulers


def diffusers_levels(steps: int, scheduler: type = diffusers.EulerDiscreteScheduler, **config: object) -> torch.Tensor:
    made = scheduler(**PUBLISHED, **config)
    made.set_timesteps(steps)
    return made.sigmas


@pytest.mark.parametrize("steps", [2, 12, 30])
@pytest.mark.parametrize(("name", "options"), [("karras", {}), ("exponential", {}), ("beta", {"spread": "sigma"})])
def test_ramps_equal_diffusers(name, options, steps):
    theirs = diffusers_levels(steps, timestep_spacing="linspace", **{f"use_{name}_sigmas": True})
    assert_same(levels(name, steps, **options), theirs, rtol=3e-5)


EVERY = [*range(1, 60), 64, 80, 96, 100, 250, 333, 400, 499, 500, 501, 800, 999]


DPM = (diffusers.DPMSolverMultistepScheduler, diffusers.UniPCMultistepScheduler, diffusers.DEISMultistepScheduler)


@pytest.mark.parametrize("scheduler", [diffusers.EulerDiscreteScheduler, *DPM])
@pytest.mark.parametrize(("name", "offset"), [("leading", 0), ("leading", 1), ("trailing", 0), ("linspace", 0)])
def test_spacings_equal_diffusers(scheduler, name, offset):
    dpm = scheduler in DPM
    options = {"rule": "dpm"} if dpm and name != "trailing" else {}
    options |= {"steps_offset": offset} if name == "leading" else {}
    for steps in EVERY:
        if (name, steps) in (("linspace", 1), ("leading", 999)) and (steps == 1) is not dpm:
            continue  # it starts from the first timestep where ours starts from the last; there is no timestep 1000
        theirs = diffusers_levels(steps, scheduler, timestep_spacing=name, steps_offset=offset)
        if name == "trailing" and len(theirs) == steps + 2:
            theirs = torch.cat([theirs[:-2], theirs[-1:]])  # rounding led it to a timestep -1
        assert_same(levels(name, steps, **options)[:-1], theirs[:-1], rtol=3e-5)  # DEIS ends on the smallest level, the others on 0


def test_spacings_work_at_their_limits():
    assert_same(levels("linspace", 1), at(999))
    assert_same(levels("leading", 999), at(*range(999, 0, -1)))
    assert_same(levels("trailing", 1000), at(*range(999, -1, -1)))


@pytest.mark.parametrize(
    ("scheduler", "config"), [(diffusers.DDIMScheduler, {}), (diffusers.PNDMScheduler, {"skip_prk_steps": True})]
)
def test_default_of_stable_diffusion_is_leading(scheduler, config):
    made = scheduler(**PUBLISHED, timestep_spacing="leading", steps_offset=1, **config)
    made.set_timesteps(20)
    assert_same(levels("leading", 20), at(*sorted(set(made.timesteps.tolist()), reverse=True)))


@pytest.mark.parametrize("steps", [2, 5, 8, 20, 33])
@pytest.mark.parametrize("schedule", [SD1, NO_SIGNAL], ids=["eps", "zero-snr"])
def test_linear_quadratic_equals_comfyui_exactly(steps, schedule):
    """The parts are rounded to float32, then their products with the largest level."""
    linear, bent = steps // 2, steps - steps // 2
    parts = [0.025 * i / linear for i in range(linear)]
    rest = 1 - 0.025 - 0.025 / linear * bent
    parts += [0.025 * i / linear + rest * ((i - linear) / bent) ** 2 for i in range(linear, steps)]
    expected = torch.cat([(1 - torch.tensor(parts, dtype=torch.float64)).float() * schedule.sigma_max, torch.zeros(1)])
    assert torch.equal(levels("linear_quadratic", steps, schedule), expected)
