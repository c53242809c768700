"""A run starts where it should, from the noise it should, and refuses what makes no sense."""

from __future__ import annotations

import pytest
import torch

from nodegraph_diffusion.denoising import Predictions
from nodegraph_diffusion.noise_schedule import NoiseSchedule
from nodegraph_diffusion.options import check_options, options_of
from nodegraph_diffusion.sampling import SAMPLERS, draw_noise, sample, sigmas_for, start_latent, step_noise_source
from nodegraph_diffusion.schedules import SCHEDULES
from nodegraph_diffusion.schedules.continuous import schedule_karras
from nodegraph_diffusion.schedules.timesteps import schedule_normal, schedule_simple
from tests.support.toy_denoisers import SCHEDULE, GaussianDenoiser, TwistedDenoiser

SHAPE = (3, 4, 6, 5)
STAYS_ABOVE_0 = {"dpm_adaptive": 0.03, "dpm_fast": 0.03, "uni_pc": 0.001, "uni_pc_bh2": 0.001}  # their last noise level
LATENT = torch.randn(SHAPE, generator=torch.Generator().manual_seed(100))


def karras(steps, *arguments, **keywords):
    return sigmas_for(schedule_karras, SCHEDULE, steps, *arguments, **keywords)


def test_full_strength_is_the_schedule():
    assert torch.equal(karras(8), schedule_karras(SCHEDULE, 8))
    assert torch.equal(karras(8, 0.99995), schedule_karras(SCHEDULE, 8))


@pytest.mark.parametrize(("steps", "strength", "total"), [(6, 0.5, 12), (10, 0.9, 11), (7, 0.35, 20), (4, 0.03, 133)])
def test_strength_takes_the_last_steps_of_a_longer_schedule(steps, strength, total):
    sigmas = karras(steps, strength)
    assert sigmas.shape == (steps + 1,)
    assert torch.equal(sigmas, schedule_karras(SCHEDULE, total)[-(steps + 1) :])


def test_no_strength_is_no_step():
    assert karras(8, 0.0).tolist() == [0.0]
    assert sample(TwistedDenoiser(), LATENT, LATENT, SAMPLERS["euler"], sigmas=karras(8, 0.0)) is LATENT


def test_start_and_end_cut_a_run():
    whole = karras(8)
    assert torch.equal(karras(8, start_step=3), whole[3:])
    assert torch.equal(karras(8, end_step=3), whole[:4])
    assert torch.equal(karras(8, start_step=2, end_step=5), whole[2:6])
    assert torch.equal(karras(8, end_step=99), whole)
    finished = karras(8, start_step=2, end_step=5, finish=True)
    assert torch.equal(finished[:-1], whole[2:5])
    assert float(finished[-1]) == 0
    assert torch.equal(karras(8, end_step=8, finish=True), whole)
    assert torch.equal(karras(8, start_step=3, end_step=3, finish=True), whole[3:4])
    assert karras(8, start_step=8).tolist() == [0.0]
    assert torch.equal(karras(6, 0.5, end_step=2), karras(6, 0.5)[:3])


def test_schedule_options_reach_it():
    assert torch.equal(karras(8, options={"rho": 3}), schedule_karras(SCHEDULE, 8, rho=3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: karras(0), "steps: expected at least 1, found 0"),
        (lambda: karras(5, 1.2), "strength: expected a number between 0 and 1, found 1.2"),
        (lambda: karras(5, float("nan")), "strength: expected a number between 0 and 1, found nan"),
        (lambda: karras(25, 1e-9), "expected 0 or at least 2.5e-05 for 25 steps"),
        (lambda: karras(5, 0.5, start_step=1), "leave one out"),
        (lambda: karras(5, start_step=4, end_step=3), "at most end_step, 3 of 5 steps, found 4"),
        (lambda: karras(5, start_step=-1), "found -1"),
        (
            lambda: karras(5, options={"roh": 3}),
            "schedule schedule_karras: no option 'roh'; it has rho; did you mean 'rho'",
        ),
        (lambda: karras(5, options={"rho": "3"}), "option 'rho' expected a number, found '3'"),
        (lambda: sigmas_for(schedule_simple, SCHEDULE, 25, 0.01), "at most 1000 steps.*found 2500"),
        (lambda: sigmas_for(lambda s, n: torch.ones(n + 1), SCHEDULE, 3), "strictly decreasing to 0"),
        (lambda: sigmas_for(lambda s, n: torch.zeros(n), SCHEDULE, 3), "expected 4 noise levels"),
    ],
)
def test_ranges_that_make_no_sense_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_start_at_the_largest_level_has_the_trained_variance():
    noise = torch.ones(1)
    largest = SCHEDULE.sigma_max
    assert start_latent(torch.zeros(1), noise, largest, largest).item() == pytest.approx((1 + largest**2) ** 0.5)
    assert start_latent(torch.zeros(1), noise, largest + 1, largest).item() > largest + 1
    assert start_latent(torch.full((1,), 0.5), noise, 3.0, largest).item() == 3.5


def test_noise_of_a_picture_is_the_same_in_a_batch_as_alone():
    batch = draw_noise(SHAPE, seed=7)
    assert batch.shape == SHAPE
    for k in range(3):
        assert torch.equal(batch[k : k + 1], draw_noise((1, *SHAPE[1:]), seed=7 + k))


def test_sequential_noise_is_one_draw():
    assert torch.equal(draw_noise(SHAPE, 7, "sequential"), torch.randn(SHAPE, generator=torch.manual_seed(7)))


def test_noise_has_no_side_effect():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    draw_noise(SHAPE, 7)
    step_noise_source("fresh", LATENT, 7)(1.0, 0.5)
    step_noise_source("comfyui", LATENT, 7)(1.0, 0.5)
    assert torch.equal(torch.get_rng_state(), before)


def test_comfyui_step_noise_starts_over():
    source = step_noise_source("comfyui", LATENT, 7)
    first, second = source(2.0, 1.0), source(1.0, 0.5)
    assert torch.equal(first, draw_noise(SHAPE, 7, "sequential"))
    assert not torch.equal(first, second)


def test_fresh_step_noise_is_each_pictures_own():
    source, last = step_noise_source("fresh", LATENT, 7), step_noise_source("fresh", LATENT[:1], 9)
    first, second = source(2.0, 1.0), source(1.0, 0.5)
    start = draw_noise(SHAPE, 7)
    draws = [*first, *second, *start]
    assert all(not torch.equal(a, b) for i, a in enumerate(draws) for b in draws[:i])
    assert torch.equal(first[2:], last(2.0, 1.0))
    assert torch.equal(second[2:], last(1.0, 0.5))


@pytest.mark.parametrize("seed", [0, 2**32 - 1, 2**64 - 1])
def test_every_seed_draws(seed):
    noise = draw_noise(SHAPE, seed)
    assert noise.std().item() == pytest.approx(1, abs=0.2)
    assert step_noise_source("fresh", LATENT, seed)(2.0, 1.0).shape == SHAPE


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw_noise(SHAPE, -1), "found -1"),
        (lambda: draw_noise(SHAPE, 2**64), "between 0 and"),
        (lambda: draw_noise(SHAPE, 1, "both"), "'per_picture' or 'sequential', found 'both'"),
        (lambda: step_noise_source("old", LATENT, 1), "'fresh' or 'comfyui', found 'old'"),
    ],
)
def test_noise_that_does_not_exist_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_options_are_the_keyword_only_defaults():
    assert options_of(SAMPLERS["euler_ancestral"]) == {"eta": 1.0, "s_noise": 1.0}
    assert options_of(SAMPLERS["ddpm"]) == {}
    assert options_of(SCHEDULES["karras"]) == {"rho": 7.0}


@pytest.mark.parametrize("value", [True, "1", None, [1.0]])
def test_options_of_another_type_are_refused(value):
    with pytest.raises(ValueError, match="'eta' expected a number"):
        check_options("sampler", SAMPLERS["ddim"], {"eta": value})


def test_options_of_every_kind():
    def sampler(denoise, x, sigmas, *, noise, on_step, order: int = 2, churn: bool = False, kind: str = "a", top=None):
        return x

    check_options("sampler", sampler, {"order": 3, "churn": True, "kind": "b", "top": 4.0})
    for option, value in (("order", 1.5), ("order", True), ("churn", 1), ("kind", 2), ("noise", 0)):
        with pytest.raises(ValueError, match=option):
            check_options("sampler", sampler, {option: value})


def run(denoise, latent, noise, name="euler_ancestral", strength=1.0, **keywords):
    return sample(denoise, latent, noise, SAMPLERS[name], sigmas=karras(6, strength), **keywords)


@pytest.mark.parametrize("name", sorted(SAMPLERS.keys() - {"dpm_adaptive"}))  # whose steps depend on the whole batch
def test_batch_pictures_equal_single_pictures(name):
    noise = draw_noise(SHAPE, 5)
    batch = run(TwistedDenoiser(), LATENT, noise, name, seed=5)
    single = run(TwistedDenoiser(), LATENT[2:], noise[2:], name, seed=7)
    torch.testing.assert_close(batch[2:], single)


def test_run_does_not_change_its_arguments():
    noise, mask = draw_noise(SHAPE, 5), torch.rand(1, 12, 10)
    copies = [tensor.clone() for tensor in (LATENT, noise, mask)]
    sampled = run(TwistedDenoiser(), LATENT, noise, mask=mask, seed=5)
    assert all(torch.equal(a, b) for a, b in zip((LATENT, noise, mask), copies, strict=True))
    assert torch.equal(sampled, run(TwistedDenoiser(), LATENT, noise, mask=mask, seed=5))


def test_run_reports_its_steps():
    reports = []
    run(TwistedDenoiser(), LATENT, draw_noise(SHAPE, 5), on_step=lambda i, x, denoised: reports.append(i))
    assert reports == [0, 1, 2, 3, 4, 5]


def test_little_strength_stays_near():
    noise = draw_noise(SHAPE, 5)
    near, far = (
        (run(GaussianDenoiser(deviation=1.0), LATENT, noise, "euler", strength=strength) - LATENT).abs().mean()
        for strength in (0.2, 0.8)
    )
    assert near < 0.2
    assert near < far / 2


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_what_a_mask_shows_black_stays(name, strength):
    mask = torch.zeros(1, SHAPE[2], SHAPE[3])
    mask[:, :, 3:] = 1
    sampled = run(TwistedDenoiser(), LATENT, draw_noise(SHAPE, 5), name, strength=strength, mask=mask)
    left = STAYS_ABOVE_0.get(name, 0.0)  # of the noise
    torch.testing.assert_close(sampled[..., :3], LATENT[..., :3], rtol=0, atol=2e-5 + 4 * left)
    assert (sampled[..., 3:] - LATENT[..., 3:]).abs().mean() > 0.1


def test_white_mask_has_no_effect():
    noise = draw_noise(SHAPE, 5)
    masked = run(TwistedDenoiser(), LATENT, noise, mask=torch.ones(1, 48, 40))
    assert torch.equal(masked, run(TwistedDenoiser(), LATENT, noise))


def test_gradients_are_not_kept():
    latent = LATENT.clone().requires_grad_()
    assert not run(TwistedDenoiser(), latent, draw_noise(SHAPE, 5)).requires_grad


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: run(TwistedDenoiser(), LATENT, LATENT[:1]), r"\(3, 4, 6, 5\) and \(1, 4, 6, 5\)"),
        (lambda: run(TwistedDenoiser(), LATENT[0], LATENT[0]), "one shape"),
        (lambda: run(TwistedDenoiser(), LATENT, LATENT, "euler", options={"eta": 1}), "sample_euler: no option 'eta'"),
        (lambda: run(TwistedDenoiser(), LATENT, LATENT, mask=torch.ones(2, 6, 5)), r"mask: .*\(2, 6, 5\)"),
    ],
)
def test_mismatched_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_largest_noise_is_scaled_in_float32():
    """Where the level is in the thousands, a last bit is 2e-4 of a picture."""
    level = NoiseSchedule(prediction="v", zero_snr=True).sigma_max
    started = start_latent(torch.zeros(1), torch.ones(1), level, level)
    assert torch.equal(started, torch.sqrt(1 + torch.tensor([level]) ** 2))


@pytest.mark.parametrize("name", ["dpm_2_ancestral", "dpmpp_2s_ancestral", "dpmpp_2s_ancestral_cfg_pp"])
def test_middle_level_is_rounded_as_in_k_diffusion(name):
    """At eta 1 the middle of an ancestral step is the level that it leads to, but for the rounding of float32."""
    sigmas, seen = schedule_normal(SCHEDULE, 7), []

    class Seeing(GaussianDenoiser):
        def __call__(self, x, sigma):
            seen.append(sigma)
            return super().__call__(x, sigma)

        def predict(self, x, sigma, negative=True):
            denoised = self(x, sigma)
            return Predictions(denoised, denoised, torch.zeros_like(x))

    SAMPLERS[name](Seeing(), LATENT, sigmas, noise=lambda *levels: LATENT, on_step=lambda *step: None)
    start, end = sigmas[:2]
    up = (end**2 * (start**2 - end**2) / start**2) ** 0.5
    down = (end**2 - up**2) ** 0.5
    start, down = start.log(), down.log()
    middle = start.lerp(down, 0.5).exp() if name == "dpm_2_ancestral" else (-(-start + 0.5 * (start - down))).exp()
    assert seen[1] == float(middle) == pytest.approx(float(end), rel=1e-5)
