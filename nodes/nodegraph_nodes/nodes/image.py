"""Nodes that read and join pictures."""

from __future__ import annotations

from typing import NamedTuple

from nodegraph import Run, node
from nodegraph_nodes.models.find import AnyFile
from nodegraph_nodes.nodes.mask import resize_mask
from nodegraph_nodes.pictures.files import read_picture
from nodegraph_nodes.types import Image, Mask


class Loaded(NamedTuple):
    """A picture and its transparency."""

    image: Image
    mask: Mask


@node("LoadImage")
def load_image(path: AnyFile, run: Run = Run()) -> Loaded:
    """Read a picture, and a mask from its transparency.

    The mask is white, which means repainted, where the picture is transparent.
    """
    pixels, opacity = read_picture(path, run)
    return Loaded(Image(pixels), Mask(1 - opacity))


@node("Composite", foreign_names=("ImageCompositeMasked",))
def composite(image: Image, original: Image, mask: Mask, run: Run = Run()) -> Image:
    """Paste `image` over `original` where the mask is white.

    Grey parts of the mask mix the two. Where it is black, the pixels of `original` are kept to the last bit.
    """
    import torch

    height, width = original.pixels.shape[1:3]
    if image.pixels.shape[1:3] != (height, width):
        found = f"{image.pixels.shape[2]}x{image.pixels.shape[1]} and {width}x{height}"
        raise ValueError(f"expected two pictures of one size, found {found}. Decode the latent that the original was encoded to")
    amount = resize_mask(mask, (height, width), run).values[..., None]  # (B, H, W, 1)
    counts = {"image": len(image.pixels), "original": len(original.pixels), "mask": len(amount)}
    if len(set(counts.values()) - {1}) > 1:
        found = ", ".join(f"{count} of '{name}'" for name, count in counts.items())
        raise ValueError(f"expected batches of one size, or single pictures, found {found}. Give as many of each, or one")
    return Image(torch.lerp(original.pixels, image.pixels, amount))
