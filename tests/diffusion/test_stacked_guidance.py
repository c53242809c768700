"""Every kind of guidance around every kind of denoiser: in any order, in batches, with masks, controls and areas."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nodegraph_diffusion.conditioning.prompt import Area, Prompt
from nodegraph_diffusion.denoising.unguided import as_guided
from nodegraph_diffusion.guidance import GUIDANCE, ClassifierFreeGuidance, DualGuidance, GradientGuidance, PerpNeg, self_attention
from nodegraph_diffusion.sampling import SAMPLERS, sample, sigmas_for
from nodegraph_diffusion.schedules import SCHEDULES
from tests.support import small_networks as small
from tests.support.guidance import (
    CONFIG,
    EMPTY,
    NEGATIVE,
    POSITIVE,
    SIGMA,
    X,
    assert_near,
    classifier_free,
    prompt,
    prompted,
    shared_unet,
)
from tests.support.slow import slow_except
from tests.support.toy_denoisers import SCHEDULE

NAMES = sorted(GUIDANCE)
SETTINGS = {name: {} for name in NAMES} | {"dynamic_threshold": {"percentile": 0.9, "mimic": 2.0}, "self_attention": {"scale": 2.0}}


@pytest.fixture(scope="module")
def unet():
    return shared_unet()


def stacked(denoiser, names):
    for name in names:
        denoiser = GUIDANCE[name](denoiser, **SETTINGS[name])
    return denoiser


class Residuals:
    """A control that adds the mean of the latent to every feature map."""

    start, end = 0.0, 1.0

    def __call__(self, x, timesteps, context, added):
        half = [-(-side // 2) for side in x.shape[-2:]]
        mean = x.mean(dim=(1, 2, 3), keepdim=True)
        maps = [(32, *x.shape[-2:])] * 2 + [(32, *half), (64, *half), (64, *half)]
        *skips, middle = (mean.expand(-1, *shape) for shape in maps)
        return tuple(skips), middle


CONTROLS = [Residuals()]


def record_answers(unet):
    """Record each later call of a network: what its attention hook receives, and its prediction."""
    answers, forward = [], unet.forward

    def recorded(x, timesteps, context, added=None, controls=None, attention=None):
        shown = []

        def hook(layer, *qkv):
            shown.append((layer, qkv))
            return attention(layer, *qkv)

        predicted = forward(x, timesteps, context, added, controls, attention and hook)
        answers.append((shown, predicted))
        return predicted

    unet.forward = recorded
    return answers


def replay_answers(unet, answers, unit):
    """Make a network in float64 return these answers for any input, with its predictions in another unit."""
    left = iter(answers)

    def replayed(x, timesteps, context, added=None, controls=None, attention=None):
        shown, predicted = next(left)
        for layer, qkv in shown:
            attention(layer, *qkv)
        return predicted.double() * unit

    unet.forward = replayed


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
        "dual": DualGuidance(prompted(unet, POSITIVE), prompted(unet, NEGATIVE), prompted(unet, EMPTY), 4.0, cfg_middle=2.0),
        "controlled": ClassifierFreeGuidance(*(prompted(unet, *side, controls=CONTROLS) for side in (several, (NEGATIVE,))), 4.0),
        "apart": ClassifierFreeGuidance(prompted(unet, POSITIVE), prompted(unet, NEGATIVE, controls=CONTROLS), 4.0),
    }


KINDS = sorted(denoisers(None))
PAIRS = [  # each name and each kind in one fast test
    pytest.param(name, kind, marks=[] if i % len(NAMES) == j else [pytest.mark.slow])
    for i, kind in enumerate(KINDS)
    for j, name in enumerate(NAMES)
]


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_single_picture_equals_batch(unet, name, kind):
    together = stacked(denoisers(unet)[kind], [name]).predict(X, SIGMA)
    for k in range(2):
        here = slice(k, k + 1)
        single = stacked(denoisers(unet, here)[kind], [name]).predict(X[here], SIGMA)
        for ours, expected in zip(together, single, strict=True):
            assert_near(ours[here], expected, 1e-3)


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_call_equals_prediction_and_keeps_its_input(unet, name, kind):
    denoise, x = stacked(denoisers(unet)[kind], [name]), X.clone()
    seen = denoise.predict(x, SIGMA)
    assert_near(denoise(x, torch.tensor(SIGMA)), seen.denoised)
    assert torch.equal(x, X)
    for side in ("positive", "negative"):
        assert_near(denoise.predict_one(side, x, SIGMA), getattr(seen, side))


@settings(max_examples=12, deadline=None)
@given(order=st.permutations(NAMES), cfg=st.sampled_from([1.0, 5.0]), sigma=st.sampled_from([0.05, 1.0, 14.0]))
def test_guidance_stacks_in_any_order(order, cfg, sigma):
    seen = stacked(classifier_free(shared_unet(), cfg), order).predict(X, sigma)
    assert all(one.shape == X.shape and one.isfinite().all() for one in seen)


def test_order_of_guidance_matters(unet):
    pairs = itertools.permutations(["perturbed_attention", "rescale"])
    one, other = (stacked(classifier_free(unet), names)(X, SIGMA) for names in pairs)
    assert small.difference(one, other) > 0.01


STACKS = [[], *([name] for name in NAMES), NAMES]


@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("names", STACKS, ids="+".join)
def test_half_precision_guidance_is_computed_in_float32(names, dtype):
    half = small.our_unet(CONFIG).to(dtype)
    answers = record_answers(half)
    ours = stacked(classifier_free(half), names)(X, SIGMA)
    assert ours.dtype == torch.float32

    unit = 1.37  # all of it is proportional to its input: in another unit, whatever is rounded to half precision changes
    exact = small.our_unet(CONFIG).double()
    replay_answers(exact, answers, unit)
    expected = stacked(classifier_free(exact), names)(X.double() * unit, SIGMA) / unit
    assert small.difference(ours, expected) < 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("names", slow_except([NAMES], STACKS), ids="+".join)
def test_half_precision_error_grows_only_by_the_scales(names, dtype, monkeypatch):
    # Which cells count as attended is a yes or a no, and any rounding error can flip a cell. So here all of them count.
    monkeypatch.setattr(self_attention, "THRESHOLD", 0.0)
    exact, half = small.our_unet(CONFIG), small.our_unet(CONFIG).to(dtype)

    def error(denoiser):
        return (denoiser(half)(X, SIGMA) - denoiser(exact)(X, SIGMA)).std().item()

    unguided_error = max(error(lambda unet, side=side: prompted(unet, side)) for side in (POSITIVE, NEGATIVE))
    scales = 4 + 3  # cfg of the positive side, cfg - 1 of the negative one
    scales += 2 * 3 * ("perturbed_attention" in names) + 2 * 2 * ("self_attention" in names)  # each twice: of a difference
    assert error(lambda unet: stacked(classifier_free(unet), names)) < scales * unguided_error


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gradient_through_half_precision_is_finite(dtype):
    half = small.our_unet(CONFIG).to(dtype)
    with torch.no_grad():
        moved = GradientGuidance(classifier_free(half), lambda latent, sigma: latent.mean(dim=(1, 2, 3)))(X, SIGMA)
    assert moved.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_masked_run_keeps_black_areas(unet, name):
    latent, noise = X[:1] / 3, torch.randn(1, 4, 12, 10, generator=torch.Generator().manual_seed(9))
    mask = torch.zeros(1, 12, 10)
    mask[:, :, 5:] = 1
    sigmas = sigmas_for(SCHEDULES["karras"], SCHEDULE, 3)
    denoise = stacked(classifier_free(unet), [name])
    result = sample(denoise, latent, noise, SAMPLERS["euler"], sigmas=sigmas, mask=mask)
    torch.testing.assert_close(result[..., :5], latent[..., :5], rtol=0, atol=1e-5)
    assert not torch.allclose(result, sample(classifier_free(unet), latent, noise, SAMPLERS["euler"], sigmas=sigmas, mask=mask))


@pytest.mark.parametrize("name", NAMES)
def test_cfg_pp_samplers_receive_guided_and_negative(unet, name):
    inner = classifier_free(unet)
    denoise = stacked(inner, [name])
    estimate, _, negative = as_guided(denoise).predict(X, SIGMA)
    assert_near(estimate, denoise(X, SIGMA))
    assert_near(negative, inner.predict_one("negative", X, SIGMA))
