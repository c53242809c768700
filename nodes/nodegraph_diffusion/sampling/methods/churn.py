"""Churn: noise that is added before a step, so that the step corrects earlier errors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nodegraph_diffusion.sampling.options import AT_LEAST_0
from nodegraph_diffusion.sampling.protocols import NoiseSource

if TYPE_CHECKING:
    from torch import Tensor

CHURN = dict.fromkeys(("s_churn", "s_tmin", "s_tmax", "s_noise"), AT_LEAST_0)
"""The ranges of the options of churn."""


class Churn:
    """Raises the noise level by the factor 1 + gamma before each step (Karras et al. 2022, Alg. 2, lines 4 to 6).

    gamma is min(`s_churn` / steps, sqrt(2) - 1) for levels from `s_tmin` to `s_tmax`, else 0. `s_noise` scales the noise; 1 is the
    exact amount. If gamma is 0, no noise is drawn. Raises ValueError if one of the options is negative.
    """

    def __init__(
        self, name: str, steps: int, noise: NoiseSource, *, s_churn: float, s_tmin: float, s_tmax: float | None, s_noise: float
    ) -> None:
        s_tmax = math.inf if s_tmax is None else s_tmax
        options = {"s_churn": s_churn, "s_tmin": s_tmin, "s_tmax": s_tmax, "s_noise": s_noise}
        negative = {option: value for option, value in options.items() if not value >= 0}
        if negative:
            option, value = negative.popitem()
            raise ValueError(f"sampler {name}: expected {option} of at least 0, found {value}; s_churn 0 adds no noise")
        self.noise, self.s_tmin, self.s_tmax, self.s_noise = noise, s_tmin, s_tmax, s_noise
        self.gamma = min(s_churn / max(steps, 1), math.sqrt(2) - 1)

    def __call__(self, x: Tensor, sigma: float) -> tuple[Tensor, float]:
        """`x` with the noise of the raised level sigma_hat, and sigma_hat."""
        if self.gamma == 0 or not self.s_tmin <= sigma <= self.s_tmax:
            return x, sigma
        sigma_hat = sigma * (1 + self.gamma)
        return x + self.noise(sigma, sigma_hat) * (self.s_noise * math.sqrt(sigma_hat**2 - sigma**2)), sigma_hat
