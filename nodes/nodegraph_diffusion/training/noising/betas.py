"""The variances of the noise that each training step adds."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Betas = Literal["linear", "scaled_linear", "cosine", "squared_cosine"]

_MOST = 0.999  # the last steps of a cosine would leave no signal at all (Nichol & Dhariwal 2021, sec. 3.2)
_OFFSET = 0.008  # ibid.: the first steps would add hardly any noise


def make_betas(kind: Betas, steps: int = 1000, *, start: float = 0.00085, end: float = 0.012) -> Tensor:
    """The variance of the noise of each step, (steps,) float64, in (0, 1).

    - "linear": from `start` to `end` (Ho et al. 2020, sec. 4: 0.0001 to 0.02);
    - "scaled_linear": linear in the square root (Rombach et al. 2022, the released configuration: 0.00085 to 0.012);
    - "cosine": signal cos^2(t pi / 2) at time t = step / steps (Salimans & Ho 2022, sec. 2);
    - "squared_cosine": the same with an offset of 0.008 (Nichol & Dhariwal 2021, eq. 17); "squaredcos_cap_v2" in diffusers.

    The last two ignore `start` and `end`. Raises ValueError for another kind, fewer than 2 steps, or unless 0 < start <= end < 1.
    """
    if steps < 2:
        raise ValueError(f"make_betas: expected at least 2 steps, found {steps}")
    if kind in ("linear", "scaled_linear"):
        if not 0 < start <= end < 1:
            raise ValueError(f"make_betas: expected 0 < start <= end < 1, found {start} and {end}")
        power = 1.0 if kind == "linear" else 2.0
        return torch.linspace(start ** (1 / power), end ** (1 / power), steps, dtype=torch.float64) ** power
    if kind not in ("cosine", "squared_cosine"):
        raise ValueError(f"make_betas: expected linear, scaled_linear, cosine or squared_cosine, found {kind!r}")
    offset = _OFFSET if kind == "squared_cosine" else 0.0
    time = torch.arange(steps + 1, dtype=torch.float64) / steps
    signal = ((time + offset) / (1 + offset) * math.pi / 2).cos().square()
    return (1 - signal[1:] / signal[:-1]).clamp_max(_MOST)


def signal_shares(betas: Tensor, *, zero_snr: bool = False) -> Tensor:
    """The signal's share of the variance after each step (alphas_cumprod), (steps,), decreasing.

    `zero_snr`: shifted and scaled so that the last step holds no signal and the first is unchanged (Lin et al. 2023, Alg. 1).
    """
    shares = torch.cumprod(1 - betas, dim=0)
    if not zero_snr:
        return shares
    roots = shares.sqrt()
    return ((roots - roots[-1]) * (roots[0] / (roots[0] - roots[-1]))).square()
