"""Nodes that turn and cut latents, and that compute with two of them, as ComfyUI's do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from nodegraph import Help, Range, node
from nodegraph_nodes.types import Latent

if TYPE_CHECKING:
    from torch import Tensor

LONGEST_SIDE = 32_768
_LEAST_CELLS = 8

Place = Annotated[int, Range(0, LONGEST_SIDE), Help("pixels; rounded down to whole cells")]
Share = Annotated[float, Range(0, 1), Help("of the first latent; the rest is the second")]


@node("FlipLatent", foreign_names=("LatentFlip",))
def flip_latent(
    latent: Latent, direction: Annotated[Literal["left_right", "up_down"], Help("which sides change places")] = "left_right"
) -> Latent:
    """Mirror latents.

    Sample the result again: the picture of mirrored cells is not exactly the mirrored picture.
    """
    _require_whole_cells(latent)
    return replace(latent, samples=latent.samples.flip(3 if direction == "left_right" else 2))


@node("RotateLatent", foreign_names=("LatentRotate",))
def rotate_latent(latent: Latent, turns: Annotated[int, Range(0, 3), Help("quarter turns, clockwise")] = 1) -> Latent:
    """Turn latents.

    Sample the result again: the picture of turned cells is not exactly the turned picture.
    """
    _require_whole_cells(latent)
    height, width = latent.size
    size = (width, height) if turns % 2 else (height, width)
    return replace(latent, samples=latent.samples.rot90(turns, (3, 2)).contiguous(), size=size)


@node("CropLatent", foreign_names=("LatentCrop",))
def crop_latent(
    latent: Latent,
    width: Annotated[int, Range(8, LONGEST_SIDE), Help("pixels; rounded down to whole cells")] = 512,
    height: Annotated[int, Range(8, LONGEST_SIDE), Help("pixels; rounded down to whole cells")] = 512,
    x: Place = 0,
    y: Place = 0,
) -> Latent:
    """Cut a part out of latents.

    It begins at least eight cells before the right and the lower edge, and ends there if it is larger, as in ComfyUI.
    """
    factor, (rows, columns) = _factor(latent), latent.samples.shape[-2:]
    top, left = (max(0, min(start // factor, cells - _LEAST_CELLS)) for start, cells in ((y, rows), (x, columns)))
    samples = latent.samples[..., top : top + max(1, height // factor), left : left + max(1, width // factor)].contiguous()
    ends = zip((top, left), samples.shape[-2:], latent.size, strict=True)
    size = tuple(min(cells * factor, side - start * factor) for start, cells, side in ends)
    return replace(latent, samples=samples, size=(size[0], size[1]))


@node("AddLatents", foreign_names=("LatentAdd",))
def add_latents(latent: Latent, other: Latent) -> Latent:
    """Add another latent, fitted to the size of the first."""
    return replace(latent, samples=latent.samples + _fitted(other, latent))


@node("SubtractLatents", foreign_names=("LatentSubtract",))
def subtract_latents(latent: Latent, other: Latent) -> Latent:
    """Subtract another latent, fitted to the size of the first."""
    return replace(latent, samples=latent.samples - _fitted(other, latent))


@node("MultiplyLatent", foreign_names=("LatentMultiply",))
def multiply_latent(latent: Latent, factor: Annotated[float, Range(-10, 10)] = 1.0) -> Latent:
    """Multiply the values of latents by a number."""
    return replace(latent, samples=latent.samples * factor)


@node("BlendLatents", foreign_names=("LatentBlend",))
def blend_latents(latent: Latent, other: Latent, share: Share = 0.5) -> Latent:
    """Mix two latents cell by cell.

    The second is fitted to the size of the first, with bicubic interpolation.
    """
    return replace(latent, samples=latent.samples * share + _fitted(other, latent, "bicubic") * (1 - share))


@node("InterpolateLatents", foreign_names=("LatentInterpolate",))
def interpolate_latents(latent: Latent, other: Latent, share: Share = 1.0) -> Latent:
    """Mix the directions of two latents, and their lengths, cell by cell.

    So the values do not fade as those of `BlendLatents` do. The second is fitted to the size of the first.
    """
    (first, length), (second, other_length) = _directions(latent.samples), _directions(_fitted(other, latent))
    direction, _ = _directions(first * share + second * (1 - share))
    return replace(latent, samples=direction * (length * share + other_length * (1 - share)))


def _directions(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Each cell as a vector of length 1, or 0 if it is 0; and its length: (B, C, h, w) and (B, 1, h, w)."""
    length = samples.norm(dim=1, keepdim=True)
    return (samples / length).nan_to_num(), length


def _fitted(other: Latent, latent: Latent, method: str = "bilinear") -> Tensor:
    """The samples of `other`, cropped around the centre and resized to the cells of `latent`, as many as these."""
    import torch
    import torch.nn.functional as F

    from nodegraph_diffusion.resizing import cropped

    other.require_space(latent.space, "first latent is")
    size = (latent.samples.shape[-2], latent.samples.shape[-1])
    samples = other.samples
    if samples.shape[-2:] != size:
        samples = F.interpolate(cropped(samples, size), size=size, mode=method)
    return samples[torch.arange(len(latent.samples)) % len(samples)]


def _factor(latent: Latent) -> int:
    """The pixels per cell along a side."""
    return latent.space.factor if latent.space is not None else -(-latent.size[0] // latent.samples.shape[-2])


def _require_whole_cells(latent: Latent) -> None:
    """Raise ValueError for pictures whose right or lower cells are padded: they would be at another side."""
    if latent.padding != (0, 0):
        height, width = latent.size
        raise ValueError(f"latent: expected sides that are multiples of its cells, found {width}x{height} pixels. Crop it first")
