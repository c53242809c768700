"""The stochastic samplers and the DPM-Solver++ family take a reference's steps, reach the data, and behave."""

from __future__ import annotations

import math

import pytest
import torch

from nodegraph_diffusion.sampling import SAMPLERS
from nodegraph_diffusion.schedule import schedule_karras, schedule_normal, schedule_simple
from tests.diffusion.toys import SCHEDULE, GaussianDenoiser, TwistedDenoiser, generator_noise, ignore_step, no_noise
from tests.kdiffusion import SAMPLING, KModel

START = torch.randn(2, 4, 6, 5, generator=torch.Generator().manual_seed(0))
SCHEDULES = {"karras": schedule_karras, "normal": schedule_normal, "simple": schedule_simple}
FAMILY = {  # the calls of the denoiser in a step, and in one to level 0
    "dpmpp_2s_ancestral": (2, 1),
    "dpmpp_2s_ancestral_cfg_pp": (2, 1),
    "dpmpp_sde": (2, 1),
    "dpmpp_2m": (1, 1),
    "dpmpp_2m_cfg_pp": (1, 1),
    "dpmpp_2m_sde": (1, 1),
    "dpmpp_2m_sde_heun": (1, 1),
    "dpmpp_3m_sde": (1, 1),
    "ddpm": (1, 1),
    "lcm": (1, 1),
}
STOCHASTIC = [name for name in FAMILY if SAMPLERS[name].stochastic]
WITH_ETA = [name for name in STOCHASTIC if name not in ("ddpm", "lcm")]


class Sided:
    """A denoiser whose negative side sees something else."""

    schedule = SCHEDULE

    def __init__(self, denoiser, difference=0.3):
        self.denoiser, self.difference = denoiser, difference
        self.calls = 0

    def __call__(self, x, sigma):
        self.calls += 1
        return self.denoiser(x, sigma)

    def guided(self, x, sigma):
        denoised = self(x, sigma)
        return denoised, denoised + self.difference * (x / (1 + float(sigma))).sin()


def run(name, denoise, x, sigmas, noise=no_noise, on_step=ignore_step, **options):
    return SAMPLERS[name](denoise, x, sigmas, noise=noise, on_step=on_step, **options)


def twisted(difference=0.3):
    return Sided(TwistedDenoiser(), difference)


def assert_near(ours, reference, tolerance=1e-4):
    """The largest difference, in standard deviations of the reference."""
    assert ours.shape == reference.shape
    assert float((ours - reference).abs().max() / reference.std()) < tolerance


# --- k-diffusion, with the same draws of noise; in float64, as in float32 its ancestral noise is good to 4e-4 over a long step ---

K_SAMPLERS = [
    ("dpmpp_2s_ancestral", {}),
    ("dpmpp_2s_ancestral", {"eta": 0.6, "s_noise": 0.9}),
    ("dpmpp_2s_ancestral", {"eta": 3.0}),
    ("dpmpp_sde", {}),
    ("dpmpp_sde", {"eta": 0.6, "s_noise": 0.9, "r": 0.3}),
    ("dpmpp_2m_sde", {}),
    ("dpmpp_2m_sde", {"eta": 0.6, "s_noise": 0.9, "solver_type": "heun"}),
    ("dpmpp_2m_sde", {"eta": 0.0}),
    ("dpmpp_3m_sde", {}),
    ("dpmpp_3m_sde", {"eta": 0.6, "s_noise": 0.9}),
    ("dpmpp_3m_sde", {"eta": 0.0}),
    ("dpmpp_2m", {}),
]


def beside_k_diffusion(name, options, x, sigmas):
    """Our steps and theirs."""
    ours, reference = [], []
    noise = {} if name == "dpmpp_2m" else {"noise_sampler": generator_noise(x)}
    result = getattr(SAMPLING, f"sample_{name}")(
        KModel(TwistedDenoiser()), x, sigmas, callback=lambda step: reference.append(step["x"]), disable=True, **noise, **options
    )
    run(name, TwistedDenoiser(), x, sigmas, generator_noise(x), lambda i, x, denoised: ours.append(x), **options)
    return list(zip(ours, [*reference[1:], result], strict=True))


@pytest.mark.parametrize("ends_in_0", [True, False])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 20])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("name", "options"), K_SAMPLERS)
def test_k_diffusions_steps(name, options, schedule, steps, ends_in_0):
    if steps == 1 and ends_in_0 and name in ("dpmpp_2m_sde", "dpmpp_3m_sde"):
        pytest.skip("k-diffusion fails where the only step is to 0: its length is not set there")
    sigmas = SCHEDULES[schedule](SCHEDULE, steps + (not ends_in_0)).double()
    sigmas = sigmas if ends_in_0 else sigmas[:-1]
    for ours, theirs in beside_k_diffusion(name, options, START.double() * sigmas[0], sigmas):
        assert_near(ours, theirs, 1e-7)


@pytest.mark.parametrize(("name", "options"), K_SAMPLERS)
def test_k_diffusions_steps_in_float32(name, options):
    sigmas = schedule_karras(SCHEDULE, 20)
    for ours, theirs in beside_k_diffusion(name, options, START * sigmas[0], sigmas):
        assert_near(ours, theirs)


@pytest.mark.parametrize("name", FAMILY)
def test_a_single_step_to_0_is_the_estimate(name):
    x = START * SCHEDULE.sigma_max
    sampled = run(name, twisted(0.0), x, schedule_karras(SCHEDULE, 1))
    torch.testing.assert_close(sampled, TwistedDenoiser()(x, SCHEDULE.sigma_max))


def test_the_heun_kind_has_a_name_of_its_own():
    x, sigmas = START * SCHEDULE.sigma_max, schedule_karras(SCHEDULE, 6)
    heun = run("dpmpp_2m_sde", twisted(), x, sigmas, generator_noise(x), solver_type="heun")
    assert torch.equal(run("dpmpp_2m_sde_heun", twisted(), x, sigmas, generator_noise(x)), heun)
    assert not torch.equal(run("dpmpp_2m_sde", twisted(), x, sigmas, generator_noise(x)), heun)


# --- CFG++: no package has these, so that they are written once more here ---


def cfg_pp_2m(denoise, x, sigmas):
    """ComfyUI's form, in its own terms: t = -log sigma."""
    times = [-math.log(sigma) if sigma else math.inf for sigma in sigmas.tolist()]
    negatives = []
    for i, sigma in enumerate(sigmas.tolist()[:-1]):
        denoised, negative = denoise.guided(x, sigma)
        h = times[i + 1] - times[i]
        mixed = -math.exp(-h) * negative
        if negatives and h < math.inf:
            ratio = (times[i] - times[i - 1]) / h
            mixed = mixed - math.expm1(-h) / (2 * ratio) * (denoised - negatives[-1])
        x = denoised + mixed + math.exp(-h) * x
        negatives.append(negative)
    return x


def cfg_pp_2s(denoise, x, sigmas, noise, eta):
    for sigma, sigma_next in zip(sigmas.tolist()[:-1], sigmas.tolist()[1:], strict=True):
        denoised, negative = denoise.guided(x, sigma)
        up = min(sigma_next, eta * math.sqrt(sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2))
        down = math.sqrt(sigma_next**2 - up**2)
        if down == 0:
            x = denoised + (x - negative) / sigma * down
        else:
            h = math.log(sigma) - math.log(down)
            middle = math.exp(math.log(sigma) - h / 2)
            half = math.exp(-h / 2) * (x + denoised - negative) - math.expm1(-h / 2) * denoised
            second, negative = denoise.guided(half, middle)
            x = math.exp(-h) * (x + denoised - negative) - math.expm1(-h) * second
        if sigma_next > 0:
            x = x + noise(sigma, sigma_next) * up
    return x


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 20])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_cfg_pp_steps(schedule, steps):
    sigmas = SCHEDULES[schedule](SCHEDULE, steps)
    x = START.double() * sigmas[0]
    for some in (sigmas, sigmas[:-1]):
        mine = run("dpmpp_2m_cfg_pp", twisted(), x, some)
        torch.testing.assert_close(mine, cfg_pp_2m(twisted(), x, some))
        for eta in (0.0, 0.7, 1.0):
            mine = run("dpmpp_2s_ancestral_cfg_pp", twisted(), x, some, generator_noise(x), eta=eta)
            torch.testing.assert_close(mine, cfg_pp_2s(twisted(), x, some, generator_noise(x), eta))


def test_cfg_pp_without_guidance_is_the_solver():
    x, sigmas = START.double() * SCHEDULE.sigma_max, schedule_karras(SCHEDULE, 7)
    plain = run("dpmpp_2m", TwistedDenoiser(), x, sigmas)
    torch.testing.assert_close(run("dpmpp_2m_cfg_pp", twisted(0.0), x, sigmas), plain)
    assert not torch.allclose(run("dpmpp_2m_cfg_pp", twisted(), x, sigmas), plain)


# --- what a sampler of its kind has to do ---


def error(name, steps, **options):
    """The distance from the exact solution after `steps` steps, even in log sigma, from level 10 to 0.1, without noise."""
    denoise = GaussianDenoiser()
    x = START.double() * 10
    sigmas = torch.logspace(1, -1, steps + 1, dtype=torch.float64)
    return (run(name, Sided(denoise, 0.0), x, sigmas, **options) - denoise.solution(x, 10.0, 0.1)).abs().max().item()


ORDERS = [
    ("dpmpp_2m", {}, 2),
    ("dpmpp_2m_cfg_pp", {}, 2),
    ("dpmpp_2s_ancestral", {"eta": 0.0}, 2),
    ("dpmpp_sde", {"eta": 0.0}, 2),
    ("dpmpp_sde", {"eta": 0.0, "r": 0.7}, 2),
    ("dpmpp_2m_sde", {"eta": 0.0}, 2),
    ("dpmpp_2m_sde", {"eta": 0.0, "solver_type": "heun"}, 2),
    ("dpmpp_2m_sde_heun", {"eta": 0.0}, 2),
    ("dpmpp_3m_sde", {"eta": 0.0}, 2),
]


@pytest.mark.parametrize(("name", "options", "order"), ORDERS)
def test_order_of_convergence_without_noise(name, options, order):
    coarse, fine = error(name, 100, **options), error(name, 200, **options)
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)
