"""UniPC: a unified predictor and corrector."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from nodegraph_diffusion.sampling.declared import SamplerSpec
from nodegraph_diffusion.sampling.interface import Denoise, NoiseSource, OnStep

if TYPE_CHECKING:
    from torch import Tensor

PAPER = "Zhao et al. 2023, arXiv:2302.04867"
_SIGMA_END = 0.001  # the level that stands for 0, whose logarithm is needed: ComfyUI's


def sample_uni_pc(denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """UniPC with B(h) = h (Zhao et al. 2023), as ComfyUI runs it.

    Their Alg. 1 and 2, over the estimate of the clean latent.
    A step is foretold from the last estimates (UniP); the estimate where it lands corrects it (UniC) before the next: one call of
    `denoise` a step. Up to third order, but of less in the first steps and the last ones, down to one in the very last, which is
    not corrected. Level 0 is taken for 0.001.
    """
    return _walk(denoise, x, sigmas, on_step, "bh1")


def sample_uni_pc_bh2(denoise: Denoise, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """`uni_pc` with B(h) = exp(h) - 1, which the paper takes for few steps."""
    return _walk(denoise, x, sigmas, on_step, "bh2")


def _walk(denoise: Denoise, x: Tensor, sigmas: Tensor, on_step: OnStep, variant: Literal["bh1", "bh2"]) -> Tensor:
    levels = sigmas.tolist()
    if levels[-1] == 0:
        levels[-1] = min(_SIGMA_END, levels[-2] / 10)
    steps = len(levels) - 1
    most = max(1, min(3, steps - 1))
    known: list[tuple[float, Tensor]] = []  # the levels behind, newest first, and the estimates at them
    before, order = x, 0
    for i, (sigma, sigma_next) in enumerate(pairwise(levels)):
        denoised = denoise(x, sigma)
        if i > 0:
            x = _step(before, known[:order], sigma, variant, denoised)
        known = [(sigma, denoised), *known[:2]]
        before, order = x, min(most, i + 1, steps - i)
        x = _step(before, known[:order], sigma_next, variant)
        on_step(i, x, denoised)
    return x


def _step(
    x: Tensor,
    known: Sequence[tuple[float, Tensor]],
    sigma_next: float,
    variant: Literal["bh1", "bh2"],
    landed: Tensor | None = None,
) -> Tensor:
    """`x`, at the level of the first that is `known`, at `sigma_next`: foretold, or corrected by the estimate that was `landed` on.

    As many are `known` as the order is.
    """
    (sigma, denoised), *others = known
    h = math.log(sigma / sigma_next)
    nodes = [(math.log(sigma / level) / h, estimate) for level, estimate in others]
    if landed is not None:
        nodes.append((1.0, landed))
    scale = -h if variant == "bh1" else math.expm1(-h)
    x = x * (sigma_next / sigma) - denoised * math.expm1(-h)
    for (ratio, estimate), weight in zip(nodes, _weights([ratio for ratio, _ in nodes], -h, scale), strict=True):
        x = x - (estimate - denoised) * (scale * weight / ratio)
    return x


def _weights(ratios: Sequence[float], h: float, scale: float) -> list[float]:
    """What the differences to the estimates at `ratios` of the step count: the solution of R(h) a B(h) = phi(h).

    Zhao et al. 2023, Theorem 3.1; that of a single one is 1/2, as the paper has it.
    """
    import torch

    if len(ratios) < 2:
        return [0.5] * len(ratios)
    phi, right = math.expm1(h) / h - 1, []
    for k in range(1, len(ratios) + 1):
        right.append(phi * math.factorial(k) / scale)
        phi = phi / h - 1 / math.factorial(k + 1)
    powers = torch.tensor([[ratio**k for ratio in ratios] for k in range(len(ratios))], dtype=torch.float64)
    solved: list[float] = torch.linalg.solve(powers, torch.tensor(right, dtype=torch.float64)).tolist()
    return solved


SAMPLERS = {
    "uni_pc": SamplerSpec(sample_uni_pc, order=2, paper=PAPER, discard_penultimate=True, aliases=("UniPC",)),
    "uni_pc_bh2": SamplerSpec(
        sample_uni_pc_bh2, order=2, paper=PAPER, discard_penultimate=True, aliases=("UniPC BH2", "UniPCMultistepScheduler")
    ),
}
