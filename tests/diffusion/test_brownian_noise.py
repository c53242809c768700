"""Brownian step noise: k-diffusion's path, one per picture, unit variance, increments that add up, rounding at the ends."""

from __future__ import annotations

import warnings
from itertools import pairwise

import pytest
import torch

from nodegraph_diffusion.sampling import SAMPLERS, draw_noise, sample, sigmas_for, step_noise_source
from nodegraph_diffusion.schedules import SCHEDULES
from tests.support.k_diffusion import SAMPLING
from tests.support.toy_denoisers import SCHEDULE, GaussianDenoiser, TwistedDenoiser

SHAPE = (3, 4, 6, 5)
LATENT = torch.zeros(SHAPE)
KARRAS = sigmas_for(SCHEDULES["karras"], SCHEDULE, 7)
SIGMAS = KARRAS.tolist()
LEVELS = SIGMAS[-2], SIGMAS[0]
BROWNIAN = [name for name, sampler in SAMPLERS.items() if sampler.noise == "brownian"]


@pytest.mark.filterwarnings("ignore:Should have t:UserWarning")  # torchsde warns about k-diffusion's queries
@pytest.mark.parametrize("seed", [0, 7, 2**64 - 1])
def test_comfyui_noise_is_k_diffusions(seed):
    theirs = SAMPLING.BrownianTreeNoiseSampler(LATENT, KARRAS[-2], KARRAS[0], seed=seed)
    ours = step_noise_source("comfyui", LATENT, seed, levels=LEVELS)
    for i, j in [(0, 1), (1, 2), (5, 6), (2, 4), (3, 2), (0, 6)]:
        assert torch.equal(ours(SIGMAS[i], SIGMAS[j]), theirs(KARRAS[i], KARRAS[j]))


@pytest.mark.parametrize("kind", ["fresh", "comfyui"])
def test_increments_add_up(kind):
    noise = step_noise_source(kind, LATENT, 7, levels=LEVELS)
    low, middle, high = 0.5, 2.0, 9.0
    whole = noise(high, low) * (high - low) ** 0.5
    parts = noise(high, middle) * (high - middle) ** 0.5 + noise(middle, low) * (middle - low) ** 0.5
    torch.testing.assert_close(whole, parts, rtol=1e-5, atol=1e-5)
    assert torch.equal(noise(low, high), -noise(high, low))


def test_increments_are_unit_noise_and_independent():
    noise = step_noise_source("fresh", torch.zeros(1, 1, 150, 150), 7, levels=LEVELS)
    first, second = noise(9.0, 2.0).flatten(), noise(2.0, 1.9).flatten()
    for draw in (first, second):
        assert draw.mean().item() == pytest.approx(0, abs=0.03)
        assert draw.std().item() == pytest.approx(1, abs=0.03)
    assert torch.corrcoef(torch.stack([first, second]))[0, 1].item() == pytest.approx(0, abs=0.03)


def test_each_picture_has_its_own_noise_path():
    batch, single = (step_noise_source("fresh", LATENT[k:], 7 + k, levels=LEVELS) for k in (0, 2))
    assert torch.equal(batch(9.0, 2.0)[2:], single(9.0, 2.0))
    assert torch.equal(batch(2.0, 0.5)[2:], single(2.0, 0.5))
    first = batch(9.0, 2.0)
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("kind", ["fresh", "comfyui"])
def test_levels_may_miss_the_ends_by_rounding(kind):
    low, high = LEVELS
    noise = step_noise_source(kind, LATENT, 7, levels=LEVELS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inside = noise(high, low)
        beyond = noise(high * (1 + 1e-6), low * (1 - 1e-6))
    torch.testing.assert_close(inside, beyond)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("levels", [None, LEVELS])
@pytest.mark.parametrize("kind", ["fresh", "comfyui"])
def test_noise_has_the_dtype_of_the_latent(kind, levels, dtype):
    assert step_noise_source(kind, LATENT.to(dtype), 7, levels=levels)(9.0, 2.0).dtype == dtype


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ((2.0, 0.0), "between the noise levels 0.02.* and 14.6.*, found 0 and 2; a step to level 0 draws no noise"),
        ((15.0, 2.0), "found 2 and 15"),
        ((2.0, 2.0), "at least 1e-6.*found one between 2 and 2"),
        ((2.00000001, 2.0), "at least 1e-6"),
    ],
)
def test_steps_outside_the_path_are_refused(step, message):
    with pytest.raises(ValueError, match=message):
        step_noise_source("fresh", LATENT, 7, levels=LEVELS)(*step)


def run(name, steps, schedule="karras"):
    sigmas = sigmas_for(SCHEDULES[schedule], SCHEDULE, steps)
    return sample(GaussianDenoiser(), LATENT[:1], draw_noise((1, *SHAPE[1:]), 7), SAMPLERS[name], sigmas=sigmas, seed=7)


def distance(one, other):
    """The root mean square difference, in standard deviations of the data."""
    return float((one - other).pow(2).mean().sqrt() / 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("name", BROWNIAN)
def test_more_steps_converge_to_one_picture(name):
    """The purpose of a Brownian path: with more steps, the picture depends less on their number and on the schedule."""
    finest = run(name, 400)
    distances = [distance(run(name, steps), finest) for steps in (12, 25, 50, 100)]
    assert all(finer < coarser / 1.5 for coarser, finer in pairwise(distances))
    assert distances[-1] < 0.06
    assert distance(run(name, 400, "normal"), finest) < 0.2


def test_independent_noise_does_not_converge():
    assert distance(run("euler_ancestral", 200), run("euler_ancestral", 400)) > 0.5


def in_parts(step_noise):
    """A run of `dpmpp_sde` as a whole and in two parts."""

    def go(latent, noise, sigmas):
        return sample(TwistedDenoiser(), latent, noise, SAMPLERS["dpmpp_sde"], sigmas=sigmas, step_noise=step_noise, seed=7)

    noise = draw_noise(SHAPE, 7)
    half = go(LATENT, noise, KARRAS[:4])
    return go(LATENT, noise, KARRAS), go(half, torch.zeros(SHAPE), KARRAS[3:])


def test_parts_of_a_run_follow_one_path():
    whole, parts = in_parts("fresh")
    assert torch.equal(whole, parts)


def test_parts_follow_different_paths_with_comfyui_noise():
    whole, parts = in_parts("comfyui")
    assert not torch.allclose(whole, parts, atol=0.1)


def test_rounding_of_the_levels_changes_the_noise():
    """The reason why the schedules are ComfyUI's to the last bit: a rounding error changes the noise by thousandths."""
    other = [level * (1 + 3e-7) for level in SIGMAS]
    ours = step_noise_source("comfyui", LATENT, 7, levels=LEVELS)
    theirs = step_noise_source("comfyui", LATENT, 7, levels=(other[-2], other[0]))
    difference = float((ours(SIGMAS[1], SIGMAS[2]) - theirs(other[1], other[2])).abs().max())
    assert 1e-4 < difference < 0.1


@pytest.mark.parametrize("steps", [1, 2, 5, 20, 77])
def test_levels_of_timesteps_are_comfyuis(steps):
    """To the last bit: in float32, linear between the logarithms of two trained levels."""
    alphas_cumprod = SCHEDULE.alphas_cumprod()
    logs = ((1 - alphas_cumprod) / alphas_cumprod).sqrt().log().float()
    timesteps = torch.linspace(999, 0, steps)
    part = timesteps - timesteps.floor()
    levels = ((1 - part) * logs[timesteps.floor().long()] + part * logs[timesteps.ceil().long()]).exp()
    assert torch.equal(SCHEDULES["normal"](SCHEDULE, steps)[:-1], levels)
    one_by_one = [float(SCHEDULE.sigma(timestep)) for timestep in timesteps]
    assert levels.tolist() == one_by_one
