"""Nodes that prepare a picture for repainting: margins to paint in, and parts to hide from the autoencoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple

from nodegraph import Help, Range, Run, node
from nodegraph_nodes.nodes.mask import resize_mask
from nodegraph_nodes.types import Image, Mask

if TYPE_CHECKING:
    from torch import Tensor

Margin = Annotated[int, Range(0, 16_384), Help("pixels to add at this side")]


class Repaint(NamedTuple):
    """A picture, and the mask that is white where it is repainted."""

    image: Image
    mask: Mask


@node("Pad", foreign_names=("ImagePadForOutpaint",))
def pad(
    image: Image,
    left: Margin = 0,
    top: Margin = 0,
    right: Margin = 0,
    bottom: Margin = 0,
    feather: Annotated[int, Range(0, 16_384), Help("pixels inside the picture over which the mask rises towards its margins")] = 40,
) -> Repaint:
    """Add grey margins to pictures, and mask them, for outpainting.

    Give picture and mask to `HideMasked` or `ApplyInpaint`, and the mask to `Sampler`.
    """
    import torch
    import torch.nn.functional as F

    from nodegraph_diffusion import masks

    pixels = F.pad(image.pixels, (0, 0, left, right, top, bottom), value=masks.GREY)
    black = torch.zeros(image.pixels.shape[:3])
    return Repaint(Image(pixels), Mask(masks.pad(black, (left, top, right, bottom), feather)))


@node("HideMasked", foreign_names=("VAEEncodeForInpaint",))
def hide_masked(
    image: Image,
    mask: Mask,
    grow: Annotated[int, Range(0, 64), Help("pixels to widen the mask for sampling by, so that no seam shows")] = 6,
    multiple: Annotated[int, Range(1, 64), Help("crop picture and mask around the centre to sides that are multiples of this")] = 1,
    run: Run = Run(),
) -> Repaint:
    """Paint what is masked grey, so that nothing of it is left in the latent.

    Give the picture to `VAEEncode` and the mask to `Sampler`, with `strength: 1`. The mask is rounded to black and white first.
    """
    from nodegraph_diffusion import masks

    size = (image.pixels.shape[1], image.pixels.shape[2])
    values = _middle(resize_mask(mask, size, run).values, multiple)
    pixels = crop_to_multiples(image, multiple).pixels
    return Repaint(Image(masks.hide(pixels, values)), Mask(masks.grow_square(values, grow).contiguous()))


def crop_to_multiples(image: Image, multiple: int) -> Image:
    """The middle of pictures, with sides that are multiples of a number. Raises ValueError if a side is shorter than that."""
    return Image(_middle(image.pixels.movedim(-1, 1), multiple).movedim(1, -1).contiguous())


def _middle(planes: Tensor, multiple: int) -> Tensor:
    """The middle of (..., H, W), with sides that are multiples of a number."""
    height, width = planes.shape[-2:]
    if min(height, width) < multiple:
        raise ValueError(f"image: expected sides of at least {multiple} pixels, found {width}x{height}. Give a larger picture")
    top, left = height % multiple // 2, width % multiple // 2
    return planes[..., top : top + height // multiple * multiple, left : left + width // multiple * multiple]
