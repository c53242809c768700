"""Nodes that read and join pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple

from nodegraph import Help, Range, Run, node
from nodegraph_nodes.models.find import AnyFile
from nodegraph_nodes.nodes.mask import resize_mask
from nodegraph_nodes.pictures.files import read_picture
from nodegraph_nodes.types import Image, Mask

if TYPE_CHECKING:
    from torch import Tensor


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


@node("Composite")
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


@node("Paste", foreign_names=("ImageCompositeMasked",))
def paste(
    image: Image,
    original: Image,
    x: Annotated[int, Range(0, 32_768), Help("pixels from the left")] = 0,
    y: Annotated[int, Range(0, 32_768), Help("pixels from the top")] = 0,
    mask: Annotated[Mask | None, Help("for `image`, stretched to its size: only the white part is pasted")] = None,
    stretch: Annotated[bool, Help("stretch `image` to the size of `original` first")] = False,
) -> Image:
    """Paste `image` onto `original`, which may be larger.

    What is outside `original` is cut off. Batches of fewer pictures than `original` are repeated, others are cut off.
    """
    import torch
    import torch.nn.functional as F

    pixels = image.pixels.movedim(-1, 1)  # (B, 3, H, W)
    pixels = F.interpolate(pixels, size=original.pixels.shape[1:3], mode="bilinear") if stretch else pixels
    weight = torch.ones(1, 1, *pixels.shape[-2:])
    if mask is not None:
        weight = F.interpolate(mask.values[:, None], size=pixels.shape[-2:], mode="bilinear")
    above, weight = (_repeated(part, len(original.pixels)).movedim(1, -1) for part in (pixels, weight))
    result = original.pixels.clone()
    area = result[:, y : y + pixels.shape[-2], x : x + pixels.shape[-1]]
    rows, columns = area.shape[1:3]
    area.copy_(torch.lerp(area, above[:, :rows, :columns], weight[:, :rows, :columns]))
    return Image(result)


def _repeated(batch: Tensor, count: int) -> Tensor:
    """A batch of `count`: the first of these, or all of them again and again."""
    import torch

    return batch[torch.arange(count) % len(batch)]
