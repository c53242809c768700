"""The stochastic samplers and the DPM-Solver++ family: steps of the references, statistics of the data, calls and dtypes."""

from __future__ import annotations

import math

import pytest
import torch

from nodegraph_diffusion.options import options_of
from nodegraph_diffusion.sampling import SAMPLERS, step_noise_source
from nodegraph_diffusion.schedules import schedule_karras, schedule_normal
from tests.support.k_diffusion import SAMPLING, KModel
from tests.support.stochastic_samplers import SCHEDULES, START, Sided, assert_near, run
from tests.support.toy_denoisers import SCHEDULE, GaussianDenoiser, TwistedDenoiser, generator_noise, no_noise

FAMILY = {  # calls of the denoiser in n steps to level 0, and in n steps that end above it
    "dpmpp_2s_ancestral": lambda n: (2 * n - 1, 2 * n),
    "dpmpp_2s_ancestral_cfg_pp": lambda n: (2 * n - 1, 2 * n),
    "dpmpp_sde": lambda n: (2 * n - 1, 2 * n),
    "dpmpp_2m": lambda n: (n, n),
    "dpmpp_2m_cfg_pp": lambda n: (n, n),
    "dpmpp_2m_sde": lambda n: (n, n),
    "dpmpp_2m_sde_heun": lambda n: (n, n),
    "dpmpp_3m_sde": lambda n: (n, n),
    "ddpm": lambda n: (n, n),
    "lcm": lambda n: (n, n),
    "er_sde": lambda n: (n, n),
    "seeds_2": lambda n: (2 * n - 1, 2 * n),
    "seeds_3": lambda n: (3 * n - 2, 3 * n),
    "sa_solver": lambda n: (n, n),
    "sa_solver_pece": lambda n: (2 * n - 1, 2 * n - 1),
}
NO_SDE = {"er_sde": {"solver_type": "reverse_time"}}  # er_sde uses eta only with this option
STOCHASTIC = [name for name in FAMILY if SAMPLERS[name].stochastic]


def twisted(difference=0.3):
    return Sided(TwistedDenoiser(), difference)


# --- k-diffusion, with the same noise; in float64, because in float32 its ancestral noise has an error of 4e-4 in a long step ---

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


def steps_of_both(name, options, x, sigmas):
    """Our steps and theirs."""
    ours, reference = [], []
    noise = {} if name == "dpmpp_2m" else {"noise_sampler": generator_noise(x)}
    result = getattr(SAMPLING, f"sample_{name}")(
        KModel(TwistedDenoiser()), x, sigmas, callback=lambda step: reference.append(step["x"]), disable=True, **noise, **options
    )
    run(name, TwistedDenoiser(), x, sigmas, noise=generator_noise(x), on_step=lambda i, x, denoised: ours.append(x), **options)
    return list(zip(ours, [*reference[1:], result], strict=True))


@pytest.mark.parametrize("ends_in_0", [True, False])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 20])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("name", "options"), K_SAMPLERS)
def test_steps_are_k_diffusions(name, options, schedule, steps, ends_in_0):
    if steps == 1 and ends_in_0 and name in ("dpmpp_2m_sde", "dpmpp_3m_sde"):
        pytest.skip("k-diffusion fails if the only step is to 0: its length is undefined")
    sigmas = SCHEDULES[schedule](SCHEDULE, steps + (not ends_in_0)).double()
    sigmas = sigmas if ends_in_0 else sigmas[:-1]
    for ours, theirs in steps_of_both(name, options, START.double() * sigmas[0], sigmas):
        assert_near(ours, theirs, 1e-7)


@pytest.mark.parametrize(("name", "options"), K_SAMPLERS)
def test_steps_are_k_diffusions_in_float32(name, options):
    sigmas = schedule_karras(SCHEDULE, 20)
    for ours, theirs in steps_of_both(name, options, START * sigmas[0], sigmas):
        assert_near(ours, theirs)


@pytest.mark.parametrize("name", FAMILY)
def test_single_step_to_0_returns_the_estimate(name):
    x = START * SCHEDULE.sigma_max
    sampled = run(name, twisted(0.0), x, schedule_karras(SCHEDULE, 1))
    torch.testing.assert_close(sampled, TwistedDenoiser()(x, SCHEDULE.sigma_max))


def test_dpmpp_2m_sde_heun_is_an_option_of_dpmpp_2m_sde():
    x, sigmas = START * SCHEDULE.sigma_max, schedule_karras(SCHEDULE, 6)
    heun = run("dpmpp_2m_sde", twisted(), x, sigmas, noise=generator_noise(x), solver_type="heun")
    assert torch.equal(run("dpmpp_2m_sde_heun", twisted(), x, sigmas, noise=generator_noise(x)), heun)
    assert not torch.equal(run("dpmpp_2m_sde", twisted(), x, sigmas, noise=generator_noise(x)), heun)


# --- CFG++: no package has these, so they are written again here ---


def cfg_pp_2m(denoise, x, sigmas):
    """As in ComfyUI, with its variables: t = -log sigma."""
    times = [-math.log(sigma) if sigma else math.inf for sigma in sigmas.tolist()]
    negatives = []
    for i, sigma in enumerate(sigmas.tolist()[:-1]):
        denoised, _, negative = denoise.predict(x, sigma)
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
        denoised, _, negative = denoise.predict(x, sigma)
        up = min(sigma_next, eta * math.sqrt(sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2))
        down = math.sqrt(sigma_next**2 - up**2)
        if down == 0:
            x = denoised + (x - negative) / sigma * down
        else:
            h = math.log(sigma) - math.log(down)
            middle = math.exp(math.log(sigma) - h / 2)
            half = math.exp(-h / 2) * (x + denoised - negative) - math.expm1(-h / 2) * denoised
            second, _, negative = denoise.predict(half, middle)
            x = math.exp(-h) * (x + denoised - negative) - math.expm1(-h) * second
        if sigma_next > 0:
            x = x + noise(sigma, sigma_next) * up
    return x


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 20])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_cfg_pp_steps_are_comfyuis(schedule, steps):
    sigmas = SCHEDULES[schedule](SCHEDULE, steps).double()
    x = START.double() * sigmas[0]
    for some in (sigmas, sigmas[:-1]):
        ours = run("dpmpp_2m_cfg_pp", twisted(), x, some)
        torch.testing.assert_close(ours, cfg_pp_2m(twisted(), x, some))
        for eta in (0.0, 0.7, 1.0):
            ours = run("dpmpp_2s_ancestral_cfg_pp", twisted(), x, some, noise=generator_noise(x), eta=eta)
            torch.testing.assert_close(ours, cfg_pp_2s(twisted(), x, some, generator_noise(x), eta=eta))


def test_cfg_pp_without_guidance_is_the_solver():
    x, sigmas = START.double() * SCHEDULE.sigma_max, schedule_karras(SCHEDULE, 7)
    plain = run("dpmpp_2m", TwistedDenoiser(), x, sigmas)
    torch.testing.assert_close(run("dpmpp_2m_cfg_pp", twisted(0.0), x, sigmas), plain)
    assert not torch.allclose(run("dpmpp_2m_cfg_pp", twisted(), x, sigmas), plain)


# --- properties of all of them ---


@pytest.mark.parametrize("brownian", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in STOCHASTIC if name not in ("lcm", "dpmpp_2s_ancestral_cfg_pp")),
        ("dpmpp_2s_ancestral", {"eta": 0.5}),
        ("dpmpp_sde", {"eta": 0.5, "r": 0.7}),
        ("dpmpp_2m_sde", {"eta": 0.5, "solver_type": "heun"}),
        ("dpmpp_3m_sde", {"eta": 1.5}),
        ("seeds_2", {"eta": 0.5, "r": 0.3}),
        ("seeds_3", {"eta": 1.5, "r_1": 0.2}),
        ("er_sde", {"solver_type": "reverse_time", "eta": 0.5}),
        ("sa_solver", {"eta": 0.5, "sde_start": 0.0, "sde_end": 1.0}),
    ],
)
def test_mean_and_deviation_are_those_of_the_data(name, options, brownian):
    if brownian and SAMPLERS[name].noise != "brownian":
        pytest.skip("it draws independent noise")
    unit = torch.randn(1, 1, 70, 70, generator=torch.Generator().manual_seed(1))
    x = 0.7 + (unit - unit.mean()) / unit.std() * math.hypot(0.5, SCHEDULE.sigma_max)
    levels = (SCHEDULE.sigma_min, SCHEDULE.sigma_max)
    noise = step_noise_source("fresh", x, 5, levels=levels) if brownian else generator_noise(x)
    sampled = run(name, Sided(GaussianDenoiser(0.7, 0.5), 0.0), x, schedule_karras(SCHEDULE, 200), noise=noise, **options)
    assert sampled.mean().item() == pytest.approx(0.7, abs=0.02)
    assert sampled.std().item() == pytest.approx(0.5, rel=0.03)


def test_lcm_is_exact_with_a_consistent_model():
    gaussian = GaussianDenoiser(0.7, 0.5)
    unit = torch.randn(1, 1, 100, 100, generator=torch.Generator().manual_seed(1))
    x = 0.7 + unit * math.hypot(0.5, SCHEDULE.sigma_max)
    sampled = run(
        "lcm", lambda x, sigma: gaussian.solution(x, sigma, 0.0), x, schedule_karras(SCHEDULE, 8), noise=generator_noise(x)
    )
    assert sampled.mean().item() == pytest.approx(0.7, abs=0.02)
    assert sampled.std().item() == pytest.approx(0.5, rel=0.03)


@pytest.mark.parametrize("ends_in_0", [True, False])
@pytest.mark.parametrize("steps", [1, 2, 3, 6])
@pytest.mark.parametrize("name", FAMILY)
def test_calls_reports_and_inputs(name, steps, ends_in_0):
    sigmas = schedule_karras(SCHEDULE, steps + (not ends_in_0))
    sigmas = sigmas if ends_in_0 else sigmas[:-1]
    x = START * sigmas[0]
    kept_x, kept_sigmas = x.clone(), sigmas.clone()
    denoise, reports = twisted(), []
    noise = generator_noise(x) if SAMPLERS[name].stochastic else no_noise
    sampled = run(name, denoise, x, sigmas, noise=noise, on_step=lambda *report: reports.append(report))
    assert torch.equal(x, kept_x)
    assert torch.equal(sigmas, kept_sigmas)
    assert [i for i, _, _ in reports] == list(range(steps))
    assert reports[-1][1] is sampled
    assert torch.equal(reports[0][2], TwistedDenoiser()(x, float(sigmas[0])))
    assert bool(sampled.isfinite().all())
    assert denoise.calls == FAMILY[name](steps)[0 if ends_in_0 else 1]
    assert denoise.calls <= SAMPLERS[name].evaluations_per_step * steps


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", FAMILY)
def test_sampler_keeps_the_dtype(name, dtype):
    x, sigmas = (START * SCHEDULE.sigma_max), schedule_karras(SCHEDULE, 6)
    full = run(name, twisted(), x, sigmas, noise=generator_noise(x))

    draw = generator_noise(x)
    sampled = run(name, twisted(), x.to(dtype), sigmas, noise=lambda *step: draw(*step).to(dtype))
    assert sampled.dtype == dtype
    assert_near(sampled.to(full), full, {torch.float16: 0.05, torch.bfloat16: 0.5, torch.float64: 1e-4}[dtype])


@pytest.mark.parametrize("name", STOCHASTIC)
def test_eta_0_draws_no_noise(name):
    options = {option: 0.0 for option in ("eta", "s_noise") if option in options_of(SAMPLERS[name])}
    if "eta" in options:
        run(name, twisted(), START * 14, schedule_karras(SCHEDULE, 6), noise=no_noise, eta=0.0, **NO_SDE.get(name, {}))
    if "s_noise" in options:
        silent = run(name, twisted(), START * 14, schedule_karras(SCHEDULE, 6), noise=generator_noise(START), s_noise=0.0)
        assert torch.equal(
            silent, run(name, twisted(), START * 14, schedule_karras(SCHEDULE, 6), noise=generator_noise(START, 9), s_noise=0.0)
        )


def test_ddpm_steps_are_comfyuis():
    """With its formula for the noise prediction (Ho et al. 2020, Eq. 11)."""
    sigmas = schedule_normal(SCHEDULE, 7).double()
    x = START.double() * sigmas[0]
    ours = run("ddpm", TwistedDenoiser(), x, sigmas, noise=generator_noise(x))
    draw, denoise = generator_noise(x), TwistedDenoiser()
    for sigma, sigma_next in zip(sigmas.tolist()[:-1], sigmas.tolist()[1:], strict=True):
        bar, bar_next = 1 / (1 + sigma**2), 1 / (1 + sigma_next**2)
        alpha = bar / bar_next
        predicted = (x - denoise(x, sigma)) / sigma
        z = (x * bar**0.5 - (1 - alpha) / (1 - bar) ** 0.5 * predicted) / alpha**0.5
        if sigma_next > 0:
            z = z + ((1 - alpha) * (1 - bar_next) / (1 - bar)) ** 0.5 * draw(sigma, sigma_next)
        x = z / bar_next**0.5
    torch.testing.assert_close(ours, x)
