"""Several prompts at once, each with its weight: composable diffusion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nodegraph_diffusion.denoising.protocols import Condition, Denoiser, Predictions
from nodegraph_diffusion.guidance.prompts import PromptGuidance, require_finite

if TYPE_CHECKING:
    from torch import Tensor

    from nodegraph_diffusion.networks.attention import AttentionHook


class ComposedGuidance(PromptGuidance):
    """Classifier-free guidance towards several prompts: `negative + cfg * sum(weight * (prediction - negative))`.

    Liu et al. 2022, "Compositional Visual Generation with Composable Diffusion Models", Eq. 11, over denoised latents. The positive
    prediction is the sum without `cfg`. Raises ValueError for scales that are not finite.
    """

    def __init__(self, positives: Sequence[Denoiser], negative: Denoiser, *, weights: Sequence[float], cfg: float) -> None:
        require_finite(cfg=cfg, **{f"weight {number}": weight for number, weight in enumerate(weights, start=1)})
        super().__init__(*positives, negative, negative_index=len(positives))
        self.weights, self.cfg = tuple(weights), cfg

    def predict(self, x: Tensor, sigma: float | Tensor, /, negative: bool = True) -> Predictions:
        """The guided estimate, the sum of the weighted prompts, and the negative prediction."""
        *estimates, negative_estimate = self.denoisers(x, sigma)
        added = self._added(estimates, negative_estimate)
        return Predictions(negative_estimate + self.cfg * added, negative_estimate + added, negative_estimate)

    def predict_one(
        self, condition: Condition, x: Tensor, sigma: float | Tensor, /, attention: AttentionHook | None = None
    ) -> Tensor:
        """The estimate under one condition; the positive one is that of all prompts together."""
        last = len(self.weights)
        if condition == "negative":
            return self.denoisers.predict_one(last, x, sigma, attention)
        if attention is None:
            return self.predict(x, sigma).positive
        *estimates, negative_estimate = [self.denoisers.predict_one(index, x, sigma, attention) for index in range(last + 1)]
        return negative_estimate + self._added(estimates, negative_estimate)

    def _added(self, estimates: Sequence[Tensor], negative_estimate: Tensor) -> Tensor:
        """What the prompts add to the negative estimate."""
        parts = [weight * (estimate - negative_estimate) for weight, estimate in zip(self.weights, estimates, strict=True)]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total
