"""How fast samplers converge: their error on a problem with a known solution, and its order."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from nodegraph_diffusion.sampling import SAMPLERS, SamplerSpec
from nodegraph_diffusion.sampling.protocols import Sampler
from nodegraph_diffusion.testing.toys import GaussianDenoiser, even_sigmas, run, start


@dataclass(frozen=True)
class Measured:
    """The cost of a run with `steps` steps, in calls of the denoiser, and its error."""

    steps: int
    evaluations: int
    error: float


def measured(sampler: Sampler, steps: int, **options: Any) -> Measured:
    """A run with `steps` steps from level 10 to 0.1; its error is the largest difference from the exact solution."""
    denoise = GaussianDenoiser()
    x = start(torch.float64) * 10
    result = run(sampler, denoise, x, even_sigmas(steps), **options)
    return Measured(steps, len(denoise.levels), float((result - denoise.solution(x, 10.0, 0.1)).abs().max()))


def sampling_error(sampler: Sampler, steps: int, **options: Any) -> float:
    """The largest difference from the exact solution after `steps` steps from level 10 to 0.1."""
    return measured(sampler, steps, **options).error


def convergence_order(sampler: Sampler, steps: int = 48, **options: Any) -> float:
    """The empirical order of convergence: log2 of the factor by which twice the steps reduce the error.

    `steps` should be a multiple of 3, for samplers that group their steps by three.
    """
    return math.log2(sampling_error(sampler, steps, **options) / sampling_error(sampler, 2 * steps, **options))


def measurable(samplers: Mapping[str, SamplerSpec] = SAMPLERS) -> dict[str, SamplerSpec]:
    """The samplers whose order can be measured: they draw no noise and take the steps of the schedule."""
    return {
        name: spec
        for name, spec in sorted(samplers.items())
        if not spec.stochastic and (spec.order is not None or spec.evaluations_per_step is not None)
    }


def measured_orders(samplers: Mapping[str, SamplerSpec] = SAMPLERS) -> dict[str, float]:
    """The empirical order of each sampler whose order can be measured, to two decimals."""
    return {name: round(convergence_order(spec), 2) for name, spec in measurable(samplers).items()}
