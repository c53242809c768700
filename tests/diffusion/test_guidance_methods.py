"""Guidance follows its papers: compared with closed forms, and with diffusers if it has the same method."""

from __future__ import annotations

import dataclasses
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

from nodegraph_diffusion.checkpoint.layouts.modules import rename, unet_modules
from nodegraph_diffusion.guidance import GUIDANCE, ClassifierFreeGuidance, GuidanceSpec
from nodegraph_diffusion.noise_schedule import NoiseSchedule
from tests.support import small_networks as small
from tests.support.guidance import (
    CONFIG,
    NEGATIVE,
    POSITIVE,
    SIGMA,
    Asked,
    Calls,
    X,
    assert_near,
    classifier_free,
    shared_unet,
    toy,
)
from tests.support.toy_denoisers import SCHEDULE, GaussianDenoiser, TwistedDenoiser

NAMES = sorted(GUIDANCE)


@pytest.fixture(scope="module")
def unet():
    return shared_unet()


def reference():
    """Diffusers' network, and ours with its weights."""
    theirs, ours = small.reference_unet(CONFIG), small.our_unet(CONFIG)
    weights, table = theirs.state_dict(), unet_modules(CONFIG)
    ours.load_state_dict({key: weights[rename(key, table)] for key in ours.state_dict()})
    return theirs, ours


# --- what is declared


def test_guidance_names_are_listed():
    assert NAMES == ["dynamic_threshold", "interval", "perturbed_attention", "rescale", "self_attention"]


@pytest.mark.parametrize("name", NAMES)
def test_every_guidance_is_described(name):
    spec = GUIDANCE[name]
    assert spec.__doc__
    assert "arXiv:" in spec.describe()["paper"]
    assert spec.aliases


@pytest.mark.parametrize("cfg", [4.0, 1.0])
@pytest.mark.parametrize("name", NAMES)
def test_number_of_evaluations_is_as_declared(unet, name, cfg):
    """Counted in rows of the network: at scale 1, only guidance that uses the negative side computes it."""
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
        ("interval", {"sigma_start": 1.0, "sigma_end": 2.0}, "noise levels 1 to 2; choose sigma_start above"),
    ],
)
def test_options_are_checked_before_computing(name, options, message):
    with pytest.raises(ValueError, match=message):
        GUIDANCE[name](toy(), **options)


def test_other_functions_are_refused():
    with pytest.raises(ValueError, match=r"expected a function guidance\(denoiser, \*\*options\)"):
        GuidanceSpec(lambda: None)


# --- rescale


@pytest.mark.parametrize("amount", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_rescale_of_the_prediction_equals_diffusers(unet, prediction, amount):
    schedule = NoiseSchedule(prediction=prediction)
    inner = classifier_free(unet, 6.0, schedule=schedule)
    seen = inner.predict(X, SIGMA)
    root = math.sqrt(1 + SIGMA**2)

    def predicted(denoised):
        return (X - denoised) / SIGMA if prediction == "eps" else (X / root**2 - denoised) * root / SIGMA

    reference = rescale_noise_cfg(predicted(seen.denoised), predicted(seen.positive), guidance_rescale=amount)
    ours = GUIDANCE["rescale"](inner, amount=amount, of="prediction")(X, SIGMA)
    torch.testing.assert_close(predicted(ours), reference, rtol=1e-4, atol=1e-4)


def test_rescaled_velocity_has_the_positive_deviation():
    inner = toy(6.0)
    ours = GUIDANCE["rescale"](inner, amount=1.0)(X, SIGMA)
    root = math.sqrt(1 + SIGMA**2)
    velocity, positive, unscaled = (
        (X / root**2 - denoised) * root / SIGMA for denoised in (ours, inner.predict_one("positive", X, SIGMA), inner(X, SIGMA))
    )
    torch.testing.assert_close(velocity.std(dim=(1, 2, 3)), positive.std(dim=(1, 2, 3)))
    assert not torch.allclose(unscaled.std(dim=(1, 2, 3)), positive.std(dim=(1, 2, 3)), rtol=0.1)
    half = GUIDANCE["rescale"](inner, amount=0.5)(X, SIGMA)
    torch.testing.assert_close(half, (ours + inner(X, SIGMA)) / 2)


# --- dynamic_threshold


@pytest.mark.parametrize("size", [0.1, 5.0])
def test_limit_1_equals_the_threshold_of_diffusers(size):
    inner = ClassifierFreeGuidance(GaussianDenoiser(deviation=size), GaussianDenoiser(mean=0.0), 6.0)
    scheduler = diffusers.DDIMScheduler(thresholding=True, dynamic_thresholding_ratio=0.9, sample_max_value=1e9)
    ours = GUIDANCE["dynamic_threshold"](inner, percentile=0.9, limit=1.0)(X, SIGMA)
    torch.testing.assert_close(ours, scheduler._threshold_sample(inner(X, SIGMA)))
    assert ours.abs().max() <= 1 + 1e-6


def test_mimic_keeps_the_mean_and_sets_the_range():
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
def test_values_within_the_range_are_unchanged(cfg, mimic):
    inner = ClassifierFreeGuidance(GaussianDenoiser(deviation=2.0), GaussianDenoiser(mean=0.0), cfg)
    ours = GUIDANCE["dynamic_threshold"](inner, percentile=0.9, mimic=mimic)(X, SIGMA)
    torch.testing.assert_close(ours, inner(X, SIGMA))


# --- perturbed_attention


@pytest.mark.parametrize("places", ["middle_block", ["input_blocks.1", "output_blocks"]])
def test_perturbed_attention_equals_diffusers(places):
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


def test_unknown_attention_layer_is_refused(unet):
    with pytest.raises(ValueError, match=r"perturbed_attention: expected .* in output_blocks.9, found it in input_blocks.1.1"):
        GUIDANCE["perturbed_attention"](classifier_free(unet), places="output_blocks.9")(X, SIGMA)


@pytest.mark.parametrize("name", ["perturbed_attention", "self_attention"])
def test_network_without_attention_is_refused(name):
    with pytest.raises(ValueError, match="a network whose attention can be changed"):
        GUIDANCE[name](toy())(X, SIGMA)
    bare = small.our_unet(dataclasses.replace(CONFIG, middle_depth=0))
    with pytest.raises(ValueError, match=f"{name}: expected a network with self-attention in middle_block"):
        GUIDANCE[name](classifier_free(bare))(X, SIGMA)


@pytest.mark.parametrize("name", ["perturbed_attention", "self_attention"])
def test_scale_0_calls_no_network(name):
    inner = toy()
    assert GUIDANCE[name](inner, scale=0.0) is inner


# --- self_attention


def test_self_attention_equals_diffusers():
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


def test_too_small_latent_is_not_blurred(unet):
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
def test_interval_limits_guidance_to_noise_levels(options, inside, outside):
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


def test_interval_uses_the_ranges_of_prompts():
    middle = SCHEDULE.sigma_at(0.5)
    inner = toy()
    late, early = GUIDANCE["interval"](inner, start=0.5, end=1.0), GUIDANCE["interval"](inner, start=0.0, end=0.5)
    for sigma in (middle * 1.001, middle * 0.999):
        assert torch.equal(late(X, sigma), inner(X, sigma)) == (sigma < middle)
        assert torch.equal(early(X, sigma), inner(X, sigma)) == (sigma > middle)


def test_interval_skips_the_guidance_inside(unet):
    stacked = GUIDANCE["interval"](GUIDANCE["perturbed_attention"](classifier_free(unet)), sigma_start=5.0, sigma_end=1.0)
    with Calls(unet) as calls:
        stacked(X[:1], 0.5)
    assert calls.rows == [1]
