"""Guidance that keeps the contrast of what is not guided."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from nodegraph_diffusion.guidance.classifier_free import GuidedDenoiser, Predictions


def guidance_rescale(
    denoiser: GuidedDenoiser, /, *, amount: float = 0.7, of: Literal["velocity", "prediction"] = "velocity"
) -> GuidedDenoiser:
    """Scales the prediction to its deviation on the positive side.

    That is what the network is taken to predict, of each picture by itself.
    Lin et al. 2023, sec. 3.4: `amount` (their phi) mixes the scaled prediction with the unscaled one; 0 changes
    nothing. `of`: "velocity" scales the velocity whatever the network predicts, as ComfyUI's RescaleCFG does; "prediction" scales
    what it does predict, noise or velocity, as diffusers' guidance_rescale does.
    """
    from nodegraph_diffusion.guidance.classifier_free import Guided

    noise = of == "prediction" and denoiser.schedule.prediction == "eps"

    def rescaled(x: Tensor, sigma: float, seen: Predictions) -> Tensor:
        origin = x if noise else x / (1 + sigma**2)  # noise and velocity are multiples of (origin - denoised)
        guided = seen.denoised - origin
        factor = deviation(seen.positive - origin) / deviation(guided).clamp(min=1e-12)
        return origin + guided * (amount * factor + (1 - amount))

    return Guided(denoiser, rescaled, negative=False)


def deviation(values: Tensor) -> Tensor:
    """The standard deviation of each picture, (B, C, h, w) -> (B, 1, 1, 1)."""
    return values.std(dim=(1, 2, 3), keepdim=True)
