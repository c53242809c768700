"""Gradient guidance moves samples toward a likelihood: compared with the exact posterior of Gaussian data."""

from __future__ import annotations

import copy

import pytest
import torch

from nodegraph_diffusion.denoising.unguided import as_guided
from nodegraph_diffusion.guidance import GradientGuidance
from nodegraph_diffusion.sampling import SAMPLERS, sample, sigmas_for
from nodegraph_diffusion.schedules import SCHEDULES
from tests.support.guidance import (
    SIGMA,
    X,
    assert_near,
    classifier_free,
    shared_unet,
    toy,
)
from tests.support.toy_denoisers import SCHEDULE, GaussianDenoiser


@pytest.fixture(scope="module")
def unet():
    return shared_unet()


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
def test_gaussian_likelihood_gradient_gives_the_posterior(through, deviation, sigma):
    prior = GaussianDenoiser(deviation=deviation)
    likelihood = Likelihood(prior, torch.randn(X.shape, generator=torch.Generator().manual_seed(5)), 0.3)
    score = likelihood.given_noisy if through == "noisy" else likelihood.given_estimate
    with torch.no_grad():
        ours = GradientGuidance(as_guided(prior), score, through=through)(X, torch.tensor(sigma))
    torch.testing.assert_close(ours, likelihood.posterior(X, sigma), rtol=1e-4, atol=1e-4)
    assert not ours.requires_grad


def test_sampling_with_a_gradient_reaches_the_posterior():
    prior = GaussianDenoiser(deviation=0.5)
    likelihood = Likelihood(prior, 2.0, 0.25)
    guide = GradientGuidance(as_guided(prior), likelihood.given_estimate)
    noise = torch.randn(64, 4, 8, 8, generator=torch.Generator().manual_seed(6))
    precision = 1 / 0.5**2 + 1 / 0.25**2
    mean = (0.7 / 0.5**2 + 2.0 / 0.25**2) / precision
    sigmas = sigmas_for(SCHEDULES["karras"], SCHEDULE, 60)
    samples = sample(guide, torch.full_like(noise, mean), noise, SAMPLERS["heun"], sigmas=sigmas)
    assert samples.mean().item() == pytest.approx(mean, abs=0.01)
    assert samples.std().item() == pytest.approx(precision**-0.5, rel=0.03)


def test_gradient_is_computed_per_picture(unet):
    inner = classifier_free(unet)

    def brightness(latent, sigma):
        return -(latent[:, 0] - 1).square().mean(dim=(1, 2))

    with torch.no_grad():
        for through in ("network", "estimate", "noisy"):
            guide = GradientGuidance(inner, brightness, scale=20.0, through=through)
            both, singles = guide.predict(X, 1.0), [guide.predict(X[k : k + 1], 1.0) for k in range(2)]
            for together, *apart in zip(both, *singles, strict=True):
                assert_near(together, torch.cat(apart))
            assert not any(seen.requires_grad for seen in both)
            assert brightness(both.denoised, 1.0).sum() > brightness(inner(X, 1.0), 1.0).sum()


def test_gradient_equals_finite_differences(unet):
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
def test_unusable_score_is_refused(score, message, through):
    with pytest.raises(ValueError, match=message):
        GradientGuidance(toy(), score, through=through)(X, SIGMA)
