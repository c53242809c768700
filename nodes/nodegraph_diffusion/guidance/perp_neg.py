"""Perp-Neg: guidance away from the part of a negative prompt that is perpendicular to the positive one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodegraph_diffusion.denoising.protocols import Denoiser, Predictions
from nodegraph_diffusion.guidance.prompts import PromptGuidance, require_finite

if TYPE_CHECKING:
    from torch import Tensor

_POSITIVE, _EMPTY = range(2)


class PerpNeg(PromptGuidance):
    """Toward a positive prompt, away from the part of a negative one perpendicular to it, both relative to an empty prompt.

    Armandpour et al. 2023, "Re-imagine the Negative Prompt Algorithm": with p and n the positive and the negative prediction minus
    the empty one, `empty + cfg * (p - neg_scale * (n - p * <n, p> / <p, p>))`, with the inner products of each picture. So a
    negative prompt cannot remove what both prompts ask for. Three evaluations per step, in one batch if the prompts are one UNet's;
    the negative prediction is not computed at `neg_scale` 0.

    For other guidance and for samplers of the CFG++ kind, its negative condition is the empty prompt.
    """

    def __init__(self, positive: Denoiser, negative: Denoiser, empty: Denoiser, cfg: float, neg_scale: float = 1.0) -> None:
        require_finite(cfg=cfg, neg_scale=neg_scale)
        super().__init__(positive, empty, negative, negative_index=_EMPTY)
        self.cfg, self.neg_scale = cfg, neg_scale

    def predict(self, x: Tensor, sigma: float | Tensor, /, negative: bool = True) -> Predictions:
        """The guided estimate, and the predictions under the positive and the empty prompt."""
        if self.neg_scale == 0:
            if self.cfg == 1 and not negative:
                return Predictions(*[self.predict_one("positive", x, sigma)] * 3)
            positive, empty = self.denoisers(x, sigma, [_POSITIVE, _EMPTY])
            return Predictions(empty + self.cfg * (positive - empty), positive, empty)
        positive, empty, away = self.denoisers(x, sigma)
        toward, away = positive - empty, away - empty
        perpendicular = away - toward * (_inner_product(away, toward) / _inner_product(toward, toward).clamp(min=1e-12))
        return Predictions(empty + self.cfg * (toward - self.neg_scale * perpendicular), positive, empty)


def _inner_product(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of each picture, (B, C, h, w) -> (B, 1, 1, 1)."""
    return (a * b).sum(dim=(1, 2, 3), keepdim=True)
