"""UniPC: a unified predictor and corrector."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from nodegraph_diffusion.denoising import Denoiser
from nodegraph_diffusion.sampling.protocols import NoiseSource, OnStep
from nodegraph_diffusion.sampling.spec import SamplerSpec

if TYPE_CHECKING:
    from torch import Tensor

PAPER = "Zhao et al. 2023, arXiv:2302.04867"
_SIGMA_END = 0.001  # the level that stands for 0, whose logarithm is needed: ComfyUI's


class _Level(NamedTuple):
    """A noise level, and how the steps see it: half the log of its signal-to-noise ratio, and the signal's and the noise's part.

    `scale` is what the latents of this package are larger by than those of the variance-preserving process, sqrt(1 + sigma^2).
    """

    sigma: float
    scale: float
    half_snr: float
    signal: float
    noise: float


def sample_uni_pc(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """UniPC with B(h) = h (Zhao et al. 2023), as ComfyUI runs it.

    Their Alg. 1 and 2, over the estimate of the clean latent.
    A step is foretold from the last estimates (UniP); the estimate where it lands corrects it (UniC) before the next: one call of
    `denoise` a step. Up to third order, but of less in the first steps and the last ones, down to one in the very last, which is
    not corrected. Level 0 is taken for 0.001.
    """
    return _walk(denoise, x, sigmas, on_step, "bh1")


def sample_uni_pc_bh2(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """`uni_pc` with B(h) = exp(h) - 1, which the paper takes for few steps."""
    return _walk(denoise, x, sigmas, on_step, "bh2")


def _walk(denoise: Denoiser, x: Tensor, sigmas: Tensor, on_step: OnStep, variant: Literal["bh1", "bh2"]) -> Tensor:
    """Over z = signal * latent + noise's part, as the paper is written, and as ComfyUI rounds where a level is in the thousands."""
    levels = _levels(sigmas)
    steps = len(levels) - 1
    most = max(1, min(3, steps - 1))
    known: list[tuple[_Level, Tensor]] = []  # the levels behind, newest first, and the estimates at them
    z = x / levels[0].scale
    before, order = z, 0
    for i in range(steps):
        denoised = _estimate(denoise, z, levels[i])
        if i > 0:
            z = _step(before, known[:order], levels[i], variant, denoised)
        known = [(levels[i], denoised), *known[:2]]
        before, order = z, min(most, i + 1, steps - i)
        z = _step(before, known[:order], levels[i + 1], variant)
        x = z / levels[i + 1].signal
        on_step(i, x, denoised)
    return x


def _estimate(denoise: Denoiser, z: Tensor, at: _Level) -> Tensor:
    """The clean latent, by way of the noise that is predicted."""
    x = z * at.scale
    predicted_noise = (x - denoise(x, at.sigma)) / at.sigma
    return (z - predicted_noise * at.noise) / at.signal


def _levels(sigmas: Tensor) -> list[_Level]:
    """The levels of a variance-preserving process, as precise as `sigmas`, (n,), 0 being one near it.

    In float32, as ComfyUI computes them, 1 less the signal's part is rounded, by hundredths of what is left of the noise at last.
    Where levels are so low or so close that nothing of them is left by that, they are not rounded.
    """
    if sigmas[-1] == 0:
        sigmas = sigmas.clone()
        sigmas[-1] = min(_SIGMA_END, float(sigmas[-2]) / 10)
    scale = (sigmas**2 + 1).sqrt()
    log_signal = 0.5 * (1 / (sigmas**2 + 1)).log()
    signal, variance = log_signal.exp(), 1 - (2 * log_signal).exp()
    noise, half_snr = variance.sqrt(), log_signal - 0.5 * variance.log()
    if not (half_snr.isfinite().all() and (half_snr.diff() > 0).all()):
        signal, noise, half_snr = 1 / scale, sigmas / scale, -sigmas.log()
    parts = (part.tolist() for part in (sigmas, scale, half_snr, signal, noise))
    return [_Level(*level) for level in zip(*parts, strict=True)]


def _step(
    z: Tensor,
    known: Sequence[tuple[_Level, Tensor]],
    to: _Level,
    variant: Literal["bh1", "bh2"],
    landed: Tensor | None = None,
) -> Tensor:
    """`z`, at the level of the first that is `known`, at the next: foretold, or corrected by the estimate that was `landed` on.

    As many are `known` as the order is.
    """
    (start, denoised), *others = known
    h = to.half_snr - start.half_snr
    nodes = [((level.half_snr - start.half_snr) / h, estimate) for level, estimate in others]
    if landed is not None:
        nodes.append((1.0, landed))
    scale = -h if variant == "bh1" else math.expm1(-h)
    z = z * (to.noise / start.noise) - denoised * (to.signal * math.expm1(-h))
    for (ratio, estimate), weight in zip(nodes, _weights([ratio for ratio, _ in nodes], -h, scale), strict=True):
        z = z - (estimate - denoised) * (to.signal * scale * weight / ratio)
    return z


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
