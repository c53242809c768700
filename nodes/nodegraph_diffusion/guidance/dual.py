"""Guidance in two stages with a scale each: three prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodegraph_diffusion.denoising.protocols import Denoiser, Predictions
from nodegraph_diffusion.guidance.prompts import PromptGuidance, require_finite

if TYPE_CHECKING:
    from torch import Tensor

_POSITIVE, _MIDDLE, _NEGATIVE = range(3)


class DualGuidance(PromptGuidance):
    """From the negative prediction to a middle one by `cfg_middle`, and on to the positive one by `cfg`.

    `negative + cfg_middle * (middle - negative) + cfg * (positive - middle)`: Brooks et al. 2023, "InstructPix2Pix", Eq. 3. There,
    the positive prediction is conditioned on picture and instruction, the middle one on the picture, the negative one on neither.
    `nested`: `negative + cfg_middle * (middle + cfg * (positive - middle) - negative)`, ComfyUI's nested style of DualCFGGuider.
    Up to three evaluations per step, in one batch if they are one UNet's with the same inputs besides the prompts. A prediction
    without weight is not computed.
    """

    def __init__(
        self, positive: Denoiser, middle: Denoiser, negative: Denoiser, cfg: float, cfg_middle: float, nested: bool = False
    ) -> None:
        require_finite(cfg=cfg, cfg_middle=cfg_middle)
        super().__init__(positive, middle, negative, negative_index=_NEGATIVE)
        inner = cfg_middle * cfg if nested else cfg
        self.weights = inner, cfg_middle - inner, 1 - cfg_middle

    def predict(self, x: Tensor, sigma: float | Tensor, /, negative: bool = True) -> Predictions:
        """The guided estimate, and the positive and the negative prediction."""
        needed = True, self.weights[_MIDDLE] != 0, negative or self.weights[_NEGATIVE] != 0
        indices = [index for index in range(3) if needed[index]]
        predictions = dict(zip(indices, self.denoisers(x, sigma, indices), strict=True))
        positive = predictions[_POSITIVE]
        denoised = positive if self.weights[_POSITIVE] == 1 else positive * self.weights[_POSITIVE]
        for index in indices[1:]:
            denoised = denoised + predictions[index] * self.weights[index]
        return Predictions(denoised, positive, predictions.get(_NEGATIVE, positive))
