"""Guidance in two stages, with a scale for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from nodegraph_diffusion.guidance.classifier_free import Denoiser, Predictions, Side
    from nodegraph_diffusion.networks.attention import AttentionHook


class DualGuidance:
    """From a negative side to a middle one by `cfg_middle`, and on to a positive one by `cfg`.

    `negative + cfg_middle * (middle - negative) + cfg * (positive - middle)`: Brooks et al. 2023, "InstructPix2Pix", Eq. 3, where
    the positive side knows picture and instruction, the middle one the picture, the negative one neither. `nested`:
    `negative + cfg_middle * (middle + cfg * (positive - middle) - negative)`, as ComfyUI's DualCFGGuider calls it. Up to three
    evaluations per step, in one batch where the sides are one UNet's that see the same besides their prompts; a side that has no
    weight is not asked.
    """

    def __init__(
        self, positive: Denoiser, middle: Denoiser, negative: Denoiser, cfg: float, cfg_middle: float, nested: bool = False
    ) -> None:
        from nodegraph_diffusion.denoising.batching import Sides
        from nodegraph_diffusion.guidance.classifier_free import require_finite

        require_finite(cfg=cfg, cfg_middle=cfg_middle)
        self.sides = Sides(positive, middle, negative)
        self.schedule = self.sides.schedule
        inner = cfg_middle * cfg if nested else cfg
        self.weights = inner, cfg_middle - inner, 1 - cfg_middle

    def __call__(self, x: Tensor, sigma: float | Tensor, /) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        return self.predict(x, sigma, negative=False).denoised

    def predict(self, x: Tensor, sigma: float | Tensor, /, negative: bool = True) -> Predictions:
        """The estimate, and what the positive and the negative side see."""
        from nodegraph_diffusion.guidance.classifier_free import Predictions

        needed = True, self.weights[1] != 0, negative or self.weights[2] != 0
        asked = [k for k in range(3) if needed[k]]
        seen = dict(zip(asked, self.sides(x, sigma, *asked), strict=True))
        positive = seen[0]
        denoised = positive if self.weights[0] == 1 else positive * self.weights[0]
        for k in asked[1:]:
            denoised = denoised + seen[k] * self.weights[k]
        return Predictions(denoised, positive, seen.get(2, positive))

    def side(self, which: Side, x: Tensor, sigma: float | Tensor, /, attention: AttentionHook | None = None) -> Tensor:
        """What the positive or the negative side sees alone."""
        return self.sides.alone(0 if which == "positive" else 2, x, sigma, attention)
