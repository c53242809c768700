"""The coefficients of Adams-Bashforth methods for noise levels at any distances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

_INTERVALS = 16  # of a step, equally long in log sigma; with five quadrature nodes each, exact to far below float32

# Gauss-Legendre quadrature with five nodes: (node, weight) in [-1, 1]
_INNER, _OUTER = (math.sqrt(5 + sign * 2 * math.sqrt(10 / 7)) / 3 for sign in (-1, 1))
_INNER_WEIGHT, _OUTER_WEIGHT = ((322 + sign * 13 * math.sqrt(70)) / 900 for sign in (1, -1))
_QUADRATURE = (
    (0.0, 128 / 225),
    (_INNER, _INNER_WEIGHT),
    (-_INNER, _INNER_WEIGHT),
    (_OUTER, _OUTER_WEIGHT),
    (-_OUTER, _OUTER_WEIGHT),
)

ORDER_RANGE: Final = (1, 4)
"""The lowest and the highest order of a multistep sampler: how many derivatives, the current one included, it uses."""


def adams_bashforth_coefficients(sigmas: Sequence[float], sigma_next: float) -> list[float]:
    """The coefficient of each derivative dx/dsigma in a step from `sigmas[0]` to `sigma_next`, both above 0.

    `sigmas` are the noise levels of the derivatives, newest first. A coefficient is the integral of that derivative's Lagrange
    polynomial over the step. The coefficients sum to sigma_next - sigmas[0].
    """
    start, width = math.log(sigmas[0]), math.log(sigma_next / sigmas[0]) / _INTERVALS
    coefficients = [0.0] * len(sigmas)
    for interval in range(_INTERVALS):
        for node, weight in _QUADRATURE:
            sigma = math.exp(start + width * (interval + (1 + node) / 2))
            for j in range(len(sigmas)):
                coefficients[j] += weight * width / 2 * sigma * _lagrange(sigmas, j, sigma)
    return coefficients


def _lagrange(sigmas: Sequence[float], j: int, sigma: float) -> float:
    """The Lagrange polynomial that is 1 at `sigmas[j]` and 0 at the others, at `sigma`."""
    return math.prod((sigma - other) / (sigmas[j] - other) for k, other in enumerate(sigmas) if k != j)


def require_order(name: str, option: str, order: int) -> None:
    """Raise ValueError unless a multistep method has this order."""
    lowest, highest = ORDER_RANGE
    if not lowest <= order <= highest:
        raise ValueError(
            f"sampler {name}: expected {option} between {lowest} and {highest}, found {order}; {lowest} is Euler's method"
        )
