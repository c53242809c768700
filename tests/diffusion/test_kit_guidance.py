"""The kit passes guidance that is a function of what the two sides see, and none of those that break a promise."""

from __future__ import annotations

import pytest
import torch

from nodegraph_diffusion.guidance import GUIDANCE, AdjustedGuidance
from nodegraph_diffusion.testing import GUIDANCE_CHECKS, check_guidance


def guidance_midway(denoiser, *, share: float = 0.5):
    """Some of the way from the positive side to the estimate."""
    return AdjustedGuidance(denoiser, lambda x, sigma, seen: torch.lerp(seen.positive, seen.denoised, share))


@pytest.mark.parametrize("check", GUIDANCE_CHECKS, ids=lambda check: check.__name__)
def test_guidance_keeps_its_promises(check):
    check(guidance_midway)


@pytest.mark.parametrize("check", GUIDANCE_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", GUIDANCE)
def test_every_guidance_keeps_its_promises(name, check):
    check(GUIDANCE[name])


def combining(combine):
    return lambda denoiser: AdjustedGuidance(denoiser, combine)


def remembering(denoiser):
    seen_before = []

    def combine(x, sigma, seen):
        seen_before.append(seen.denoised.mean())
        return seen.denoised + 0.1 * sum(seen_before)

    return AdjustedGuidance(denoiser, combine)


class OneSided:
    """Asks the sides for another latent than it is given."""

    def __init__(self, denoiser):
        self.denoiser, self.noise_schedule = denoiser, denoiser.noise_schedule

    def __call__(self, x, sigma):
        return self.predict(x, sigma).denoised

    def predict(self, x, sigma, negative=True):
        return self.denoiser.predict(x, sigma)

    def predict_one(self, condition, x, sigma, attention=None):
        return self.denoiser.predict_one(condition, x * 0.5, sigma, attention)


def unoptional(denoiser, scale):
    return denoiser


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (unoptional, "scale"),
        (OneSided, "the positive side alone as the denoiser sees it"),
        (combining(lambda x, sigma, seen: seen.denoised[:, :1]), "shape"),
        (combining(lambda x, sigma, seen: seen.denoised.double()), "torch.float32"),
        (combining(lambda x, sigma, seen: seen.denoised / seen.denoised.sub(seen.positive).norm()), "finite numbers"),
        (combining(lambda x, sigma, seen: seen.denoised + x.mean()), "in a batch as alone"),
        (remembering, "predict to estimate|in a batch as alone|a second run"),
        (combining(lambda x, sigma, seen: seen.denoised.mul_(0.9)), "as it was"),
    ],
)
def test_guidance_that_breaks_a_promise_is_found(broken, said):
    with pytest.raises(AssertionError, match=said):
        check_guidance(broken)


def test_memory_that_outlives_a_run_is_found():
    def counting(denoiser):
        calls = []

        def combine(x, sigma, seen):
            calls.append(sigma)
            return seen.denoised + 0.01 * len(calls)

        return AdjustedGuidance(denoiser, combine)

    with pytest.raises(AssertionError, match="what is remembered belongs to one run"):
        check_guidance(counting)
