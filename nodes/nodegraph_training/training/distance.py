"""How far sets of pictures are from each other, by the features of CLIP's image encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from nodegraph_diffusion.training.loop.seeds import generator_for

if TYPE_CHECKING:
    from nodegraph_diffusion.networks.clip import CLIPVisionModel

_AT_ONCE: Final = 64
_REACH: Final = 3  # of the blur, in deviations
BLOCKS: Final = 8
"""The side of the grid of blocks of which half are shuffled."""


@torch.no_grad()
def features(network: CLIPVisionModel, pictures: Sequence[Tensor]) -> Tensor:
    """The embeddings of pictures, each (H, W, 3) in [0, 1]: (N, projection), of length 1."""
    size, device, parts = network.config.size, next(network.parameters()).device, []
    for first in range(0, len(pictures), _AT_ONCE):
        pixels = torch.stack([_sized(each, size) for each in pictures[first : first + _AT_ONCE]]) * 2 - 1
        parts.append(F.normalize(network(pixels.to(device)).float(), dim=-1).cpu())
    return torch.cat(parts)


def _sized(picture: Tensor, size: int) -> Tensor:
    """(H, W, 3) -> (3, size, size)."""
    pixels = picture.movedim(-1, 0)
    if pixels.shape[1:] == (size, size):
        return pixels
    return F.interpolate(pixels[None], (size, size), mode="bilinear", antialias=True)[0]


def blurred(picture: Tensor, sigma: float = 1.0) -> Tensor:
    """A picture (H, W, 3) after a Gaussian blur."""
    reach = round(_REACH * sigma)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-offsets.square() / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    pixels = F.pad(picture.movedim(-1, 0)[:, None], (reach,) * 4, mode="replicate")  # (3, 1, H + 2 r, W + 2 r)
    pixels = F.conv2d(F.conv2d(pixels, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))
    return pixels[:, 0].movedim(0, -1)


def half_shuffled(picture: Tensor, seed: int) -> Tensor:
    """A picture (H, W, 3) of whose BLOCKS x BLOCKS blocks half change places. Its sides are multiples of BLOCKS."""
    height, width = picture.shape[0] // BLOCKS, picture.shape[1] // BLOCKS
    blocks = picture.reshape(BLOCKS, height, BLOCKS, width, 3).transpose(1, 2).reshape(-1, height, width, 3).clone()
    chosen = torch.randperm(len(blocks), generator=generator_for(seed, "shuffled"))[: len(blocks) // 2]
    blocks[chosen] = blocks[chosen.roll(1)]  # in a circle, so that each of them moves
    shuffled: Tensor = blocks.reshape(BLOCKS, BLOCKS, height, width, 3).transpose(1, 2).reshape(picture.shape)
    return shuffled
