"""Guidance that keeps the range of values of a weaker guidance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodegraph_diffusion.denoising.protocols import GuidedDenoiser, Predictions
from nodegraph_diffusion.guidance.adjusted import AdjustedGuidance

if TYPE_CHECKING:
    from torch import Tensor


def guidance_dynamic_threshold(
    denoiser: GuidedDenoiser, /, *, percentile: float = 0.995, mimic: float = 1.0, limit: float | None = None
) -> GuidedDenoiser:
    """Scales the estimate to the range of a smaller guidance scale.

    So a large guidance scale does not burn the picture.
    Values are clipped to their `percentile`, in absolute value, and divided so that it becomes the largest allowed value
    (Saharia et al. 2022, sec. 2.3); an estimate within the range is not changed. With a `limit`, that is the largest allowed value
    of the whole picture: the paper's form, where pixels have 1. Latents have no such limit. Without one, each channel of each
    picture is scaled around its mean, to the range that it has at guidance scale `mimic`: the form known as "Dynamic
    Thresholding (CFG Scale Fix)". 1 is the range without guidance.
    """

    def threshold(x: Tensor, sigma: float, predictions: Predictions) -> Tensor:
        denoised, positive, negative = predictions
        if limit is not None:
            return clipped_and_scaled(denoised.flatten(1), limit, percentile).view_as(denoised)
        reference = positive if mimic == 1 else negative + mimic * (positive - negative)
        mean = denoised.mean(dim=(2, 3), keepdim=True)
        allowed = (reference - reference.mean(dim=(2, 3), keepdim=True)).abs().amax(dim=(2, 3))[..., None]  # (B, C, 1)
        return mean + clipped_and_scaled((denoised - mean).flatten(2), allowed, percentile).view_as(denoised)

    return AdjustedGuidance(denoiser, threshold, negative=limit is None and mimic != 1)


def clipped_and_scaled(values: Tensor, allowed: float | Tensor, percentile: float) -> Tensor:
    """(..., n) -> (..., n) within [-allowed, allowed]; `allowed` is positive, a number or (..., 1)."""
    import torch

    bound = torch.quantile(values.abs(), percentile, dim=-1, keepdim=True)
    bound = torch.maximum(bound, torch.as_tensor(allowed).to(bound)).clamp(min=1e-12)
    return torch.maximum(torch.minimum(values, bound), -bound) * (allowed / bound)
