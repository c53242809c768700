"""Nodes that make, cut and combine masks, as ComfyUI's do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from nodegraph import Help, Range, node
from nodegraph_nodes.pictures.sheets import rgb
from nodegraph_nodes.types import Image, Mask

LONGEST_SIDE = 32_768

Side = Annotated[int, Range(1, LONGEST_SIDE), Help("pixels")]
Place = Annotated[int, Range(0, LONGEST_SIDE), Help("pixels")]
Fade = Annotated[int, Range(0, LONGEST_SIDE), Help("pixels over which this side fades in")]


@node("SolidMask")
def solid_mask(width: Side = 512, height: Side = 512, value: Annotated[float, Range(0, 1)] = 1.0) -> Mask:
    """Make a mask that has one value everywhere."""
    import torch

    return Mask(torch.full((1, height, width), value))


@node("CropMask")
def crop_mask(mask: Mask, width: Side = 512, height: Side = 512, x: Place = 0, y: Place = 0) -> Mask:
    """Cut a part out of a mask. It ends at the edges of the mask."""
    rows, columns = mask.values.shape[-2:]
    if x >= columns or y >= rows:
        raise ValueError(f"expected x and y inside the mask of {columns}x{rows} pixels, found {x} and {y}. Choose smaller ones")
    return Mask(mask.values[:, y : y + height, x : x + width].contiguous())


@node("FeatherMask")
def feather_mask(mask: Mask, left: Fade = 0, top: Fade = 0, right: Fade = 0, bottom: Fade = 0) -> Mask:
    """Fade a mask out towards its sides.

    As in ComfyUI, the last of `right` columns has the weight 2 / right, and the smallest weight, 1 / right, is that of the first
    column. It is the same with `bottom` and rows.
    """
    import torch

    values = mask.values.clone()
    for axis, first, last in ((2, left, right), (1, top, bottom)):
        length = values.shape[axis]
        first, last = min(first, length), min(last, length)
        weights = torch.ones(length)
        weights[:first] *= torch.arange(1, first + 1) / max(first, 1)
        weights[-torch.arange(last)] *= torch.arange(1, last + 1) / max(last, 1)
        values *= weights if axis == 2 else weights[:, None]
    return Mask(values)


@node("CombineMasks", foreign_names=("MaskComposite",))
def combine_masks(
    mask: Mask,
    other: Mask,
    operation: Annotated[
        Literal["multiply", "add", "subtract", "and", "or", "xor"], Help("the last three round both to black and white first")
    ] = "multiply",
    x: Annotated[int, Range(0, LONGEST_SIDE), Help("where `other` begins, in pixels from the left")] = 0,
    y: Annotated[int, Range(0, LONGEST_SIDE), Help("pixels from the top")] = 0,
) -> Mask:
    """Compute with two masks where `other` lies on `mask`."""
    if len(other.values) not in (1, len(mask.values)):
        expected = f"one, or one for each of {len(mask.values)}"
        raise ValueError(f"other: expected {expected}, found {len(other.values)}. Give as many of each")
    values = mask.values.clone()
    area = values[:, y : y + other.values.shape[-2], x : x + other.values.shape[-1]]
    above = other.values[:, : area.shape[-2], : area.shape[-1]]
    if operation in ("and", "or", "xor"):
        first, second = area.round().bool(), above.round().bool()
        area.copy_(first & second if operation == "and" else first | second if operation == "or" else first ^ second)
    else:
        area.copy_(area * above if operation == "multiply" else area + above if operation == "add" else area - above)
    return Mask(values.clamp(0, 1))


def _check_colour(colour: Any = None, **_: Any) -> Iterable[str]:
    if isinstance(colour, str):
        try:
            rgb(colour)
        except ValueError as error:
            yield f"colour: {error}"


@node("ColourMask", check=_check_colour, foreign_names=("ImageColorToMask",))
def colour_mask(image: Image, colour: Annotated[str, Help("a name or #rrggbb")] = "black") -> Mask:
    """Make a mask that is white where a picture has one colour.

    Values are compared as 8 bits for each channel.
    """
    import torch

    wanted = torch.tensor(rgb(colour))
    return Mask(((image.pixels.clamp(0, 1) * 255).round() == wanted).all(dim=-1).float())


@node("MaskToImage")
def mask_to_image(mask: Mask) -> Image:
    """Make a grey picture of a mask."""
    return Image(mask.values[..., None].repeat(1, 1, 1, 3))
