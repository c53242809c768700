"""A linear map from latents to colours: cheap enough for previews while sampling.

Sources of the numbers:

- Stable Diffusion 1.x and 2.x, whose latents are alike: measured on v1.4's decoder by keturn, "Decoding latents to RGB without
  upscaling", discuss.huggingface.co, 2022; published for pixels in [-1, 1].
- Stable Diffusion XL and its refiner: T. A. Vass, "Explaining the SDXL latent space", huggingface.co/blog, 2023; published for
  pixels from 0 to 255, also in the documentation of diffusers.
- `builtin:tiny`: least squares (`fitted`) from the latents of its first 400 training pictures to its decoder's output, in
  `preview.json` beside its weights.
- other autoencoders, without published numbers: the first three channels as red, green and blue, which shows shapes, but no true
  colours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from nodegraph_diffusion.networks.config import LatentSpace
from nodegraph_diffusion.tiny import preview_map

Row = tuple[float, float, float]
Space = Literal["sd", "sdxl", "tiny"]

_TINY: Final = preview_map()
_SPACES: Final[dict[tuple[int, int, float], Space]] = {
    (4, 8, 0.18215): "sd",
    (4, 8, 0.13025): "sdxl",
    (_TINY["channels"], _TINY["factor"], _TINY["scaling_factor"]): "tiny",
}


@dataclass(frozen=True)
class LinearMap:
    """Red, green and blue of a cell, from 0 to 1: its C channels times `weights`, one row per channel, plus `bias`."""

    weights: tuple[Row, ...]
    bias: Row

    def __call__(self, latent: Tensor) -> Tensor:
        """A latent scaled as the UNet sees it, (B, C, h, w) -> (B, h, w, 3) float32 in [0, 1]; NaN becomes black."""
        weights, bias = (torch.tensor(numbers, device=latent.device) for numbers in (self.weights, self.bias))
        pixels = latent.movedim(1, -1).float() @ weights + bias  # (B, h, w, 3)
        return pixels.nan_to_num().clamp(0, 1)


MAPS: Final[dict[Space, LinearMap]] = {
    "sd": LinearMap(
        ((0.149, 0.1035, 0.104), (0.0935, 0.143, 0.0865), (-0.079, 0.0945, 0.132), (-0.092, -0.1355, -0.2365)),
        (0.5, 0.5, 0.5),
    ),
    "sdxl": LinearMap(
        (
            (60 / 255, 60 / 255, 60 / 255),
            (-60 / 255, -5 / 255, 10 / 255),
            (25 / 255, 15 / 255, -5 / 255),
            (-70 / 255, -50 / 255, -35 / 255),
        ),
        (150 / 255, 140 / 255, 130 / 255),
    ),
    "tiny": LinearMap(tuple((red, green, blue) for red, green, blue in _TINY["weights"]), tuple(_TINY["bias"])),
}


def latent_space(latent: LatentSpace) -> Space | None:
    """The known latent space with these channels, factor and scaling, or None."""
    return _SPACES.get((latent.channels, latent.factor, latent.scaling_factor))


def linear_map(latent: LatentSpace | None, channels: int) -> LinearMap:
    """The map for latents of `channels` channels in this latent space; a rough one if the space is unknown."""
    space = None if latent is None or latent.channels != channels else latent_space(latent)
    if space is not None:
        return MAPS[space]
    sixth = 1 / 6  # three standard deviations of a latent on each side of grey
    rows: list[Row] = [(sixth, 0.0, 0.0), (0.0, sixth, 0.0), (0.0, 0.0, sixth)]
    return LinearMap((*rows[:channels], *[(0.0, 0.0, 0.0)] * (channels - 3)), (0.5, 0.5, 0.5))


def fitted(latent: Tensor, pixels: Tensor) -> LinearMap:
    """The least-squares map from latents (B, C, h, w) to pictures (B, H, W, 3) in [0, 1].

    Each cell is compared with the mean of its pixels; h must divide H, and w must divide W.
    """
    small = F.adaptive_avg_pool2d(pixels.movedim(-1, 1), (latent.shape[-2], latent.shape[-1]))  # (B, 3, h, w)
    cells, colours = (planes.movedim(1, -1).flatten(0, 2).double() for planes in (latent, small))  # (B * h * w, C or 3)
    solution = torch.linalg.lstsq(F.pad(cells, (0, 1), value=1.0), colours).solution  # (C + 1, 3)
    *weights, bias = ((row[0], row[1], row[2]) for row in solution.tolist())
    return LinearMap(tuple(weights), bias)


def tiled(pixels: Tensor) -> Tensor:
    """The pictures (B, H, W, 3) in one, (1, H', W', 3): a grid with about as many rows as columns; empty cells are black."""
    batch, height, width, colours = pixels.shape
    columns = math.ceil(math.sqrt(batch))
    rows = math.ceil(batch / columns)
    cells = F.pad(pixels, (0, 0, 0, 0, 0, 0, 0, rows * columns - batch)).view(rows, columns, height, width, colours)
    return cells.transpose(1, 2).reshape(1, rows * height, columns * width, colours)


def enlarged(pixels: Tensor, scale: int) -> Tensor:
    """Pictures (B, H, W, 3), bilinearly enlarged: (B, scale * H, scale * W, 3)."""
    planes = F.interpolate(pixels.movedim(-1, 1), scale_factor=float(scale), mode="bilinear")
    return planes.movedim(1, -1).contiguous()
