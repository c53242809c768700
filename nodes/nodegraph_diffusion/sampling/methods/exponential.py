"""What exponential integrators of the reverse diffusion SDE share; `eta` is the part of the SDE's noise that is put in.

From noise level s to t, with h = log(s / t), the exact solution for an estimate that does not change is
x * t / s * exp(-eta h) + denoised * (1 - exp(-(1 + eta) h)) + t * sqrt(1 - exp(-2 eta h)) * noise (Lu et al. 2022, "DPM-Solver++",
Eq. 18 at eta 1). eta 0 is the probability flow, 1 the reverse SDE.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from nodegraph_diffusion.sampling.protocols import NoiseSource


def hold(x: Tensor, denoised: Tensor, sigma: float, sigma_next: float, eta: float) -> Tensor:
    """A step that holds the estimate constant, without its noise."""
    h = math.log(sigma / sigma_next)
    return x * (sigma_next / sigma * math.exp(-eta * h)) - denoised * math.expm1(-(1 + eta) * h)


def phi_2(h: float) -> float:
    """What an estimate that rises evenly by 1 in a step adds to holding it: the integral of h exp(-h (1 - u)) u, u from 0 to 1."""
    return 1 + math.expm1(-h) / h


class StepNoise:
    """The noise that is put in on the way down from level `sigma`, along stages that share what they draw.

    None is drawn where `eta` or `s_noise`, its scale, is 0.
    """

    def __init__(self, noise: NoiseSource, sigma: float, eta: float, s_noise: float) -> None:
        self._noise, self._sigma, self._eta, self._s_noise = noise, sigma, eta, s_noise
        self._so_far: Tensor | float = 0.0  # over the level

    def down_to(self, sigma: float) -> Tensor | float:
        """What has come in down to `sigma`, of deviation sigma * sqrt(1 - exp(-2 eta h)) from where it began: like x, or 0."""
        if self._eta > 0 and self._s_noise > 0:
            decay = self._eta * math.log(self._sigma / sigma)
            fresh = self._noise(self._sigma, sigma) * (self._s_noise * math.sqrt(-math.expm1(-2 * decay)))
            self._so_far = self._so_far * math.exp(-decay) + fresh
            self._sigma = sigma
        return self._so_far * sigma
