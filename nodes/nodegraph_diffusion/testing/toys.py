"""Small denoisers for the checks and measurements of samplers.

`GaussianDenoiser` has a known solution: for data from a normal distribution, the best denoiser and the probability flow have
closed forms.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nodegraph_diffusion.denoising import Condition, GuidedDenoiser, Predictions
from nodegraph_diffusion.networks.attention import AttentionHook
from nodegraph_diffusion.noise_schedule import NoiseSchedule
from nodegraph_diffusion.sampling.protocols import Sampler

SCHEDULE = NoiseSchedule()

LAYER = "middle_block.1.transformer_blocks.0.attn1"
"""The name of the self-attention layer of `TwoSidedDenoiser`: in the middle block of a network."""

SHAPE = (3, 4, 8, 6)
MEAN, DEVIATION = 0.7, 0.5


class GaussianDenoiser:
    """The exact denoiser of data whose elements are drawn independently from N(mean, deviation^2).

    E[clean | x] = mean + (x - mean) * deviation^2 / (deviation^2 + sigma^2). `levels` are the noise levels it was called with. Its
    positive and negative predictions are the same.
    """

    noise_schedule = SCHEDULE

    def __init__(self, mean: float = MEAN, deviation: float = DEVIATION) -> None:
        self.mean, self.deviation = mean, deviation
        self.levels: list[float] = []

    def __call__(self, x: Tensor, sigma: float | Tensor, /) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w), in the dtype of x."""
        self.levels.append(float(sigma))
        return self.mean + (x - self.mean) * (self.deviation**2 / (self.deviation**2 + float(sigma) ** 2))

    def predict(self, x: Tensor, sigma: float | Tensor, /, negative: bool = True) -> Predictions:
        """The estimate, three times."""
        return Predictions(*[self(x, sigma)] * 3)

    def predict_one(
        self, condition: Condition, x: Tensor, sigma: float | Tensor, /, attention: AttentionHook | None = None
    ) -> Tensor:
        """The estimate, the same for both conditions."""
        return self(x, sigma)

    def solution(self, x: Tensor, sigma: float, sigma_end: float) -> Tensor:
        """Where the probability flow takes x from level `sigma` to `sigma_end` (Karras et al. 2022, Eq. 1, solved)."""
        ratio = (self.deviation**2 + sigma_end**2) / (self.deviation**2 + sigma**2)
        return self.mean + (x - self.mean) * math.sqrt(ratio)


class TwistedDenoiser:
    """A nonlinear denoiser that mixes neighbours, to compare two samplers on; its estimates have no meaning."""

    noise_schedule = SCHEDULE

    def __call__(self, x: Tensor, sigma: float | Tensor, /) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        scaled = x / math.sqrt(1 + float(sigma) ** 2)
        denoised = torch.tanh(scaled + 0.3 * scaled.roll(1, -1)) * (1 + 0.2 * math.sin(float(sigma)))
        return denoised + 0.1 * scaled.cos()

    def predict(self, x: Tensor, sigma: float | Tensor, /, negative: bool = True) -> Predictions:
        """The estimate, which is also the positive prediction, and another one as the negative prediction."""
        denoised = self(x, sigma)
        return Predictions(denoised, denoised, 0.8 * denoised + 0.1 * torch.sin(x / math.sqrt(1 + float(sigma) ** 2)))

    def predict_one(
        self, condition: Condition, x: Tensor, sigma: float | Tensor, /, attention: AttentionHook | None = None
    ) -> Tensor:
        """The positive or the negative prediction; it has no attention."""
        return getattr(self.predict(x, sigma), condition)  # type: ignore[no-any-return]


class TwoSidedDenoiser(GuidedDenoiser):
    """A guided denoiser: two predictions without meaning, and negative + cfg * (positive - negative) of them."""

    noise_schedule = SCHEDULE

    def __init__(self, cfg: float = 4.0) -> None:
        self.cfg = cfg
        self.predictions: list[tuple[Tensor, Tensor]] = []

    def predict(self, x: Tensor, sigma: float | Tensor, /, negative: bool = True) -> Predictions:
        """The estimate and both predictions, which are also added to `predictions`, each with a copy."""
        _, positive, negative_prediction = TwistedDenoiser().predict(x, sigma)
        guided = negative_prediction + self.cfg * (positive - negative_prediction)
        predictions = Predictions(guided, positive, negative_prediction)
        self.predictions += [(tensor, tensor.clone()) for tensor in predictions]
        return predictions

    def predict_one(
        self, condition: Condition, x: Tensor, sigma: float | Tensor, /, attention: AttentionHook | None = None
    ) -> Tensor:
        """One prediction. Its self-attention `LAYER`, one head over all cells, has an effect only if `attention` changes it."""
        plain = TwistedDenoiser().predict_one(condition, x, sigma)
        cells = (x / math.sqrt(1 + float(sigma) ** 2)).flatten(2).mT[:, None]  # (B, 1, L, C)
        changed = None if attention is None else attention(LAYER, cells, cells, cells)  # (B, L, C)
        return plain if changed is None else 0.9 * plain + 0.1 * changed.mT.reshape(x.shape)


def even_sigmas(steps: int, largest: float = 10.0, smallest: float = 0.1, end: bool = False) -> Tensor:
    """Noise levels evenly spaced in their logarithm, (steps + 1,) float64; with `end`, the last one is 0."""
    if end:
        return torch.cat([torch.logspace(math.log10(largest), math.log10(smallest), steps, dtype=torch.float64), torch.zeros(1)])
    return torch.logspace(math.log10(largest), math.log10(smallest), steps + 1, dtype=torch.float64)


def start(dtype: torch.dtype = torch.float32) -> Tensor:
    """A latent of unit noise, always the same."""
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).to(dtype)


def run(sampler: Sampler, denoise: GuidedDenoiser, x: Tensor, sigmas: Tensor, **options: Any) -> Tensor:
    """The sampler's result from x, with the same noise in every call."""
    return sampler(denoise, x, sigmas, noise=unit_noise(x), on_step=ignore_step, **options)


def unit_noise(like: Tensor) -> Callable[[float, float], Tensor]:
    """Unit noise from one generator, always the same."""
    generator = torch.Generator().manual_seed(3)
    return lambda sigma_from, sigma_to: torch.randn(like.shape, generator=generator).to(like)


def ignore_step(i: int, x: Tensor, denoised: Tensor) -> None:
    """An `on_step` that does nothing."""


def require(holds: bool, expected: str, found: str) -> None:
    """Raise AssertionError with what was expected and found, unless `holds`."""
    if not holds:
        raise AssertionError(f"expected {expected}, found {found}")
