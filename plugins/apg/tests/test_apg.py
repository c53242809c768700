"""apg passes the checks of every guidance and computes what diffusers does; a new run forgets the last one."""

from __future__ import annotations

import functools

import pytest
import torch

import apg
from nodegraph_diffusion.denoising import Predictions
from nodegraph_diffusion.sampling import SAMPLERS
from nodegraph_diffusion.testing import GUIDANCE_CHECKS, TwoSidedDenoiser, even_sigmas, registered

GUIDANCE = registered(apg, "guidance")["apg"]
LEVELS = (9.0, 4.0, 1.0, 0.2)


def latents(sigma, batch=2):
    return sigma * torch.randn(batch, 4, 8, 8, generator=torch.Generator().manual_seed(int(100 * sigma)))


def estimates(guided, levels=LEVELS):
    return [guided(latents(sigma), sigma) for sigma in levels]


@pytest.mark.parametrize("options", [{}, {"eta": 1.0}, {"norm_threshold": 1.0, "momentum": 0.5}], ids=str)
@pytest.mark.parametrize("check", GUIDANCE_CHECKS, ids=lambda check: check.__name__)
def test_guidance_passes_the_checks(check, options):
    check(functools.partial(GUIDANCE, **options))


def test_eta_1_without_limits_changes_nothing():
    plain = estimates(TwoSidedDenoiser())
    for found, expected in zip(
        estimates(GUIDANCE(TwoSidedDenoiser(), eta=1.0, norm_threshold=0.0, momentum=0.0)), plain, strict=True
    ):
        assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(("eta", "threshold", "momentum"), [(0.0, 15.0, -0.5), (0.5, 2.0, -0.75), (1.0, 5.0, 0.3), (0.0, 0.0, 0.0)])
def test_result_equals_diffusers(eta, threshold, momentum):
    reference = pytest.importorskip("diffusers.guiders.adaptive_projected_guidance")
    denoiser, buffer = TwoSidedDenoiser(cfg=6.0), reference.MomentumBuffer(momentum)
    guided = GUIDANCE(denoiser, eta=eta, norm_threshold=threshold, momentum=momentum)
    for sigma in LEVELS:
        seen = denoiser.predict(latents(sigma), sigma)
        expected = reference.normalized_guidance(
            seen.positive, seen.negative, 5.0, buffer, eta=eta, norm_threshold=threshold, use_original_formulation=True
        )  # here diffusers' scale is the paper's w - 1
        assert torch.allclose(guided(latents(sigma), sigma), expected, rtol=1e-4, atol=1e-4)


def test_update_is_orthogonal_to_the_positive_prediction():
    seen = TwoSidedDenoiser().predict(latents(3.0), 3.0)
    added = GUIDANCE(TwoSidedDenoiser(), momentum=0.0)(latents(3.0), 3.0) - seen.positive
    cosine = torch.cosine_similarity(added.flatten(1), seen.positive.flatten(1))
    assert float(cosine.abs().max()) < 1e-4
    assert float(added.flatten(1).norm(dim=1).min()) > 0.1


def test_momentum_has_an_effect_within_one_run():
    guided = GUIDANCE(TwoSidedDenoiser(), momentum=-0.5)
    first = estimates(guided)
    without = estimates(GUIDANCE(TwoSidedDenoiser(), momentum=0.0))
    assert torch.equal(first[0], without[0])
    assert not any(torch.allclose(a, b, atol=1e-4) for a, b in zip(first[1:], without[1:], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(first, estimates(guided), strict=True))


def test_continued_run_keeps_its_momentum():
    whole = estimates(GUIDANCE(TwoSidedDenoiser()))
    guided = GUIDANCE(TwoSidedDenoiser())
    parts = estimates(guided, LEVELS[:2]) + estimates(guided, LEVELS[2:])
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


def test_repeated_level_counts_once():
    """Heun's method calls at the end of a step and again at the start of the next."""
    once = apg.RunningAverage(-0.5)
    twice = apg.RunningAverage(-0.5)
    for sigma in LEVELS:
        expected = once(sigma, latents(sigma))
        twice(sigma, latents(sigma) + 1)
        assert torch.equal(twice(sigma, latents(sigma)), expected)


def test_heun_works_with_it():
    x, sigmas = latents(10.0), even_sigmas(64).float()
    ends = [
        SAMPLERS[name](GUIDANCE(TwoSidedDenoiser(), momentum=0.0), x, sigmas, noise=None, on_step=lambda i, x, denoised: None)
        for name in ("heun", "dpmpp_2m")
    ]
    assert torch.allclose(*ends, atol=0.05)


class FixedPredictions:
    """A denoiser with given predictions."""

    noise_schedule = TwoSidedDenoiser.noise_schedule

    def __init__(self, *seen):
        self.seen = Predictions(*seen)

    def predict(self, x, sigma, negative=True):
        return self.seen


def test_long_difference_is_scaled_to_the_threshold():
    positive, negative = torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 8, 8)
    positive[0, 0, 0, 0], negative[0, 1, 0, 0] = 1.0, -8.0
    denoiser = FixedPredictions(negative + 3 * (positive - negative), positive, negative)
    length = float((positive - negative).norm())
    for threshold in (2.0, 100.0):
        added = GUIDANCE(denoiser, norm_threshold=threshold, momentum=0.0)(positive, 1.0) - positive
        assert float(added.norm()) == pytest.approx(2 * 8 * min(1, threshold / length), rel=1e-5)


@pytest.mark.parametrize("wrong", [{"norm_threshold": -1.0}, {"momentum": 1.0}, {"momentum": -1.0}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=r"guidance guidance_apg: option .* expected a number"):
        GUIDANCE(TwoSidedDenoiser(), **wrong)
