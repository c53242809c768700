"""Guidance away from a picture whose attended parts are blurred."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nodegraph_diffusion.guidance.places import AtPlaces

if TYPE_CHECKING:
    from torch import Tensor

    from nodegraph_diffusion.guidance.classifier_free import GuidedDenoiser, Predictions

PLACE = "middle_block.1.transformer_blocks.0.attn1"
# A cell counts as attended where it gets more than the average share. It is a yes or a no: rounding, above all in half precision,
# can tip a cell that gets nearly the average.
ATTENDED = 1.0
KERNEL = 9  # cells along a side of the blur


def guidance_self_attention(denoiser: GuidedDenoiser, /, *, scale: float = 0.5, blur_sigma: float = 2.0) -> GuidedDenoiser:
    """Away from the picture blurred where it attends to: finer details (SAG).

    Away from what the negative side sees in its own picture, blurred where it attends to.
    Hong et al. 2023, "Improving Sample Quality of Diffusion Models Using Self-Attention Guidance", Alg. 1, in the form of ComfyUI's
    node: what the negative side sees is blurred with deviation `blur_sigma` (in cells) where the self-attention of the
    middle gives more than the average, noised again with the same noise, and seen by the negative side a second time; to the
    estimate comes `scale` times the difference. Latents of less than 5 cells along a side are left as they are. Where a side has
    several prompts, those for the whole picture count. Two evaluations of the negative side more per step. Raises
    ValueError, when asked, where the network has no self-attention in its middle.
    """
    from nodegraph_diffusion.guidance.classifier_free import Guided

    if scale == 0:
        return denoiser

    def against_blur(x: Tensor, sigma: float, seen: Predictions) -> Tensor:
        if min(x.shape[-2:]) <= KERNEL // 2:
            return seen.denoised
        received = Received()
        watch = AtPlaces([PLACE], received)
        negative = denoiser.side("negative", x, sigma, watch)
        watch.require_found("self_attention")
        degraded = negative.where(~received.attended(x), blurred(negative, blur_sigma))
        again = denoiser.side("negative", degraded + (x - negative), sigma)
        return seen.denoised + scale * (degraded - again)

    return Guided(denoiser, against_blur, negative=False)


class Received:
    """Collects how much attention each cell of a feature map gets, and changes none."""

    def __init__(self) -> None:
        self._shares: list[Tensor] = []

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> None:
        """Queries and keys (n * B, heads, L, d); the mean over the heads of what each of L cells gets from all is kept."""
        weights = (q.float() @ k.float().transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(dim=-1)
        self._shares.append(weights.mean(dim=1).sum(dim=1))  # (n * B, L)

    def attended(self, like: Tensor) -> Tensor:
        """Whether a cell gets more than the average of 1, (B, 1, h, w) bool for latents `like` (B, C, h, w).

        Prompts with an area have smaller maps; those of the largest are averaged.
        """
        import torch
        import torch.nn.functional as F

        cells = max(shares.shape[1] for shares in self._shares)
        whole = torch.cat([shares for shares in self._shares if shares.shape[1] == cells])
        mean = whole.view(-1, like.shape[0], cells).mean(dim=0)  # (B, L)
        plane = (mean > ATTENDED).view(-1, 1, *_map_size(like, cells))
        return F.interpolate(plane.float(), size=like.shape[-2:], mode="nearest").bool().to(like.device)


def _map_size(like: Tensor, cells: int) -> tuple[int, int]:
    """The height and width of a feature map of so many cells: those of the latent, halved and rounded up again and again."""
    height, width = like.shape[-2:]
    while height * width > cells:
        height, width = -(-height // 2), -(-width // 2)
    return height, width


def blurred(x: Tensor, deviation: float) -> Tensor:
    """(B, C, h, w) under a Gaussian of `deviation` cells, cut off beyond 4 cells, mirrored at the edges."""
    import torch
    import torch.nn.functional as F

    reach = KERNEL // 2
    offsets = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    line = torch.exp(-0.5 * (offsets / deviation) ** 2)
    line = line / line.sum()
    channels = x.shape[1]
    kernel = (line[:, None] * line).expand(channels, 1, KERNEL, KERNEL)
    return F.conv2d(F.pad(x, (reach, reach, reach, reach), mode="reflect"), kernel, groups=channels)
