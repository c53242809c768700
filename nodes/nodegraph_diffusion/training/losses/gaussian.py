"""Gaussians with a diagonal covariance: what an autoencoder encodes to, and each step of a diffusion process."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LEAST_LOG_VARIANCE, MOST_LOG_VARIANCE = -30.0, 20.0


@dataclass(frozen=True, kw_only=True)
class DiagonalGaussian:
    """A Gaussian for each element: `mean` and `log_variance`, which broadcast to one shape (B, ...).

    Log-variances outside [-30, 20] are clamped, as in the published autoencoder, so that their exponentials stay finite.
    """

    mean: Tensor
    log_variance: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "log_variance", self.log_variance.clamp(LEAST_LOG_VARIANCE, MOST_LOG_VARIANCE))

    def sample(self, noise: Tensor) -> Tensor:
        """mean + deviation * noise, so that gradients reach both (Kingma & Welling 2013, sec. 2.4). `noise` is standard normal."""
        return self.mean + (0.5 * self.log_variance).exp() * noise

    def kl_from_standard(self) -> Tensor:
        """KL divergence to the standard Gaussian, summed over all but the first axis: (B,), nats (ibid., appendix B)."""
        return _sum(0.5 * (self.mean.square() + self.log_variance.exp() - 1 - self.log_variance))

    def kl(self, other: DiagonalGaussian) -> Tensor:
        """KL divergence of this Gaussian to `other`, summed over all but the first axis: (B,), nats."""
        difference = self.log_variance - other.log_variance
        squares = (self.mean - other.mean).square() * (-other.log_variance).exp()
        return _sum(0.5 * (difference.exp() - 1 - difference + squares))

    def nll(self, value: Tensor) -> Tensor:
        """-log of the density at `value`, (B, ...), summed over all but the first axis: (B,), nats."""
        squares = (value - self.mean).square() * (-self.log_variance).exp()
        return _sum(0.5 * (math.log(2 * math.pi) + self.log_variance + squares))

    def discretised_nll(self, value: Tensor, levels: int = 256) -> Tensor:
        """-log of the probability of the level that `value` lies on, summed over all but the first axis: (B,), nats.

        The levels are spread evenly over [-1, 1]; the first and last also get everything beyond them (Ho et al. 2020, eq. 13).
        """
        half = 1 / (levels - 1)
        scale = (-0.5 * self.log_variance).exp()
        upper, lower = scale * (value + half - self.mean), scale * (value - half - self.mean)
        # The difference of two values close to 1 would lose all digits: take it on the side where both are small.
        far = lower > 0
        between = torch.where(far, _cdf(-lower) - _cdf(-upper), _cdf(upper) - _cdf(lower)).clamp_min(1e-12).log()
        log_probability = torch.where(value <= half - 1, torch.special.log_ndtr(upper), between)
        return _sum(-torch.where(value >= 1 - half, torch.special.log_ndtr(-lower), log_probability))


def _cdf(x: Tensor) -> Tensor:
    probability: Tensor = torch.special.ndtr(x)
    return probability


def _sum(values: Tensor) -> Tensor:
    return values.flatten(1).sum(1)
