"""Resizing and cropping of latents and pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_PARALLEL = 1e-5  # the cosine of two cells that are treated as parallel differs from 1 or -1 by less


def cropped(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """The middle of (..., H, W) with the proportions of `size` (height, width), as in ComfyUI; at most one side is cut. A view."""
    height, width = planes.shape[-2:]
    ratio, target = width / height, size[1] / size[0]
    x = round((width - width * (target / ratio)) / 2) if ratio > target else 0
    y = round((height - height * (ratio / target)) / 2) if ratio < target else 0
    return planes[..., y : height - y, x : width - x]


def bislerp(latent: Tensor, size: tuple[int, int]) -> Tensor:
    """A latent (B, C, h, w) at another `size` (height, width), in cells: first along its rows, then along its columns.

    Between two cells, the direction of their C values turns along the arc between them (Shoemake 1985, "Animating rotation with
    quaternion curves"), and their length changes in proportion, so that it does not shrink as with linear interpolation. The
    positions are those of bilinear interpolation without aligned corners. This is ComfyUI's `bislerp`.
    """
    along_rows = _along(latent.movedim(1, -1), size[1])  # (B, h, W, C)
    return _along(along_rows.transpose(1, 2), size[0]).permute(0, 3, 2, 1)  # (B, W, H, C) -> (B, C, H, W)


def _along(cells: Tensor, length: int) -> Tensor:
    """Cells (B, n, m, C) at `length` positions along m."""
    import torch

    before = cells.shape[2]
    positions = ((torch.arange(length, dtype=torch.float64) + 0.5) * before / length - 0.5).clamp(0, before - 1)
    first = positions.floor().long()
    second = (first + 1).clamp(max=before - 1)
    shares = (positions - first).to(cells)[:, None]  # (length, 1)
    return _slerp(cells[:, :, first], cells[:, :, second], shares)


def _slerp(a: Tensor, b: Tensor, shares: Tensor) -> Tensor:
    """Between vectors along the last axis, from `a` at share 0 to `b` at share 1."""
    import torch

    length_a, length_b = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    unit_a = torch.where(length_a > 0, a / length_a, 0.0)
    unit_b = torch.where(length_b > 0, b / length_b, 0.0)
    cosine = (unit_a * unit_b).sum(dim=-1, keepdim=True)
    angle = cosine.clamp(-1, 1).acos()
    turned = (((1 - shares) * angle).sin() * unit_a + (shares * angle).sin() * unit_b) / angle.sin()
    turned = turned * (length_a * (1 - shares) + length_b * shares)
    turned = torch.where((cosine > 1 - _PARALLEL) | (shares == 0), a, turned)
    return torch.where(cosine < _PARALLEL - 1, a * (1 - shares) + b * shares, turned)
