"""Guidance away from a prompt only in so far as it says something else than the other one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from nodegraph_diffusion.guidance.classifier_free import Denoiser, Predictions, Side
    from nodegraph_diffusion.networks.attention import AttentionHook


class PerpNeg:
    """Toward a positive prompt and away from what a negative one has at right angles to it, both seen from an empty prompt.

    Armandpour et al. 2023, "Re-imagine the Negative Prompt Algorithm": with p and n what the positive and the negative prompt add
    to the empty one, `empty + cfg * (p - neg_scale * (n - p * <n, p> / <p, p>))`, the products over each picture by itself. So a
    negative prompt cannot take away what both ask for. Three evaluations per step, in one batch where the prompts are one
    UNet's; the negative is not asked at `neg_scale` 0.

    Its two sides, for guidance around it and samplers of the CFG++ kind, are the positive and the empty prompt: the one that it
    guides away from.
    """

    def __init__(self, positive: Denoiser, negative: Denoiser, empty: Denoiser, cfg: float, neg_scale: float = 1.0) -> None:
        from nodegraph_diffusion.denoising.batching import Sides
        from nodegraph_diffusion.guidance.classifier_free import require_finite

        require_finite(cfg=cfg, neg_scale=neg_scale)
        self.sides, self.cfg, self.neg_scale = Sides(positive, empty, negative), cfg, neg_scale
        self.schedule = self.sides.schedule

    def __call__(self, x: Tensor, sigma: float | Tensor, /) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        return self.predict(x, sigma, negative=False).denoised

    def predict(self, x: Tensor, sigma: float | Tensor, /, negative: bool = True) -> Predictions:
        """The estimate, and what the positive and the empty prompt see."""
        from nodegraph_diffusion.guidance.classifier_free import Predictions

        if self.neg_scale == 0:
            if self.cfg == 1 and not negative:
                return Predictions(*[self.side("positive", x, sigma)] * 3)
            positive, empty = self.sides(x, sigma, 0, 1)
            return Predictions(empty + self.cfg * (positive - empty), positive, empty)
        positive, empty, away = self.sides(x, sigma)
        toward, away = positive - empty, away - empty
        other = away - toward * (_product(away, toward) / _product(toward, toward).clamp(min=1e-12))
        return Predictions(empty + self.cfg * (toward - self.neg_scale * other), positive, empty)

    def side(self, which: Side, x: Tensor, sigma: float | Tensor, /, attention: AttentionHook | None = None) -> Tensor:
        """What the positive prompt, or the empty one, sees alone."""
        return self.sides.alone(0 if which == "positive" else 1, x, sigma, attention)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of each picture, (B, C, h, w) -> (B, 1, 1, 1)."""
    return (a * b).sum(dim=(1, 2, 3), keepdim=True)
