"""Channels that a denoiser receives beside a latent: a map of classes, or a smaller picture (Rombach et al. 2022, sec. 4.3.2)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from torch import Tensor

MAP_PARTS: Final = 2
"""A cell of the latent sees a map in so many parts along each side."""

MOST_NOISE: Final = 0.4
"""The largest deviation of the noise on a smaller picture in training, where pixels are in [-1, 1]."""


def map_channels(labels: Tensor, classes: int, cells: tuple[int, int]) -> Tensor:
    """Maps of class numbers (B, H, W) int64 as shares of each class: (B, classes * MAP_PARTS^2, *cells)."""
    import torch.nn.functional as F

    shares = F.one_hot(labels, classes).movedim(-1, 1).float()  # (B, classes, H, W)
    return F.pixel_unshuffle(F.adaptive_avg_pool2d(shares, (MAP_PARTS * cells[0], MAP_PARTS * cells[1])), MAP_PARTS)


def map_classes(channels: int) -> int:
    """How many classes the maps have that fill so many channels."""
    return channels // MAP_PARTS**2


def picture_channels(pixels: Tensor, cells: tuple[int, int], deviation: Tensor, noise: Tensor) -> Tensor:
    """Smaller pictures (B, 3, s * h, s * w) in [-1, 1] for latents of `cells` (h, w): (B, 3 s^2 + 1, h, w).

    `noise`, standard normal in the shape of the pictures, is added with the `deviation` (B,) of each; the last channel says how
    large that is (Ho et al. 2022, "Cascaded Diffusion Models", sec. 4.2: a denoiser that knows it repairs the faults of its input).
    """
    import torch
    import torch.nn.functional as F

    parts = pixels.shape[-1] // cells[1]
    level = deviation[:, None, None, None]
    spread = F.pixel_unshuffle(pixels + level * noise, parts)
    return torch.cat([spread, level.expand(-1, 1, *cells)], dim=1)


def picture_side(channels: int, cells: int) -> int:
    """The side, in pixels, of the smaller pictures that fill so many channels beside a latent with `cells` along a side."""
    return math.isqrt((channels - 1) // 3) * cells


def class_colours(classes: int) -> Tensor:
    """A colour for each class in pictures of maps, (classes, 3) in [0, 1]: those of the PASCAL VOC challenge, black first.

    Bit k of a number goes to channel k mod 3, the lowest bits to the highest ones there.
    """
    import torch

    rows = []
    for number in range(classes):
        row = [0, 0, 0]
        for bit in range(24):
            row[bit % 3] |= (number >> bit & 1) << (7 - bit // 3)
        rows.append(row)
    return torch.tensor(rows).float() / 255


def map_picture(labels: Tensor, classes: int) -> Tensor:
    """Maps of class numbers (B, H, W) as pictures (B, H, W, 3) in [0, 1]."""
    return class_colours(classes)[labels]


def read_map(picture: Tensor, classes: int) -> Tensor:
    """The class numbers (B, H, W) int64 of pictures of maps (B, H, W, 3) in [0, 1]: that of the nearest colour."""
    import torch

    distances = torch.cdist(picture.flatten(1, 2), class_colours(classes).expand(len(picture), -1, -1))
    return distances.argmin(-1).view(picture.shape[:3])
