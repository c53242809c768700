"""Guidance away from the prediction for a picture that is blurred where the network attends to it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nodegraph_diffusion.denoising.protocols import GuidedDenoiser, Predictions
from nodegraph_diffusion.guidance.adjusted import AdjustedGuidance
from nodegraph_diffusion.guidance.attention_layers import AttentionReplacement

if TYPE_CHECKING:
    from torch import Tensor

LAYER = "middle_block.1.transformer_blocks.0.attn1"
# Cells that receive more than the average share are blurred. There is nothing in between: rounding, above all in half precision,
# can decide about a cell that receives nearly the average.
THRESHOLD = 1.0
KERNEL = 9  # cells along a side of the blur


def guidance_self_attention(denoiser: GuidedDenoiser, /, *, scale: float = 0.5, blur_sigma: float = 2.0) -> GuidedDenoiser:
    """Away from a prediction whose attended parts are blurred: finer details (SAG).

    Hong et al. 2023, "Improving Sample Quality of Diffusion Models Using Self-Attention Guidance", Alg. 1, as in ComfyUI's
    node: the negative prediction is blurred with deviation `blur_sigma` (in cells) where the self-attention of the
    middle block is above the average, noised again with the same noise, and denoised under the negative condition again. The result
    is the estimate plus `scale` times the difference. Latents of less than 5 cells along a side are not changed. If a condition has
    several prompts, the attention of those for the whole picture counts. Two more evaluations of the negative condition per step.
    Raises ValueError at the first step if the network has no self-attention in its middle block.
    """
    if scale == 0:
        return denoiser

    def away_from_blurred(x: Tensor, sigma: float, predictions: Predictions) -> Tensor:
        if min(x.shape[-2:]) <= KERNEL // 2:
            return predictions.denoised
        received = ReceivedAttention()
        recorder = AttentionReplacement([LAYER], received)
        negative = denoiser.predict_one("negative", x, sigma, recorder)
        recorder.require_found("self_attention")
        degraded = negative.where(~received.above_average(x), blurred(negative, blur_sigma))
        again = denoiser.predict_one("negative", degraded + (x - negative), sigma)
        return predictions.denoised + scale * (degraded - again)

    return AdjustedGuidance(denoiser, away_from_blurred, negative=False)


class ReceivedAttention:
    """Records how much attention each cell of a feature map receives, and changes nothing."""

    def __init__(self) -> None:
        self._shares: list[Tensor] = []

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> None:
        """Queries and keys (n * B, heads, L, d); keeps the sum of what each of L cells receives, averaged over the heads."""
        weights = (q.float() @ k.float().transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(dim=-1)
        self._shares.append(weights.mean(dim=1).sum(dim=1))  # (n * B, L)

    def above_average(self, latent: Tensor) -> Tensor:
        """Whether a cell receives more than the average of 1, (B, 1, h, w) bool for a `latent` (B, C, h, w).

        Prompts with an area have smaller maps; the largest maps are averaged.
        """
        import torch
        import torch.nn.functional as F

        cells = max(shares.shape[1] for shares in self._shares)
        whole = torch.cat([shares for shares in self._shares if shares.shape[1] == cells])
        mean = whole.view(-1, latent.shape[0], cells).mean(dim=0)  # (B, L)
        plane = (mean > THRESHOLD).view(-1, 1, *_map_size(latent, cells))
        return F.interpolate(plane.float(), size=latent.shape[-2:], mode="nearest").bool().to(latent.device)


def _map_size(latent: Tensor, cells: int) -> tuple[int, int]:
    """The height and width of a feature map with `cells` cells: the latent's, halved and rounded up as often as needed."""
    height, width = latent.shape[-2:]
    while height * width > cells:
        height, width = -(-height // 2), -(-width // 2)
    return height, width


def blurred(x: Tensor, deviation: float) -> Tensor:
    """(B, C, h, w) blurred by a Gaussian of `deviation` cells, cut off beyond 4 cells, mirrored at the edges."""
    import torch
    import torch.nn.functional as F

    reach = KERNEL // 2
    offsets = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    line = torch.exp(-0.5 * (offsets / deviation) ** 2)
    line = line / line.sum()
    channels = x.shape[1]
    kernel = (line[:, None] * line).expand(channels, 1, KERNEL, KERNEL)
    return F.conv2d(F.pad(x, (reach, reach, reach, reach), mode="reflect"), kernel, groups=channels)
