"""Masks (B, H, W), float32 in [0, 1], where 1 (white) marks what is repainted."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

GREY = 0.5


def luminance(pixels: Tensor) -> Tensor:
    """The brightness of pixels (B, H, W, 3) by ITU-R BT.601: (B, H, W). The formula maps a grey to exactly that grey."""
    red, green, blue = pixels.unbind(dim=-1)
    return (green + 0.299 * (red - green) + 0.114 * (blue - green)).clamp(0, 1)


def resize(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """The mask at another `size` (height, width), bilinear and antialiased: (B, H, W) -> (B, *size)."""
    return F.interpolate(mask[:, None], size=size, mode="bilinear", antialias=True)[:, 0].clamp(0, 1)


def extend(mask: Tensor, rows: int, columns: int) -> Tensor:
    """The mask with `rows` more at the bottom and `columns` more at the right, which repeat its edges."""
    return F.pad(mask[:, None], (0, columns, 0, rows), mode="replicate")[:, 0]


def padding(cells: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """The rows and columns of pixels that a latent of `cells` (rows, columns) covers beyond pictures of `size` (height, width).

    The factor of an autoencoder is a power of two: here the smallest one with which the cells cover the pictures.
    """
    factor = 1 << max(0, *(math.ceil(math.log2(side / count)) for side, count in zip(size, cells, strict=True)))
    return cells[0] * factor - size[0], cells[1] * factor - size[1]


Corners: TypeAlias = Literal["round", "square", "diamond"]


def grow(mask: Tensor, radius: float, corners: Corners = "round") -> Tensor:
    """The mask widened by `radius` pixels, or narrowed if `radius` is negative: (B, H, W) -> (B, H, W)."""
    return dilate(mask, radius, corners) if radius > 0 else 1 - dilate(1 - mask, -radius, corners)


def dilate(mask: Tensor, radius: float, corners: Corners = "round") -> Tensor:
    """Replace each value by the largest within `radius` pixels: (B, H, W) -> (B, H, W). Outside the mask there are no values.

    With `corners`, those within a square or a diamond around it. Each of these shapes is a stack of rows that get wider towards its
    middle, so each row's maximum is computed from that of the row before.
    """
    height = mask.shape[-2]
    dilated, row, reach = mask, mask, 0
    for dy in range(int(radius), -1, -1):
        half = int({"round": math.sqrt(radius**2 - dy**2), "square": radius, "diamond": radius - dy}[corners])
        if half > reach:
            row = F.max_pool1d(row, 2 * (half - reach) + 1, stride=1, padding=half - reach)
            reach = half
        if dy < height:
            above, below = F.pad(row[:, dy:], (0, 0, 0, dy)), F.pad(row[:, : height - dy], (0, 0, dy, 0))
            dilated = torch.maximum(dilated, torch.maximum(above, below))
    return dilated


def blur(mask: Tensor, sigma: float) -> Tensor:
    """A Gaussian blur with a standard deviation of `sigma` pixels, cut off at three of them: (B, H, W) -> (B, H, W).

    The edges of the mask are repeated.
    """
    reach = math.ceil(3 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    planes = mask[:, None]
    for shape, padding in (((1, 1, 1, -1), (reach, reach, 0, 0)), ((1, 1, -1, 1), (0, 0, reach, reach))):
        planes = F.conv2d(F.pad(planes, padding, mode="replicate"), kernel.reshape(shape))
    return planes[:, 0].clamp(0, 1)


def grow_square(mask: Tensor, side: int) -> Tensor:
    """The mask, rounded, with each white pixel widened to a square of `side` pixels, as in ComfyUI: (B, H, W) -> (B, H, W).

    An even square reaches one pixel further to the right and down than to the left and up.
    """
    if side == 0:
        return mask.round()
    before, after = side // 2, (side - 1) // 2  # what a pixel sees of the mask: it is white if anything there is
    padded = F.pad(mask.round()[:, None], (before, after, before, after))
    return F.max_pool2d(padded, side, stride=1)[:, 0]


def pad(mask: Tensor, margins: tuple[int, int, int, int], feather: int) -> Tensor:
    """A black mask (B, H, W) with white margins (left, top, right, bottom): what is new after a picture was padded.

    Inside, the mask rises towards each margin that is not 0, over `feather` pixels: with the distance d from the nearest one, it is
    ((feather - d) / feather)^2, as in ComfyUI. A picture that is not larger than two feathers has none.
    """
    left, top, right, bottom = margins
    height, width = mask.shape[-2:]
    inside = torch.zeros(height, width)
    if feather and 2 * feather < min(height, width):
        rows, columns = torch.arange(height)[:, None], torch.arange(width)
        distances = ((rows, top), (height - rows, bottom), (columns, left), (width - columns, right))
        near = [distance.expand(height, width) for distance, margin in distances if margin]
        if near:
            nearest = torch.stack(near).amin(0).clamp(max=feather)
            inside = ((feather - nearest) / feather) ** 2
    return F.pad(torch.maximum(mask, inside), (left, right, top, bottom), value=1.0)


def faded(size: tuple[int, int], feather: int, fades: tuple[bool, bool, bool, bool]) -> Tensor:
    """A white mask of `size` (height, width) that fades at the sides (left, top, right, bottom) in `fades`: (height, width).

    The outermost of `feather` cells has 1 / feather, the next one 2 / feather, and so on; where two sides meet, both count.
    """
    height, width = size
    left, top, right, bottom = fades

    def line(length: int, first: bool, last: bool) -> Tensor:
        weights = torch.ones(length)
        rising = ((torch.arange(length) + 1) / feather).clamp(max=1) if feather else weights
        return weights * (rising if first else 1) * (rising.flip(0) if last else 1)

    return line(height, top, bottom)[:, None] * line(width, left, right)


def hide(pixels: Tensor, mask: Tensor) -> Tensor:
    """The pixels (B, H, W, 3) in [0, 1] with grey where the mask (1 or B, H, W) rounds to white."""
    keep = 1 - mask[..., None].round()  # (1 or B, H, W, 1)
    return (pixels - GREY) * keep + GREY


def inpaint_channels(mask: Tensor, hidden: Tensor) -> Tensor:
    """The channels that an inpainting UNet sees beside the latent, (B, 1 + C, h, w): the mask, then the hidden picture.

    `mask` (1 or B, H, W) covers the same pixels as the latent `hidden` (B, C, h, w) of the picture that `hide` made.
    """
    plane = F.interpolate(mask[:, None], size=hidden.shape[-2:], mode="bilinear").round()  # (1 or B, 1, h, w)
    return torch.cat([plane.expand(len(hidden), -1, -1, -1), hidden], dim=1)
