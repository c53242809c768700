"""The base of guidance that combines the predictions under several prompts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nodegraph_diffusion.denoising.protocols import Condition, Denoiser, GuidedDenoiser

if TYPE_CHECKING:
    from torch import Tensor

    from nodegraph_diffusion.networks.attention import AttentionHook


class PromptGuidance(GuidedDenoiser):
    """A guided denoiser over `denoisers`, which share batches if possible; subclasses combine what they predict in `predict`.

    `negative_index` is the index of the negative condition; the first one is the positive condition. Raises ValueError if the
    denoisers' noise schedules differ.
    """

    def __init__(self, *denoisers: Denoiser, negative_index: int = 1) -> None:
        from nodegraph_diffusion.denoising.batching import BatchedDenoisers

        self.denoisers = BatchedDenoisers(*denoisers)
        self.noise_schedule = self.denoisers.noise_schedule
        self._indices: dict[Condition, int] = {"positive": 0, "negative": negative_index}

    def predict_one(
        self, condition: Condition, x: Tensor, sigma: float | Tensor, /, attention: AttentionHook | None = None
    ) -> Tensor:
        """The estimate under one condition. Raises ValueError for an `attention` if that condition's denoiser is not a UNet's."""
        return self.denoisers.predict_one(self._indices[condition], x, sigma, attention)


def require_finite(**scales: float) -> None:
    """Raise ValueError for a scale that is not a finite number."""
    for name, value in scales.items():
        if not math.isfinite(value):
            raise ValueError(f"guidance: expected a finite {name}, found {value}; 1 is no guidance, 3 to 8 are usual")
