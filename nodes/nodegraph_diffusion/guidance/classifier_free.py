"""Classifier-free guidance: two prompts and a scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodegraph_diffusion.denoising.protocols import Denoiser, Predictions
from nodegraph_diffusion.guidance.prompts import PromptGuidance, require_finite

if TYPE_CHECKING:
    from torch import Tensor


class ClassifierFreeGuidance(PromptGuidance):
    """Away from the negative prediction, toward the positive one: `negative + cfg * (positive - negative)`.

    Ho & Salimans 2022, Eq. 6, with cfg = 1 + w, over denoised latents. `cfg` 1 is the positive prediction; the negative one is not
    computed then. Two prompts of one UNet are evaluated as one batch of 2B if their lengths allow it.
    """

    def __init__(self, positive: Denoiser, negative: Denoiser, cfg: float) -> None:
        require_finite(cfg=cfg)
        super().__init__(positive, negative)
        self.cfg = cfg

    def predict(self, x: Tensor, sigma: float | Tensor, /, negative: bool = True) -> Predictions:
        """The guided estimate, and the two predictions."""
        if self.cfg == 1 and not negative:
            return Predictions(*[self.predict_one("positive", x, sigma)] * 3)
        positive_prediction, negative_prediction = self.denoisers(x, sigma)
        guided = negative_prediction + self.cfg * (positive_prediction - negative_prediction)
        return Predictions(guided, positive_prediction, negative_prediction)
