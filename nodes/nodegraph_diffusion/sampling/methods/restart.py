"""Restart sampling: some of the noise levels are repeated, from fresh noise (Xu et al. 2023)."""

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

_RHO = 7.0  # rho of Karras et al. 2022, Eq. 5, which spaces the levels of a restart


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
    """`heun` with restarts at higher noise levels (Xu et al. 2023, Alg. 1).

    "Restart Sampling for Improving Generative Processes". Each of `intervals` is [sigma_min, sigma_max, steps, times]: at the level
    of `sigmas` nearest to sigma_min, noise is added up to sigma_max, and `steps` steps of Heun's method lead down again. This is
    done `times` times. With 0 steps, there are as many as `sigmas` has in the interval. The default is [[0.1, 2, 0, 1]]; [] is
    `heun`. An interval above or below all of `sigmas` is left out. `s_noise` scales the noise; 1 is the exact amount. Two calls of
    `denoise` a step, one in a step to 0; the steps of restarts are additional. `on_step` is called after the restarts that follow a
    step. Raises ValueError for a malformed interval, and if `s_noise` is negative.
    """
    intervals = [[0.1, 2.0, 0, 1]] if intervals is None else intervals
    _require_intervals(intervals, s_noise)
    levels = sigmas.tolist()
    restarts = _restarts(levels, intervals)
    for i, (sigma, sigma_next) in enumerate(pairwise(levels)):
        x, denoised = heun_step(denoise, x, sigma, sigma_next)
        for restart in restarts.get(i + 1, ()):
            sigma_max = restart[0]
            x = x + noise(sigma_next, sigma_max) * (s_noise * math.sqrt(sigma_max**2 - sigma_next**2))
            for restart_sigma, restart_sigma_next in pairwise(restart):
                x, _ = heun_step(denoise, x, restart_sigma, restart_sigma_next)
        on_step(i, x, denoised)
    return x


def _restarts(levels: list[float], intervals: list[list[float]]) -> dict[int, list[list[float]]]:
    """The noise levels of each restart, by the index of the level at which it starts and ends."""
    restarts: dict[int, list[list[float]]] = {}
    for sigma_min, sigma_max, interval_steps, times in intervals:
        candidates = [k for k, level in enumerate(levels) if k > 0 and level > 0]
        if not candidates or sigma_min > levels[0]:
            continue
        index = min(candidates, key=lambda k: abs(levels[k] - sigma_min))
        low, high = levels[index], min(sigma_max, levels[0])
        if high <= low:
            continue
        steps = int(interval_steps) or max(1, sum(low < level <= high for level in levels))
        first, last = high ** (1 / _RHO), low ** (1 / _RHO)
        between = [(first + (last - first) * step / steps) ** _RHO for step in range(1, steps)]
        restarts.setdefault(index, []).extend([[high, *between, low]] * int(times))
    return restarts


def _require_intervals(intervals: list[list[float]], s_noise: float) -> None:
    if not s_noise >= 0:
        raise ValueError(f"sampler restart: expected s_noise of at least 0, found {s_noise}. Leave it out to use the default")
    for interval in intervals:
        complete = isinstance(interval, list | tuple) and len(interval) == 4
        if not complete or not 0 < interval[0] < interval[1] or not _is_count(interval[2], 0) or not _is_count(interval[3], 1):
            raise ValueError(
                "sampler restart: expected each of intervals to be [sigma_min, sigma_max, steps, times] with "
                f"0 < sigma_min < sigma_max, found {interval!r}; an example is [0.1, 2, 9, 1]"
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
