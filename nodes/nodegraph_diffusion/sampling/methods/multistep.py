"""The weights of a multistep method: what the slopes of past steps count in the next one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

_PIECES = 16  # of an interval, in the logarithm of the noise level; with five points each, exact to far below float32

_INNER, _OUTER = (math.sqrt(5 + sign * 2 * math.sqrt(10 / 7)) / 3 for sign in (-1, 1))
_INNER_WEIGHT, _OUTER_WEIGHT = ((322 + sign * 13 * math.sqrt(70)) / 900 for sign in (1, -1))
_GAUSS = (
    (0.0, 128 / 225),
    (_INNER, _INNER_WEIGHT),
    (-_INNER, _INNER_WEIGHT),
    (_OUTER, _OUTER_WEIGHT),
    (-_OUTER, _OUTER_WEIGHT),
)


def adams_weights(levels: Sequence[float], sigma_next: float, time: Callable[[float], float] = lambda sigma: sigma) -> list[float]:
    """What each slope dx/dsigma counts in a step of the Adams-Bashforth kind from `levels[0]` to `sigma_next`, both above 0.

    `levels` are the noise levels of the slopes, newest first. The slope is taken to be the polynomial in `time(sigma)` through
    them; its integral over sigma is the step. The weights sum to the length of the step, sigma_next - levels[0].
    """
    times = [time(sigma) for sigma in levels]
    start, width = math.log(levels[0]), math.log(sigma_next / levels[0]) / _PIECES
    weights = [0.0] * len(levels)
    for piece in range(_PIECES):
        for point, share in _GAUSS:
            sigma = math.exp(start + width * (piece + (1 + point) / 2))
            now = time(sigma)
            for j in range(len(times)):
                weights[j] += share * width / 2 * sigma * _basis(times, j, now)
    return weights


def _basis(times: Sequence[float], j: int, now: float) -> float:
    """Lagrange's polynomial that is 1 at `times[j]` and 0 at the others."""
    return math.prod((now - other) / (times[j] - other) for k, other in enumerate(times) if k != j)


ORDERS = (1, 4)
"""The orders that a multistep sampler may have: how many past steps it looks at, this one among them."""


def require_order(name: str, option: str, order: int, most: int = ORDERS[1]) -> None:
    """Raise ValueError unless the order of a multistep method is one that it has."""
    if not 1 <= order <= most:
        raise ValueError(f"sampler {name}: expected {option} between 1 and {most}, found {order}; 1 is Euler's method")
