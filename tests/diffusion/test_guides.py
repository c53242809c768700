"""Guidance computes what its paper says: against closed forms, and against diffusers where it has the same."""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
import math
from types import SimpleNamespace

import diffusers
import pytest
import torch
from diffusers.models.attention_processor import PAGIdentitySelfAttnProcessor2_0
from diffusers.pipelines.deprecated.stable_diffusion_sag.pipeline_stable_diffusion_sag import (
    CrossAttnStoreProcessor,
    StableDiffusionSAGPipeline,
)
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg
from hypothesis import given, settings
from hypothesis import strategies as st

from nodegraph_diffusion.attention import attend
from nodegraph_diffusion.checkpoint.names import rename, unet_modules
from nodegraph_diffusion.conditioning import Area, Prompt
from nodegraph_diffusion.denoiser import PromptedUNet
from nodegraph_diffusion.guidance import ClassifierFreeGuidance, MaskedDenoiser, UNetDenoiser, guided, with_sides
from nodegraph_diffusion.guides import GUIDANCE, DualGuidance, GradientGuidance, GuidanceSpec, PerpNeg
from nodegraph_diffusion.regions import noise_level
from nodegraph_diffusion.sampling import SAMPLERS, sample, sigmas_for
from nodegraph_diffusion.schedule import NoiseSchedule
from nodegraph_diffusion.schedules import SCHEDULES
from tests.diffusion import small
from tests.diffusion.toys import SCHEDULE, GaussianDenoiser, TwistedDenoiser

NAMES = sorted(GUIDANCE)
CONFIG = dataclasses.replace(small.UNET, channel_mult=(1, 2), transformer_depth=(1, 0), num_res_blocks=1)
X = torch.randn(2, 4, 12, 10, generator=torch.Generator().manual_seed(0)) * 3
SIGMA = 2.5
SETTINGS = {name: {} for name in NAMES} | {"dynamic_threshold": {"percentile": 0.9, "mimic": 2.0}, "self_attention": {"scale": 2.0}}


class Asked:
    """A denoiser that counts how often it is asked."""

    def __init__(self, denoiser):
        self.denoiser, self.schedule, self.times = denoiser, denoiser.schedule, 0

    def __call__(self, x, sigma):
        self.times += 1
        return self.denoiser(x, sigma)


class Calls:
    """How many rows a network was given, call by call."""

    def __init__(self, network):
        self.rows = []
        self._handle = network.register_forward_pre_hook(lambda module, args: self.rows.append(args[0].shape[0]))

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        self._handle.remove()


@functools.cache
def shared_unet():
    return small.our_unet(CONFIG)


@pytest.fixture(scope="module")
def unet():
    return shared_unet()


def reference():
    """Diffusers' network, and ours with its weights."""
    theirs, ours = small.reference_unet(CONFIG), small.our_unet(CONFIG)
    weights, table = theirs.state_dict(), unet_modules(CONFIG)
    ours.load_state_dict({key: weights[rename(key, table)] for key in ours.state_dict()})
    return theirs, ours


def prompt(seed, pictures=1, **where):
    generator = torch.Generator().manual_seed(seed)
    return Prompt(torch.randn(pictures, 6, CONFIG.context_dim, generator=generator), **where)


POSITIVE, NEGATIVE, EMPTY = prompt(1), prompt(2), prompt(3)


def prompted(unet, *prompts, schedule=SCHEDULE, **options):
    return UNetDenoiser(unet, schedule, prompts, **options)


def classifier_free(unet, cfg=4.0, positive=(POSITIVE,), negative=(NEGATIVE,), schedule=SCHEDULE):
    return ClassifierFreeGuidance(prompted(unet, *positive, schedule=schedule), prompted(unet, *negative, schedule=schedule), cfg)


def toy(cfg=4.0):
    """Guidance between two denoisers that are no networks."""
    return ClassifierFreeGuidance(TwistedDenoiser(), GaussianDenoiser(mean=-0.5), cfg)


def assert_near(ours, expected, tolerance=1e-4):
    assert small.difference(ours, expected) < tolerance


# --- what is declared


def test_the_names():
    assert NAMES == ["dynamic_threshold", "interval", "perturbed_attention", "rescale", "self_attention"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_said_of_a_guidance(name):
    spec = GUIDANCE[name]
    assert spec.__doc__
    assert "arXiv:" in spec.said()["paper"]
    assert spec.aliases


@pytest.mark.parametrize("cfg", [4.0, 1.0])
@pytest.mark.parametrize("name", NAMES)
def test_it_asks_as_often_as_is_declared(unet, name, cfg):
    """Counted in rows of the network: at scale 1 the negative side is asked by none that does not look at it."""
    without = 2 if cfg != 1 else 1
    guidance = GUIDANCE[name](classifier_free(unet, cfg))
    with Calls(unet) as calls:
        guidance(X[:1], 1.0)
    assert sum(calls.rows) == without + GUIDANCE[name].evaluations


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("rescale", {"amont": 1.0}, "no option 'amont'.* did you mean 'amount'"),
        ("rescale", {"amount": 1.5}, r"'amount' expected a number from 0 to 1, found 1.5"),
        ("rescale", {"amount": math.nan}, "from 0 to 1, found nan"),
        ("rescale", {"of": "noise"}, "one of 'velocity', 'prediction'"),
        ("dynamic_threshold", {"percentile": 99.5}, "from 0 to 1, found 99.5"),
        ("perturbed_attention", {"places": 3}, "expected text or"),
        ("self_attention", {"blur_sigma": 0.0}, "from 0.01 to 100, found 0.0"),
        ("interval", {"start": 0.8, "end": 0.2}, "start before it ends, found start 0.8 and end 0.2"),
        ("interval", {"end": 0.1}, "start before it ends, found start 0.2 and end 0.1"),
        ("interval", {"sigma_start": 1.0, "sigma_end": 2.0}, "noise levels 1 to 2; sigma_start lies above"),
    ],
)
def test_options_are_checked_before_anything_is_computed(name, options, message):
    with pytest.raises(ValueError, match=message):
        GUIDANCE[name](toy(), **options)


def test_a_function_that_is_no_guidance_is_refused():
    with pytest.raises(ValueError, match=r"expected a function guidance\(denoiser, \*\*options\)"):
        GuidanceSpec(lambda: None)


# --- rescale


@pytest.mark.parametrize("amount", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_rescale_of_the_prediction_is_that_of_diffusers(unet, prediction, amount):
    schedule = NoiseSchedule(prediction=prediction)
    inner = classifier_free(unet, 6.0, schedule=schedule)
    seen = inner.predict(X, SIGMA)
    root = math.sqrt(1 + SIGMA**2)

    def predicted(denoised):
        return (X - denoised) / SIGMA if prediction == "eps" else (X / root**2 - denoised) * root / SIGMA

    reference = rescale_noise_cfg(predicted(seen.denoised), predicted(seen.positive), guidance_rescale=amount)
    ours = GUIDANCE["rescale"](inner, amount=amount, of="prediction")(X, SIGMA)
    torch.testing.assert_close(predicted(ours), reference, rtol=1e-4, atol=1e-4)


def test_rescale_of_the_velocity_gives_it_the_deviation_of_the_positive_side():
    inner = toy(6.0)
    ours = GUIDANCE["rescale"](inner, amount=1.0)(X, SIGMA)
    root = math.sqrt(1 + SIGMA**2)
    velocity, positive, unscaled = (
        (X / root**2 - denoised) * root / SIGMA for denoised in (ours, inner.side("positive", X, SIGMA), inner(X, SIGMA))
    )
    torch.testing.assert_close(velocity.std(dim=(1, 2, 3)), positive.std(dim=(1, 2, 3)))
    assert not torch.allclose(unscaled.std(dim=(1, 2, 3)), positive.std(dim=(1, 2, 3)), rtol=0.1)
    half = GUIDANCE["rescale"](inner, amount=0.5)(X, SIGMA)
    torch.testing.assert_close(half, (ours + inner(X, SIGMA)) / 2)


# --- dynamic_threshold


@pytest.mark.parametrize("size", [0.1, 5.0])
def test_a_limit_of_1_is_the_threshold_of_diffusers(size):
    inner = ClassifierFreeGuidance(GaussianDenoiser(deviation=size), GaussianDenoiser(mean=0.0), 6.0)
    scheduler = diffusers.DDIMScheduler(thresholding=True, dynamic_thresholding_ratio=0.9, sample_max_value=1e9)
    ours = GUIDANCE["dynamic_threshold"](inner, percentile=0.9, limit=1.0)(X, SIGMA)
    torch.testing.assert_close(ours, scheduler._threshold_sample(inner(X, SIGMA)))
    assert ours.abs().max() <= 1 + 1e-6


def test_a_channel_keeps_its_mean_and_gets_the_range_of_the_scale_that_is_mimicked():
    inner, like = toy(12.0), toy(3.0)
    ours, expected = GUIDANCE["dynamic_threshold"](inner, mimic=3.0, percentile=1.0)(X, SIGMA), like(X, SIGMA)

    def around_the_mean(values):
        mean = values.mean(dim=(2, 3), keepdim=True)
        return mean, values - mean

    (mean, spread), (_, allowed), (before, _) = map(around_the_mean, (ours, expected, inner(X, SIGMA)))
    torch.testing.assert_close(spread.abs().amax(dim=(2, 3)), allowed.abs().amax(dim=(2, 3)))
    torch.testing.assert_close(mean, before)
    assert inner(X, SIGMA).std() > 2 * ours.std()


@pytest.mark.parametrize(("cfg", "mimic"), [(1.0, 1.0), (3.0, 3.0), (2.0, 7.0)])
def test_what_lies_within_the_range_is_left_as_it_is(cfg, mimic):
    inner = ClassifierFreeGuidance(GaussianDenoiser(deviation=2.0), GaussianDenoiser(mean=0.0), cfg)
    ours = GUIDANCE["dynamic_threshold"](inner, percentile=0.9, mimic=mimic)(X, SIGMA)
    torch.testing.assert_close(ours, inner(X, SIGMA))


# --- perturbed_attention


@pytest.mark.parametrize("places", ["middle_block", ["input_blocks.1", "output_blocks"]])
def test_perturbed_attention_is_that_of_diffusers(places):
    (theirs, unet), scale = reference(), 3.0
    parts = [theirs.mid_block] if places == "middle_block" else [theirs.down_blocks[0], theirs.up_blocks]
    for part in parts:
        for name, module in part.named_modules():
            if name.endswith("attn1"):
                module.processor = PAGIdentitySelfAttnProcessor2_0()
    timestep = 500
    sigma = float(SCHEDULE.sigma(timestep))
    x = X[:1]
    seen = torch.cat([x, x]) / math.sqrt(1 + sigma**2)
    context = POSITIVE.embedding.expand(2, -1, -1)
    positive, impaired = theirs(seen, timestep, context).sample.chunk(2)
    inner = classifier_free(unet, 4.0)
    expected = inner(x, sigma) - sigma * scale * (positive - impaired)
    ours = GUIDANCE["perturbed_attention"](inner, scale=scale, places=places)(x, sigma)
    assert_near(ours, expected)
    assert small.difference(inner(x, sigma), expected) > 0.01


def test_attention_at_a_place_that_is_not_there(unet):
    with pytest.raises(ValueError, match=r"perturbed_attention: expected .* in output_blocks.9, found it in input_blocks.1.1"):
        GUIDANCE["perturbed_attention"](classifier_free(unet), places="output_blocks.9")(X, SIGMA)


@pytest.mark.parametrize("name", ["perturbed_attention", "self_attention"])
def test_what_has_no_attention_is_refused(name):
    with pytest.raises(ValueError, match="a network whose attention can be changed"):
        GUIDANCE[name](toy())(X, SIGMA)
    bare = small.our_unet(dataclasses.replace(CONFIG, middle_depth=0))
    with pytest.raises(ValueError, match=f"{name}: expected a network with self-attention in middle_block"):
        GUIDANCE[name](classifier_free(bare))(X, SIGMA)


@pytest.mark.parametrize("name", ["perturbed_attention", "self_attention"])
def test_scale_0_asks_nothing(name):
    inner = toy()
    assert GUIDANCE[name](inner, scale=0.0) is inner


# --- self_attention


def test_self_attention_is_that_of_diffusers():
    (theirs, unet), scale, cfg = reference(), 0.75, 4.0
    store = CrossAttnStoreProcessor()
    theirs.mid_block.attentions[0].transformer_blocks[0].attn1.processor = store
    timestep = torch.tensor(400)
    sigma = float(SCHEDULE.sigma(timestep))
    c_in = 1 / math.sqrt(1 + sigma**2)
    x = X[:, :, :10]
    size = tuple(-(-side // 2) for side in x.shape[-2:])

    def noise_in(seen, context):
        return theirs(seen, timestep, context.embedding.expand(2, -1, -1)).sample

    positive, negative = noise_in(x * c_in, POSITIVE), noise_in(x * c_in, NEGATIVE)
    pipeline = SimpleNamespace(
        unet=theirs, scheduler=diffusers.DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    )
    pipeline.unet.register_to_config(attention_head_dim=CONFIG.num_heads)
    degraded = StableDiffusionSAGPipeline.sag_masking(
        pipeline, x - sigma * negative, store.attention_probs, size, timestep, negative
    )
    again = noise_in(degraded, NEGATIVE)
    predicted = negative + cfg * (positive - negative) + scale * (negative - again)
    expected = x - sigma * predicted
    inner = classifier_free(unet, cfg)
    ours = GUIDANCE["self_attention"](inner, scale=scale, blur_sigma=1.0)(x, sigma)
    assert_near(ours, expected)
    assert small.difference(inner(x, sigma), expected) > 0.003


def test_a_latent_too_small_to_blur_is_left_as_it_is(unet):
    inner = classifier_free(unet)
    x = X[:, :, :4]
    torch.testing.assert_close(GUIDANCE["self_attention"](inner)(x, SIGMA), inner(x, SIGMA), rtol=1e-4, atol=1e-4)


# --- interval


@pytest.mark.parametrize(
    ("options", "inside", "outside"),
    [
        ({"sigma_start": 5.0, "sigma_end": 1.0}, (5.0, 3.0, 1.01), (5.01, 14.0, 1.0, 0.5)),
        ({"start": 0.25, "end": 0.75}, (3.8, 1.0), (6.0, 0.3)),
        ({"start": 0.0, "end": 0.5}, (14.6, 2.0), (1.5,)),
        ({"sigma_start": 5.0, "end": 1.0}, (5.0, 0.03), (5.01,)),
    ],
)
def test_guidance_between_two_noise_levels(options, inside, outside):
    positive, negative = Asked(TwistedDenoiser()), Asked(GaussianDenoiser())
    inner = ClassifierFreeGuidance(positive, negative, 4.0)
    denoise = GUIDANCE["interval"](inner, **options)
    for sigma in outside:
        assert torch.equal(denoise(X, sigma), positive(X, sigma))
        assert all(torch.equal(seen, positive(X, sigma)) for seen in denoise.predict(X, sigma))
    assert negative.times == 0
    for sigma in inside:
        assert torch.equal(denoise(X, sigma), inner(X, sigma))
        assert all(
            torch.equal(ours, theirs) for ours, theirs in zip(denoise.predict(X, sigma), inner.predict(X, sigma), strict=True)
        )


def test_the_parts_of_the_interval_are_those_of_prompts():
    middle = noise_level(SCHEDULE, 0.5)
    inner = toy()
    late, early = GUIDANCE["interval"](inner, start=0.5, end=1.0), GUIDANCE["interval"](inner, start=0.0, end=0.5)
    for sigma in (middle * 1.001, middle * 0.999):
        assert torch.equal(late(X, sigma), inner(X, sigma)) == (sigma < middle)
        assert torch.equal(early(X, sigma), inner(X, sigma)) == (sigma > middle)


def test_what_the_interval_is_around_is_left_out_with_it(unet):
    stacked = GUIDANCE["interval"](GUIDANCE["perturbed_attention"](classifier_free(unet)), sigma_start=5.0, sigma_end=1.0)
    with Calls(unet) as calls:
        stacked(X[:1], 0.5)
    assert calls.rows == [1]


# --- gradient


class Likelihood:
    """Log-likelihood of a measurement y of the clean latent with noise of deviation `spread`, for data N(mean, deviation^2)."""

    def __init__(self, prior, y, spread):
        self.prior, self.y, self.spread = prior, y, spread

    def given_estimate(self, denoised, sigma):
        """p(y | x): the clean latent is distributed around the estimate, with what variance the noise leaves."""
        left = self.prior.deviation**2 * sigma**2 / (self.prior.deviation**2 + sigma**2)
        return -((self.y - denoised) ** 2).sum(dim=(1, 2, 3)) / (2 * (self.spread**2 + left))

    def given_noisy(self, x, sigma):
        return self.given_estimate(self.prior(x, sigma), sigma)

    def posterior(self, x, sigma):
        """The mean of the clean latent, given both x and y: each counts by its precision."""
        precisions = 1 / self.prior.deviation**2, 1 / sigma**2, 1 / self.spread**2
        means = self.prior.mean, x, self.y
        return sum(p * m for p, m in zip(precisions, means, strict=True)) / sum(precisions)


@pytest.mark.parametrize("sigma", [0.1, 1.0, 14.0])
@pytest.mark.parametrize(("through", "deviation"), [("network", 0.5), ("noisy", 0.5), ("estimate", 1.0), ("network", 1.0)])
def test_the_gradient_of_a_gaussian_likelihood_gives_the_posterior(through, deviation, sigma):
    prior = GaussianDenoiser(deviation=deviation)
    likelihood = Likelihood(prior, torch.randn(X.shape, generator=torch.Generator().manual_seed(5)), 0.3)
    score = likelihood.given_noisy if through == "noisy" else likelihood.given_estimate
    with torch.no_grad():
        ours = GradientGuidance(with_sides(prior), score, through=through)(X, torch.tensor(sigma))
    torch.testing.assert_close(ours, likelihood.posterior(X, sigma), rtol=1e-4, atol=1e-4)
    assert not ours.requires_grad


def test_sampling_with_a_gradient_reaches_the_posterior():
    prior = GaussianDenoiser(deviation=0.5)
    likelihood = Likelihood(prior, 2.0, 0.25)
    guide = GradientGuidance(with_sides(prior), likelihood.given_estimate)
    noise = torch.randn(64, 4, 8, 8, generator=torch.Generator().manual_seed(6))
    precision = 1 / 0.5**2 + 1 / 0.25**2
    mean = (0.7 / 0.5**2 + 2.0 / 0.25**2) / precision
    sigmas = sigmas_for(SCHEDULES["karras"], SCHEDULE, 60)
    samples = sample(guide, torch.full_like(noise, mean), noise, SAMPLERS["heun"], sigmas)
    assert samples.mean().item() == pytest.approx(mean, abs=0.01)
    assert samples.std().item() == pytest.approx(precision**-0.5, rel=0.03)


def test_the_gradient_goes_through_a_network_and_each_picture_by_itself(unet):
    inner = classifier_free(unet)

    def brightness(latent, sigma):
        return -(latent[:, 0] - 1).square().mean(dim=(1, 2))

    with torch.no_grad():
        for through in ("network", "estimate", "noisy"):
            guide = GradientGuidance(inner, brightness, scale=20.0, through=through)
            both, alone = guide.predict(X, 1.0), [guide.predict(X[k : k + 1], 1.0) for k in range(2)]
            for together, *apart in zip(both, *alone, strict=True):
                assert_near(together, torch.cat(apart))
            assert not any(seen.requires_grad for seen in both)
            assert brightness(both.denoised, 1.0).sum() > brightness(inner(X, 1.0), 1.0).sum()


def test_a_direction_is_that_of_finite_differences(unet):
    inner = classifier_free(copy.deepcopy(unet).double())
    x = X[:1, :, :4, :4].double()
    guide = GradientGuidance(inner, lambda latent, sigma: latent.pow(3).sum(dim=(1, 2, 3)))
    moved = (guide(x, SIGMA) - inner(x, SIGMA)) / SIGMA**2
    step = torch.zeros_like(x)
    step[0, 1, 2, 3] = 1e-4
    slope = (inner(x + step, SIGMA).pow(3).sum() - inner(x - step, SIGMA).pow(3).sum()) / 2e-4
    assert moved[0, 1, 2, 3].item() == pytest.approx(slope.item(), rel=1e-4)


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (lambda latent, sigma: latent.sum(), r"for each of 2 pictures, \(2,\), found \(\)"),
        (lambda latent, sigma: latent.detach().sum(dim=(1, 2, 3)), "without a gradient"),
    ],
)
@pytest.mark.parametrize("through", ["network", "estimate", "noisy"])
def test_a_score_that_cannot_guide_is_refused(score, message, through):
    with pytest.raises(ValueError, match=message):
        GradientGuidance(toy(), score, through=through)(X, SIGMA)


# --- three prompts


def test_perp_neg_is_the_papers():
    positive, negative, empty = TwistedDenoiser(), GaussianDenoiser(mean=1.0), GaussianDenoiser(mean=0.0, deviation=1.0)
    ours = PerpNeg(positive, negative, empty, 5.0, 0.8)(X, SIGMA)
    for k in range(2):  # a second writing, picture by picture
        p, n, e = (denoiser(X[k : k + 1], SIGMA).flatten() for denoiser in (positive, negative, empty))
        toward, away = p - e, n - e
        perpendicular = away - (away @ toward) / (toward @ toward) * toward
        torch.testing.assert_close(ours[k].flatten(), e + 5.0 * (toward - 0.8 * perpendicular), rtol=1e-4, atol=1e-4)


def test_perp_neg_takes_away_nothing_that_both_prompts_ask_for():
    positive, empty = TwistedDenoiser(), GaussianDenoiser(mean=0.0)
    ours, expected = PerpNeg(positive, positive, empty, 5.0), ClassifierFreeGuidance(positive, empty, 5.0)
    torch.testing.assert_close(ours(X, SIGMA), expected(X, SIGMA), rtol=1e-4, atol=1e-4)


def test_perp_neg_of_one_prompt_for_all():
    same = TwistedDenoiser()
    torch.testing.assert_close(PerpNeg(same, same, same, 5.0)(X, SIGMA), same(X, SIGMA))


@pytest.mark.parametrize(("cfg", "neg_scale", "rows"), [(5.0, 1.0, 6), (5.0, 0.0, 4), (1.0, 1.0, 6), (1.0, 0.0, 2)])
def test_perp_neg_asks_its_prompts_in_one_batch(unet, cfg, neg_scale, rows):
    denoise = PerpNeg(prompted(unet, POSITIVE), prompted(unet, NEGATIVE), prompted(unet, EMPTY), cfg, neg_scale)
    with Calls(unet) as calls:
        together = denoise(X, SIGMA)
    assert calls.rows == [rows]
    apart = PerpNeg(*(Asked(prompted(unet, one)) for one in (POSITIVE, NEGATIVE, EMPTY)), cfg, neg_scale)
    assert_near(together, apart(X, SIGMA))


def test_the_sides_of_perp_neg_are_the_positive_and_the_empty_prompt(unet):
    denoise = PerpNeg(prompted(unet, POSITIVE), prompted(unet, NEGATIVE), prompted(unet, EMPTY), 5.0)
    seen = denoise.predict(X, SIGMA)
    for side, one, predicted in (("positive", POSITIVE, seen.positive), ("negative", EMPTY, seen.negative)):
        assert_near(predicted, prompted(unet, one)(X, SIGMA))
        assert_near(denoise.side(side, X, SIGMA), predicted)


@pytest.mark.parametrize("nested", [False, True])
def test_dual_guidance_is_the_papers(nested):
    positive, middle, negative = TwistedDenoiser(), GaussianDenoiser(mean=1.0), GaussianDenoiser(mean=-1.0)
    ours = DualGuidance(positive, middle, negative, 7.5, 1.5, nested)(X, SIGMA)
    p, m, n = (denoiser(X, SIGMA) for denoiser in (positive, middle, negative))
    expected = n + 1.5 * (m + 7.5 * (p - m) - n) if nested else n + 1.5 * (m - n) + 7.5 * (p - m)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("cfg", "cfg_middle", "nested", "asked"),
    [
        (7.5, 1.5, False, (1, 1, 1)),
        (7.5, 1.0, False, (1, 1, 0)),
        (1.0, 1.0, False, (1, 0, 0)),
        (1.5, 1.5, False, (1, 0, 1)),
        (1.0, 3.0, True, (1, 0, 1)),
        (7.5, 1.0, True, (1, 1, 0)),
    ],
)
def test_dual_guidance_asks_only_the_sides_that_count(cfg, cfg_middle, nested, asked):
    sides = [Asked(TwistedDenoiser()), Asked(GaussianDenoiser(mean=1.0)), Asked(GaussianDenoiser(mean=-1.0))]
    denoise = DualGuidance(*sides, cfg, cfg_middle, nested)
    ours = denoise(X, SIGMA)
    assert tuple(side.times for side in sides) == asked
    p, m, n = (side(X, SIGMA) for side in sides)
    expected = n + cfg_middle * (m + cfg * (p - m) - n) if nested else n + cfg_middle * (m - n) + cfg * (p - m)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(denoise.predict(X, SIGMA).negative, n)


def test_dual_guidance_of_a_model_that_sees_a_picture_beside_the_latent():
    """InstructPix2Pix: the negative side sees none, so that it shares no batch with the others."""
    seeing = small.our_unet(dataclasses.replace(CONFIG, in_channels=8))
    picture, none = torch.ones(1, 4, 12, 10), torch.zeros(1, 4, 1, 1)
    sides = [
        prompted(seeing, POSITIVE, concat=picture),
        prompted(seeing, EMPTY, concat=picture),
        prompted(seeing, EMPTY, concat=none),
    ]
    denoise = DualGuidance(*sides, 7.5, 1.5)
    with Calls(seeing) as calls:
        ours = denoise(X, SIGMA)
    assert calls.rows == [4, 2]
    p, m, n = (side(X, SIGMA) for side in sides)
    assert_near(ours, n + 1.5 * (m - n) + 7.5 * (p - m))
    perturbed = GUIDANCE["perturbed_attention"](denoise)(X, SIGMA)
    assert not torch.allclose(perturbed, ours)


@pytest.mark.parametrize("kind", [PerpNeg, DualGuidance])
def test_a_scale_that_is_no_number_is_refused(kind):
    sides = [TwistedDenoiser()] * 3
    for scales in ((math.nan, 1.0), (1.0, math.inf)):
        with pytest.raises(ValueError, match=r"expected a finite (cfg|neg_scale|cfg_middle), found (nan|inf)"):
            kind(*sides, *scales)


# --- all of them, with all that there is besides


def stacked(denoiser, names):
    for name in names:
        denoiser = GUIDANCE[name](denoiser, **SETTINGS[name])
    return denoiser


def denoisers(unet, pictures=slice(None)):
    """Each kind of denoiser that guidance goes around, for all pictures or some."""
    own = torch.cat([prompt(11).embedding, prompt(12).embedding])[pictures]
    left = Area(1.0, 0.5, 0, 0, fraction=True)
    mask = torch.rand(2, 24, 20, generator=torch.Generator().manual_seed(4))[pictures]
    several = (POSITIVE, prompt(5, area=left, strength=0.8), prompt(6, mask=mask), prompt(7, start=0.2, end=0.6))
    return {
        "one prompt for each": classifier_free(unet, positive=(Prompt(own),)),
        "no guidance": classifier_free(unet, cfg=1.0),
        "several prompts": classifier_free(unet, positive=several, negative=(NEGATIVE, prompt(8, area=left))),
        "perp neg": PerpNeg(prompted(unet, *several), prompted(unet, NEGATIVE), prompted(unet, EMPTY), 4.0),
        "dual": DualGuidance(prompted(unet, POSITIVE), prompted(unet, NEGATIVE), prompted(unet, EMPTY), 4.0, 2.0),
        "apart": ClassifierFreeGuidance(prompted(unet, POSITIVE), prompted(unet, NEGATIVE, controls=[no_control]), 4.0),
    }


def no_control(x, timesteps, context, added):
    raise AssertionError("it counts at no noise level")


no_control.start, no_control.end = 1.0, 1.0


@pytest.mark.parametrize("kind", sorted(denoisers(None)))
@pytest.mark.parametrize("name", NAMES)
def test_a_picture_alone_is_the_same_as_in_a_batch(unet, name, kind):
    together = stacked(denoisers(unet)[kind], [name]).predict(X, SIGMA)
    for k in range(2):
        here = slice(k, k + 1)
        alone = stacked(denoisers(unet, here)[kind], [name]).predict(X[here], SIGMA)
        for ours, expected in zip(together, alone, strict=True):
            assert_near(ours[here], expected, 1e-3)


@pytest.mark.parametrize("kind", sorted(denoisers(None)))
@pytest.mark.parametrize("name", NAMES)
def test_a_call_is_the_estimate_of_a_prediction_and_changes_nothing(unet, name, kind):
    denoise, x = stacked(denoisers(unet)[kind], [name]), X.clone()
    seen = denoise.predict(x, SIGMA)
    assert_near(denoise(x, torch.tensor(SIGMA)), seen.denoised)
    assert torch.equal(x, X)
    for side in ("positive", "negative"):
        assert_near(denoise.side(side, x, SIGMA), getattr(seen, side))


@settings(max_examples=12, deadline=None)
@given(order=st.permutations(NAMES), cfg=st.sampled_from([1.0, 5.0]), sigma=st.sampled_from([0.05, 1.0, 14.0]))
def test_guidance_stacks_in_any_order(order, cfg, sigma):
    seen = stacked(classifier_free(shared_unet(), cfg), order).predict(X, sigma)
    assert all(one.shape == X.shape and one.isfinite().all() for one in seen)


def test_the_order_counts(unet):
    pairs = itertools.permutations(["perturbed_attention", "rescale"])
    one, other = (stacked(classifier_free(unet), names)(X, SIGMA) for names in pairs)
    assert small.difference(one, other) > 0.01


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_network_in_half_precision(dtype):
    exact, half = small.our_unet(CONFIG), small.our_unet(CONFIG).to(dtype)
    ours, expected = (stacked(classifier_free(unet), NAMES)(X, SIGMA) for unet in (half, exact))
    assert ours.dtype == torch.float32
    assert ((ours - expected).std() / expected.std()).item() < 0.1
    with torch.no_grad():
        moved = GradientGuidance(classifier_free(half), lambda latent, sigma: latent.mean(dim=(1, 2, 3)))(X, SIGMA)
    assert moved.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_a_run_with_a_mask_keeps_what_is_black(unet, name):
    latent, noise = X[:1] / 3, torch.randn(1, 4, 12, 10, generator=torch.Generator().manual_seed(9))
    mask = torch.zeros(1, 12, 10)
    mask[:, :, 5:] = 1
    sigmas = sigmas_for(SCHEDULES["karras"], SCHEDULE, 3)
    denoise = stacked(classifier_free(unet), [name])
    result = sample(denoise, latent, noise, SAMPLERS["euler"], sigmas, mask=mask)
    torch.testing.assert_close(result[..., :5], latent[..., :5], rtol=0, atol=1e-5)
    assert not torch.allclose(result, sample(classifier_free(unet), latent, noise, SAMPLERS["euler"], sigmas, mask=mask))


@pytest.mark.parametrize("name", NAMES)
def test_samplers_of_the_cfg_pp_kind_get_the_guided_estimate_and_the_negative_side(unet, name):
    inner = classifier_free(unet)
    denoise = stacked(inner, [name])
    estimate, negative = guided(denoise).guided(X, SIGMA)
    assert_near(estimate, denoise(X, SIGMA))
    assert_near(negative, inner.side("negative", X, SIGMA))


# --- soft masks


def levels(n=5):
    return sigmas_for(SCHEDULES["normal"], SCHEDULE, n)


def differential(latent, noise, mask, denoise, sigmas):
    """Levin & Fried 2023, Alg. 1, with Euler steps and this step's noise level for the known part: a second writing."""
    steps = [float(SCHEDULE.timestep(sigma)) for sigma in sigmas[:-1]]
    x = latent + noise * math.sqrt(1 + float(sigmas[0]) ** 2)
    for sigma, after, step in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), steps, strict=True):
        left = (step - steps[-1]) / (steps[0] - steps[-1])
        changes = (mask >= left) & (mask > 0)
        known = latent + sigma * noise
        denoised = denoise(torch.where(changes, x, known), sigma)
        denoised = torch.where(changes, denoised, latent)
        x = x + (x - denoised) / sigma * (after - sigma)
    return x


def test_a_soft_mask_says_when_a_cell_begins_to_change():
    latent, noise = torch.randn(2, *X.shape, generator=torch.Generator().manual_seed(2))
    mask = torch.tensor([0.0, 0.1, 0.3, 0.49, 0.51, 0.6, 0.75, 0.8, 0.99, 1.0]).expand(1, 12, 10)
    sigmas = levels()
    result = sample(toy(), latent, noise, SAMPLERS["euler"], sigmas, mask=mask, soft_mask="differential")
    torch.testing.assert_close(result, differential(latent, noise, mask[:, None], toy(), sigmas), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(result[..., 0], latent[..., 0], rtol=0, atol=1e-5)
    assert not torch.allclose(result, sample(toy(), latent, noise, SAMPLERS["euler"], sigmas, mask=mask))


def test_the_greys_of_a_soft_mask_open_one_after_the_other():
    mask = torch.linspace(0, 1, 10).expand(1, 12, 10)
    sigmas = levels(10)
    masked = MaskedDenoiser(toy(), torch.zeros_like(X), torch.zeros_like(X), mask, sigmas)
    opened = []
    for sigma in sigmas[:-1]:
        changed = (masked(X, sigma) != 0).all(dim=(0, 1, 2))
        opened.append([k for k in range(10) if changed[k]])
    assert opened[0] == [9]
    assert opened[-1] == list(range(1, 10))
    assert all(set(before) <= set(after) for before, after in itertools.pairwise(opened))
    assert len({len(one) for one in opened}) >= 9


def test_a_black_and_white_soft_mask_is_a_mask():
    latent, noise = torch.randn(2, *X.shape, generator=torch.Generator().manual_seed(2))
    mask = (torch.arange(10) > 4).float().expand(1, 12, 10)
    runs = [
        sample(toy(), latent, noise, SAMPLERS["heun"], levels(), mask=mask, soft_mask=kind) for kind in ("blend", "differential")
    ]
    torch.testing.assert_close(*runs)


def test_a_soft_mask_for_a_part_of_a_run_begins_with_white_alone():
    sigmas = levels(8)[3:]
    mask = torch.linspace(0, 1, 10).expand(1, 12, 10)
    masked = MaskedDenoiser(toy(), torch.zeros_like(X), torch.zeros_like(X), mask, sigmas)
    assert (masked(X, sigmas[0]) != 0).any(dim=(0, 1, 2)).tolist() == [False] * 9 + [True]
    one_step = MaskedDenoiser(toy(), torch.zeros_like(X), torch.zeros_like(X), mask, torch.tensor([SCHEDULE.sigma_min, 0.0]))
    assert one_step(X, SCHEDULE.sigma_min).isfinite().all()


# --- the network's side of it


def test_a_hook_that_leaves_attention_as_it_is_changes_nothing(unet):
    network = PromptedUNet(unet, SCHEDULE, [(POSITIVE,), (NEGATIVE,)])
    places = []

    def same(place, q, k, v):
        places.append(place)
        return attend(q, k, v) if place.startswith("middle") else None

    for plain, hooked in zip(network(X, SIGMA), network(X, SIGMA, attention=same), strict=True):
        assert torch.equal(plain, hooked)
    assert len(places) == len(set(places)) == 1 + 1 + 2


def test_some_of_three_sides_are_what_they_are_among_all(unet):
    network = PromptedUNet(unet, SCHEDULE, [(POSITIVE,), (NEGATIVE,), (EMPTY,)])
    whole = network(X, SIGMA)
    for only in ([0], [2, 0], [1, 2]):
        for ours, k in zip(network(X, SIGMA, only), only, strict=True):
            assert_near(ours, whole[k])
