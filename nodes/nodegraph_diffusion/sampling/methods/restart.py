"""Restart sampling: a part of the way is walked again, from fresh noise."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from nodegraph_diffusion.denoising import Denoiser
from nodegraph_diffusion.sampling.methods.heun import heun_step
from nodegraph_diffusion.sampling.options import AT_LEAST_0
from nodegraph_diffusion.sampling.protocols import NoiseSource, OnStep
from nodegraph_diffusion.sampling.spec import SamplerSpec

if TYPE_CHECKING:
    from torch import Tensor

_RHO = 7.0  # of the levels of a restart, spaced as those of Karras et al. 2022, Eq. 5


def sample_restart(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: OnStep,
    intervals: list[list[float]] | None = None,
    s_noise: float = 1.0,
) -> Tensor:
    """`heun`, which goes back up at times (Xu et al. 2023, Alg. 1).

    "Restart Sampling for Improving Generative Processes".
    Each of `intervals` is [sigma_min, sigma_max, steps, times]: at the level of `sigmas` that is nearest to sigma_min, noise leads
    back up to sigma_max, and `steps` of Heun's steps down again, `times` times; 0 steps are as many as `sigmas` takes for
    it. The default is [[0.1, 2, 0, 1]]; [] is `heun`. An interval above all of `sigmas`, or below, is left out. `s_noise` scales
    the noise, 1 being the right amount. Two calls of `denoise` a step, one in a step to 0, and those of the restarts; a step is
    told of after the restarts that follow it. Raises ValueError for what is no interval, and where `s_noise` is negative.
    """
    restarts = [[0.1, 2.0, 0, 1]] if intervals is None else intervals
    _require_intervals(restarts, s_noise)
    levels = sigmas.tolist()
    back = _restarts_at(levels, restarts)
    for i, (sigma, sigma_next) in enumerate(pairwise(levels)):
        x, denoised = heun_step(denoise, x, sigma, sigma_next)
        for path in back.get(i + 1, ()):
            x = x + noise(sigma_next, path[0]) * (s_noise * math.sqrt(path[0] ** 2 - sigma_next**2))
            for high, low in pairwise(path):
                x, _ = heun_step(denoise, x, high, low)
        on_step(i, x, denoised)
    return x


def _restarts_at(levels: list[float], intervals: list[list[float]]) -> dict[int, list[list[float]]]:
    """The levels that each restart visits, by the index of the level where it begins and ends."""
    back: dict[int, list[list[float]]] = {}
    for sigma_min, sigma_max, asked, times in intervals:
        reached = [k for k, level in enumerate(levels) if k > 0 and level > 0]
        if not reached or sigma_min > levels[0]:
            continue
        index = min(reached, key=lambda k: abs(levels[k] - sigma_min))
        low, high = levels[index], min(sigma_max, levels[0])
        if high <= low:
            continue
        steps = int(asked) or max(1, sum(low < level <= high for level in levels))
        ends = high ** (1 / _RHO), low ** (1 / _RHO)
        between = [(ends[0] + (ends[1] - ends[0]) * step / steps) ** _RHO for step in range(1, steps)]
        back.setdefault(index, []).extend([[high, *between, low]] * int(times))
    return back


def _require_intervals(intervals: list[list[float]], s_noise: float) -> None:
    if not s_noise >= 0:
        raise ValueError(f"sampler restart: expected s_noise of at least 0, found {s_noise}; 1 is the default")
    for interval in intervals:
        whole = isinstance(interval, list | tuple) and len(interval) == 4
        if not whole or not 0 < interval[0] < interval[1] or not _is_count(interval[2], 0) or not _is_count(interval[3], 1):
            raise ValueError(
                "sampler restart: expected each of intervals to be [sigma_min, sigma_max, steps, times] with "
                f"0 < sigma_min < sigma_max, found {interval!r}; [0.1, 2, 9, 1] is one"
            )


def _is_count(value: float, least: int) -> bool:
    return value >= least and value == int(value)


SAMPLERS = {
    "restart": SamplerSpec(
        sample_restart,
        stochastic=True,
        evaluations_per_step=None,
        paper="Xu et al. 2023, arXiv:2306.14878",
        ranges={"s_noise": AT_LEAST_0},
        aliases=("Restart",),
    ),
}
