"""The kit's checks accept every guidance of the package and find broken ones."""

from __future__ import annotations

import pytest
import torch

from nodegraph_diffusion.guidance import GUIDANCE, AdjustedGuidance
from nodegraph_diffusion.testing import GUIDANCE_CHECKS, check_guidance


def guidance_midway(denoiser, *, share: float = 0.5):
    """Some of the way from the positive side to the estimate."""
    return AdjustedGuidance(denoiser, lambda x, sigma, seen: torch.lerp(seen.positive, seen.denoised, share))


@pytest.mark.parametrize("check", GUIDANCE_CHECKS, ids=lambda check: check.__name__)
def test_plain_function_passes(check):
    check(guidance_midway)


@pytest.mark.parametrize("check", GUIDANCE_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", GUIDANCE)
def test_every_guidance_passes(name, check):
    check(GUIDANCE[name])


def combining(combine):
    return lambda denoiser: AdjustedGuidance(denoiser, combine)


def remembering(denoiser):
    earlier_means = []

    def combine(x, sigma, seen):
        earlier_means.append(seen.denoised.mean())
        return seen.denoised + 0.1 * sum(earlier_means)

    return AdjustedGuidance(denoiser, combine)


class OtherLatent:
    """Its single predictions are of another latent."""

    def __init__(self, denoiser):
        self.denoiser, self.noise_schedule = denoiser, denoiser.noise_schedule

    def __call__(self, x, sigma):
        return self.predict(x, sigma).denoised

    def predict(self, x, sigma, negative=True):
        return self.denoiser.predict(x, sigma)

    def predict_one(self, condition, x, sigma, attention=None):
        return self.denoiser.predict_one(condition, x * 0.5, sigma, attention)


def without_default(denoiser, scale):
    return denoiser


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (without_default, "scale"),
        (OtherLatent, "the denoiser's own positive prediction from predict_one"),
        (combining(lambda x, sigma, seen: seen.denoised[:, :1]), "shape"),
        (combining(lambda x, sigma, seen: seen.denoised.double()), "torch.float32"),
        (combining(lambda x, sigma, seen: seen.denoised / seen.denoised.sub(seen.positive).norm()), "finite numbers"),
        (combining(lambda x, sigma, seen: seen.denoised + x.mean()), "in a batch as alone"),
        (remembering, "the same estimate from predict|in a batch as alone|a second run"),
        (combining(lambda x, sigma, seen: seen.denoised.mul_(0.9)), "unchanged"),
    ],
)
def test_broken_guidance_is_found(broken, message):
    with pytest.raises(AssertionError, match=message):
        check_guidance(broken)


def test_memory_across_runs_is_found():
    def counting(denoiser):
        calls = []

        def combine(x, sigma, seen):
            calls.append(sigma)
            return seen.denoised + 0.01 * len(calls)

        return AdjustedGuidance(denoiser, combine)

    with pytest.raises(AssertionError, match="memory must belong to one run"):
        check_guidance(counting)
