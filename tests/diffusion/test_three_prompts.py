"""Denoisers with three prompts follow their papers and call the network no more than needed."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from nodegraph_diffusion.denoising.unet_denoiser import ConditionedUNet
from nodegraph_diffusion.guidance import GUIDANCE, ClassifierFreeGuidance, DualGuidance, PerpNeg
from nodegraph_diffusion.networks.attention import attend
from tests.support import small_networks as small
from tests.support.guidance import (
    CONFIG,
    EMPTY,
    NEGATIVE,
    POSITIVE,
    SIGMA,
    Asked,
    Calls,
    X,
    assert_near,
    prompted,
    shared_unet,
)
from tests.support.toy_denoisers import SCHEDULE, GaussianDenoiser, TwistedDenoiser


@pytest.fixture(scope="module")
def unet():
    return shared_unet()


def test_perp_neg_equals_the_paper():
    positive, negative, empty = TwistedDenoiser(), GaussianDenoiser(mean=1.0), GaussianDenoiser(mean=0.0, deviation=1.0)
    ours = PerpNeg(positive, negative, empty, 5.0, neg_scale=0.8)(X, SIGMA)
    for k in range(2):  # an independent implementation, one picture at a time
        p, n, e = (denoiser(X[k : k + 1], SIGMA).flatten() for denoiser in (positive, negative, empty))
        toward, away = p - e, n - e
        perpendicular = away - (away @ toward) / (toward @ toward) * toward
        torch.testing.assert_close(ours[k].flatten(), e + 5.0 * (toward - 0.8 * perpendicular), rtol=1e-4, atol=1e-4)


def test_perp_neg_keeps_what_both_prompts_share():
    positive, empty = TwistedDenoiser(), GaussianDenoiser(mean=0.0)
    ours, expected = PerpNeg(positive, positive, empty, 5.0), ClassifierFreeGuidance(positive, empty, 5.0)
    torch.testing.assert_close(ours(X, SIGMA), expected(X, SIGMA), rtol=1e-4, atol=1e-4)


def test_perp_neg_with_equal_prompts_is_plain():
    same = TwistedDenoiser()
    torch.testing.assert_close(PerpNeg(same, same, same, 5.0)(X, SIGMA), same(X, SIGMA))


@pytest.mark.parametrize(("cfg", "neg_scale", "rows"), [(5.0, 1.0, 6), (5.0, 0.0, 4), (1.0, 1.0, 6), (1.0, 0.0, 2)])
def test_perp_neg_batches_its_prompts(unet, cfg, neg_scale, rows):
    denoise = PerpNeg(prompted(unet, POSITIVE), prompted(unet, NEGATIVE), prompted(unet, EMPTY), cfg, neg_scale=neg_scale)
    with Calls(unet) as calls:
        together = denoise(X, SIGMA)
    assert calls.rows == [rows]
    apart = PerpNeg(*(Asked(prompted(unet, one)) for one in (POSITIVE, NEGATIVE, EMPTY)), cfg, neg_scale)
    assert_near(together, apart(X, SIGMA))


def test_sides_of_perp_neg_are_positive_and_empty(unet):
    denoise = PerpNeg(prompted(unet, POSITIVE), prompted(unet, NEGATIVE), prompted(unet, EMPTY), 5.0)
    seen = denoise.predict(X, SIGMA)
    for side, one, predicted in (("positive", POSITIVE, seen.positive), ("negative", EMPTY, seen.negative)):
        assert_near(predicted, prompted(unet, one)(X, SIGMA))
        assert_near(denoise.predict_one(side, X, SIGMA), predicted)


@pytest.mark.parametrize("nested", [False, True])
def test_dual_guidance_equals_the_paper(nested):
    positive, middle, negative = TwistedDenoiser(), GaussianDenoiser(mean=1.0), GaussianDenoiser(mean=-1.0)
    ours = DualGuidance(positive, middle, negative, 7.5, cfg_middle=1.5, nested=nested)(X, SIGMA)
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
def test_dual_guidance_computes_only_needed_sides(cfg, cfg_middle, nested, asked):
    sides = [Asked(TwistedDenoiser()), Asked(GaussianDenoiser(mean=1.0)), Asked(GaussianDenoiser(mean=-1.0))]
    denoise = DualGuidance(*sides, cfg, cfg_middle, nested)
    ours = denoise(X, SIGMA)
    assert tuple(side.times for side in sides) == asked
    p, m, n = (side(X, SIGMA) for side in sides)
    expected = n + cfg_middle * (m + cfg * (p - m) - n) if nested else n + cfg_middle * (m - n) + cfg * (p - m)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(denoise.predict(X, SIGMA).negative, n)


def test_dual_guidance_works_with_a_picture_input():
    """InstructPix2Pix: the negative side sees no picture, so it shares no batch with the others."""
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
def test_non_numeric_scale_is_refused(kind):
    sides = [TwistedDenoiser()] * 3
    for scales in ((math.nan, 1.0), (1.0, math.inf)):
        with pytest.raises(ValueError, match=r"expected a finite (cfg|neg_scale|cfg_middle), found (nan|inf)"):
            kind(*sides, *scales)


# --- the network


def test_identity_attention_hook_changes_nothing(unet):
    network = ConditionedUNet(unet, SCHEDULE, [(POSITIVE,), (NEGATIVE,)])
    places = []

    def same(layer, q, k, v):
        places.append(layer)
        return attend(q, k, v) if layer.startswith("middle") else None

    for plain, hooked in zip(network(X, SIGMA), network(X, SIGMA, attention=same), strict=True):
        assert torch.equal(plain, hooked)
    assert len(places) == len(set(places)) == 1 + 1 + 2


def test_subset_of_sides_equals_the_full_result(unet):
    network = ConditionedUNet(unet, SCHEDULE, [(POSITIVE,), (NEGATIVE,), (EMPTY,)])
    whole = network(X, SIGMA)
    for only in ([0], [2, 0], [1, 2]):
        for ours, k in zip(network(X, SIGMA, only), only, strict=True):
            assert_near(ours, whole[k])
