"""Lists of noise levels: written out by hand, split in two, reversed."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

ALMOST_ZERO = 1e-4  # the first level of `flip_sigmas` instead of 0: ComfyUI's value


def explicit_sigmas(values: Sequence[float]) -> Tensor:
    """The noise levels of a list, (n,) float32 on the CPU: positive, strictly decreasing, the last one may be 0.

    A list that does not end in 0 leaves noise of its last level in the latent, for another sampler to continue from. Raises
    ValueError for fewer than two levels, and for a level that is not a finite number, is negative, or is not below the one before
    it in float32.
    """
    import torch

    require_levels(values)
    return torch.tensor(values, dtype=torch.float64).float()


def require_levels(values: Sequence[float]) -> None:
    """Raise ValueError unless these are valid noise levels (see `explicit_sigmas`)."""
    if len(values) < 2:
        raise ValueError(
            f"sigmas: expected at least two noise levels, one step apart, found {list(values)}; [14.6, 2.0, 0.0] is two steps"
        )
    previous = math.inf
    for i, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int | float) or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError(f"sigmas: expected a finite number as level {i}, found {value!r}; levels are like 14.6 or 0.03")
        sigma = _float32(value)
        if not math.isfinite(sigma) or sigma < 0 or (sigma == 0 and i < len(values) - 1):
            expected = "a positive number, or 0 at the end," if sigma <= 0 else "a number within float32's range"
            raise ValueError(
                f"sigmas: expected {expected} as level {i} of {len(values)}, found {value!r}; correct that level or leave it out"
            )
        if sigma >= previous:
            raise ValueError(
                f"sigmas: expected each level below the one before it, found level {i}, {value!r}, after {values[i - 1]!r}; "
                "sort them from the most noise to the least, and leave out repeated levels"
            )
        previous = sigma


def _float32(value: float) -> float:
    try:
        return float(struct.unpack("f", struct.pack("f", float(value)))[0])
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def split_sigmas(sigmas: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """The levels of the first `step` steps, and those of the remaining steps: (step + 1,) and (n - step,) of (n,).

    The level where they meet is in both: a sampler on the first part stops there, one on the second part continues from there. A
    part without a step is one level. Raises ValueError for a `step` that `sigmas` does not have.
    """
    steps = len(sigmas) - 1
    if not 0 <= step <= steps:
        raise ValueError(
            f"split of sigmas: expected a step between 0 and {steps}, the number of steps, found {step}; count steps from 0"
        )
    return sigmas[: step + 1].clone(), sigmas[step:].clone()


def flip_sigmas(sigmas: Tensor) -> Tensor:
    """The levels in reverse order, (n,): along them, a deterministic sampler adds the noise that it would otherwise remove.

    A path cannot start from level 0, where the noise has no direction. It starts from 0.0001, as in ComfyUI. Raises ValueError
    if the next level is not above that.
    """
    flipped = sigmas.flip(0)
    if len(flipped) and flipped[0] == 0:
        flipped[0] = ALMOST_ZERO
        if len(flipped) > 1 and flipped[1] <= flipped[0]:
            raise ValueError(
                f"flip of sigmas: expected a smallest level above {ALMOST_ZERO}, which replaces 0, "
                f"found {float(flipped[1]):g}; leave that level out"
            )
    return flipped


def require_steps(steps: int) -> None:
    """Raise ValueError unless there is at least one step."""
    if steps < 1:
        raise ValueError(f"schedule: expected at least 1 step, found {steps}; 20 to 30 are usual")


def append_zero(sigmas: Tensor) -> Tensor:
    """`sigmas`, (n,) of any dtype, as float32 with 0 appended.

    Levels that are not above 0, or not below all levels before them, are dropped. Levels that are equal in float32 therefore count
    once. Raises ValueError for levels that are not finite in float32, which only unusual options cause.
    """
    import torch

    levels = sigmas.float()
    if not bool(levels.isfinite().all()):
        raise ValueError(f"schedule: expected options that give finite noise levels, found {levels.tolist()}; use the defaults")
    usable = levels > 0
    usable[1:] &= levels[1:] < levels.cummin(0).values[:-1]
    return torch.cat([levels[usable], torch.zeros(1)])
