"""Guidance that keeps the contrast of the positive prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from nodegraph_diffusion.denoising.protocols import GuidedDenoiser, Predictions
from nodegraph_diffusion.guidance.adjusted import AdjustedGuidance

if TYPE_CHECKING:
    from torch import Tensor


def guidance_rescale(
    denoiser: GuidedDenoiser, /, *, amount: float = 0.7, of: Literal["velocity", "prediction"] = "velocity"
) -> GuidedDenoiser:
    """Scales the guided prediction to the standard deviation of the positive one.

    That is the network's predicted noise or velocity, and each picture is scaled by itself.
    Lin et al. 2023, sec. 3.4: `amount` (their phi) mixes the scaled prediction with the unscaled one; 0 changes
    nothing. `of`: "velocity" scales the velocity even if the network predicts noise, as ComfyUI's RescaleCFG does; "prediction"
    scales what the network predicts, noise or velocity, as diffusers' guidance_rescale does.
    """
    noise = of == "prediction" and denoiser.noise_schedule.prediction == "eps"

    def rescale(x: Tensor, sigma: float, predictions: Predictions) -> Tensor:
        origin = x if noise else x / (1 + sigma**2)  # noise and velocity are multiples of (origin - denoised)
        guided = predictions.denoised - origin
        factor = deviation(predictions.positive - origin) / deviation(guided).clamp(min=1e-12)
        return origin + guided * (amount * factor + (1 - amount))

    return AdjustedGuidance(denoiser, rescale, negative=False)


def deviation(values: Tensor) -> Tensor:
    """The standard deviation of each picture, (B, C, h, w) -> (B, 1, 1, 1)."""
    return values.std(dim=(1, 2, 3), keepdim=True)
