"""Guidance away from the prediction of a network whose self-attention is disabled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodegraph_diffusion.denoising.protocols import GuidedDenoiser, Predictions
from nodegraph_diffusion.guidance.adjusted import AdjustedGuidance
from nodegraph_diffusion.guidance.attention_layers import AttentionReplacement

if TYPE_CHECKING:
    from torch import Tensor


def guidance_perturbed_attention(
    denoiser: GuidedDenoiser, /, *, scale: float = 3.0, places: str | list[str] = "middle_block"
) -> GuidedDenoiser:
    """Away from a prediction with identity self-attention: sharper structure (PAG).

    In that prediction each pixel attends only to itself. Works even without a prompt.
    Ahn et al. 2024, "Self-Rectifying Diffusion Sampling with Perturbed-Attention Guidance": the estimate plus `scale` times the
    difference between the positive prediction and the one with the self-attention layers in `places` replaced by the identity.
    `places` names one part of the network or several; the paper and ComfyUI use the middle block. One more evaluation of the
    positive condition per step. Raises ValueError at the first step if the network has no self-attention in these parts.
    """
    if scale == 0:
        return denoiser
    identity = AttentionReplacement([places] if isinstance(places, str) else places, lambda q, k, v: v.transpose(1, 2).flatten(2))

    def away_from_perturbed(x: Tensor, sigma: float, predictions: Predictions) -> Tensor:
        perturbed = denoiser.predict_one("positive", x, sigma, identity)
        identity.require_found("perturbed_attention")
        return predictions.denoised + scale * (predictions.positive - perturbed)

    return AdjustedGuidance(denoiser, away_from_perturbed, negative=False)
