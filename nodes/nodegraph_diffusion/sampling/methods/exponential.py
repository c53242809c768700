"""The parts that exponential integrators of the reverse diffusion SDE share; `eta` is the share of the SDE's noise that is added.

From noise level s to t, with h = log(s / t), the exact solution for a constant estimate is
x * t / s * exp(-eta h) + denoised * (1 - exp(-(1 + eta) h)) + t * sqrt(1 - exp(-2 eta h)) * noise (Lu et al. 2022, "DPM-Solver++",
Eq. 18 at eta 1). eta 0 is the probability flow ODE, 1 the reverse SDE.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from nodegraph_diffusion.sampling.protocols import NoiseSource


def exponential_euler_step(x: Tensor, denoised: Tensor, sigma: float, sigma_next: float, *, eta: float) -> Tensor:
    """The exact solution for a constant estimate, without its noise."""
    h = math.log(sigma / sigma_next)
    return x * (sigma_next / sigma * math.exp(-eta * h)) - denoised * math.expm1(-(1 + eta) * h)


def phi_2(h: float) -> float:
    """phi_2(h) = 1 + (exp(-h) - 1) / h: the integral of h exp(-h (1 - u)) u over u from 0 to 1.

    It is the coefficient of the change of the estimate over a step, if the estimate changes linearly.
    """
    return 1 + math.expm1(-h) / h


class SDENoise:
    """The noise of the SDE below the level `sigma`, at levels that are visited in order; later ones contain the earlier draws.

    None is drawn if `eta` or `s_noise`, its scale, is 0.
    """

    def __init__(self, noise: NoiseSource, sigma: float, eta: float, s_noise: float) -> None:
        self._noise, self._sigma, self._eta, self._s_noise = noise, sigma, eta, s_noise
        self._noise_over_sigma: Tensor | float = 0.0

    def at(self, sigma: float) -> Tensor | float:
        """The noise at level sigma, like x, or 0: its deviation is sigma * sqrt(1 - exp(-2 eta h)), with h from the first level."""
        if self._eta > 0 and self._s_noise > 0:
            eta_h = self._eta * math.log(self._sigma / sigma)
            drawn = self._noise(self._sigma, sigma) * (self._s_noise * math.sqrt(-math.expm1(-2 * eta_h)))
            self._noise_over_sigma = self._noise_over_sigma * math.exp(-eta_h) + drawn
            self._sigma = sigma
        return self._noise_over_sigma * sigma
