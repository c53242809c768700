"""Guidance that keeps the range of values of what is guided less."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from nodegraph_diffusion.guidance.classifier_free import GuidedDenoiser, Predictions


def guidance_dynamic_threshold(
    denoiser: GuidedDenoiser, /, *, percentile: float = 0.995, mimic: float = 1.0, limit: float | None = None
) -> GuidedDenoiser:
    """Presses the estimate into the range that a smaller scale gives.

    So a large guidance scale does not burn the picture.
    Values are clipped to their `percentile`, in absolute value, and divided so that it becomes the largest allowed
    (Saharia et al. 2022, sec. 2.3); what lies within is left as it is. With a `limit` that is the largest allowed, of all of a
    picture's values: the paper's form, where pixels have 1. Latents have no such limit. Without one, each channel of each
    picture is pressed around its mean, and may be as large as it is at guidance scale `mimic`: the form known as "Dynamic
    Thresholding (CFG Scale Fix)". 1 is the range without guidance.
    """
    from nodegraph_diffusion.guidance.classifier_free import Guided

    def thresholded(x: Tensor, sigma: float, seen: Predictions) -> Tensor:
        if limit is not None:
            return pressed(seen.denoised.flatten(1), limit, percentile).view_as(seen.denoised)
        like = seen.positive if mimic == 1 else seen.negative + mimic * (seen.positive - seen.negative)
        mean = seen.denoised.mean(dim=(2, 3), keepdim=True)
        allowed = (like - like.mean(dim=(2, 3), keepdim=True)).abs().amax(dim=(2, 3))[..., None]  # (B, C, 1)
        return mean + pressed((seen.denoised - mean).flatten(2), allowed, percentile).view_as(seen.denoised)

    return Guided(denoiser, thresholded, negative=limit is None and mimic != 1)


def pressed(values: Tensor, allowed: float | Tensor, percentile: float) -> Tensor:
    """(..., n) -> (..., n) within [-allowed, allowed]; `allowed` is positive, a number or (..., 1)."""
    import torch

    reach = torch.quantile(values.abs(), percentile, dim=-1, keepdim=True)
    reach = torch.maximum(reach, torch.as_tensor(allowed).to(reach)).clamp(min=1e-12)
    return torch.maximum(torch.minimum(values, reach), -reach) * (allowed / reach)
