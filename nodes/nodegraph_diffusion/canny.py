"""Canny's edge detector (Canny 1986, "A Computational Approach to Edge Detection"), as kornia and ComfyUI compute it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_BLUR_SIGMA, _BLUR_REACH = 1.0, 2  # of the Gaussian, in pixels
_EPSILON = 1e-6  # added to the squared length of a gradient
_NEIGHBOURS = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))  # (dy, dx), by angle in steps of 45 degrees


def canny(grey: Tensor, low: float, high: float) -> Tensor:
    """The edges of pictures (B, H, W) in [0, 1], each side at least 3 pixels: (B, H, W), 1 on an edge, 0 elsewhere.

    The pictures are blurred with a Gaussian of one pixel. A pixel is on an edge if its gradient (Sobel's, which is 4 at a step from
    black to white) is longer than that of both neighbours along the gradient and than `high`, or longer than `low` and connected to
    such a pixel.
    """
    across, down = _gradients(_blurred(grey[:, None]))
    length = (across.square() + down.square() + _EPSILON).sqrt()
    length = torch.where(_is_ridge(length, across, down), length, 0.0)
    possible, edges = length > low, length > high
    while True:
        grown = possible & (F.max_pool2d(edges.float(), 3, stride=1, padding=1) > 0)
        grown |= edges
        if torch.equal(grown, edges):
            return edges[:, 0].float()
        edges = grown


def _blurred(planes: Tensor) -> Tensor:
    """(B, 1, H, W) under a Gaussian; the picture is mirrored at its edges."""
    offsets = torch.arange(-_BLUR_REACH, _BLUR_REACH + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / _BLUR_SIGMA) ** 2)
    kernel /= kernel.sum()
    padded = F.pad(planes, (_BLUR_REACH,) * 4, mode="reflect")
    return F.conv2d(padded, kernel.outer(kernel)[None, None])


def _gradients(planes: Tensor) -> tuple[Tensor, Tensor]:
    """Sobel's derivatives of (B, 1, H, W), to the right and downwards."""
    sobel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    both = F.conv2d(F.pad(planes, (1, 1, 1, 1), mode="replicate"), torch.stack([sobel, sobel.T])[:, None])
    return both[:, :1], both[:, 1:]


def _is_ridge(length: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """Whether the gradient is longer than at both neighbours along it; beyond the edges of the picture it is 0."""
    steps = (torch.atan2(down, across) / (math.pi / 4)).round().long() % 8  # of 45 degrees
    height, width = length.shape[-2:]
    padded = F.pad(length, (1, 1, 1, 1))
    around = torch.cat([padded[..., 1 + y : 1 + y + height, 1 + x : 1 + x + width] for y, x in _NEIGHBOURS], dim=1)  # (B, 8, H, W)
    ahead, behind = around.gather(1, steps), around.gather(1, (steps + 4) % 8)
    return (length > ahead) & (length > behind)
