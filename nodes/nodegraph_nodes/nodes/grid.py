"""Nodes that lay pictures out for people to compare: resized, labelled, side by side."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from nodegraph import Help, Range, node
from nodegraph_nodes.pictures.sheets import LONGEST_SIDE, Method, contact_sheet, resize_pictures, rgb, text_band
from nodegraph_nodes.types import Image

MEGAPIXEL = 1024 * 1024
Colour = Annotated[str, Help("a name or #rrggbb")]


def _check_size(**literals: Any) -> Iterable[str]:
    sides = [name for name in ("width", "height") if literals.get(name) is not None]
    others = [name for name in ("scale", "megapixels") if literals.get(name) is not None]
    if others and len(sides) + len(others) > 1:
        yield f"{' and '.join([*sides, *others])} both set the size; leave one out"
    if not sides and not others and {"scale", "megapixels"} <= literals.keys():
        yield "a Resize needs a width, a height, a scale or megapixels; give one"


def _check_colours(**literals: Any) -> Iterable[str]:
    """What is wrong with the colours. The two common ones are accepted without importing a picture library."""
    for name in ("colour", "background"):
        value = literals.get(name, "white")
        if value not in ("white", "black"):
            try:
                rgb(value)
            except ValueError as error:
                yield f"{name}: {error}"


@node("Resize", check=_check_size, foreign_names=("ImageScale", "ImageScaleBy", "ImageScaleToTotalPixels"))
def resize(
    image: Image,
    width: Annotated[int | None, Range(1, LONGEST_SIDE), Help("pixels; default: in proportion to the height")] = None,
    height: Annotated[int | None, Range(1, LONGEST_SIDE), Help("pixels; default: in proportion to the width")] = None,
    scale: Annotated[float | None, Range(0.001, 1000), Help("instead of width and height; 2 doubles both")] = None,
    megapixels: Annotated[
        float | None, Range(0.001, 1024), Help("instead of width and height: their product, in units of 1024x1024 pixels")
    ] = None,
    method: Annotated[Method, Help("nearest keeps pixels as they are; area is for much smaller pictures")] = "bicubic",
    crop: Annotated[bool, Help("cut what does not fit the new proportions, around the centre, instead of stretching")] = False,
    antialias: Annotated[
        bool, Help("false: bilinear and bicubic as in ComfyUI, which look at 4 and 16 pixels also if pictures become smaller")
    ] = True,
) -> Image:
    """Resize pictures.

    Give a width, a height, both, a scale, or megapixels, which keep the proportions.
    """
    from nodegraph_diffusion.resizing import cropped

    rows, columns = image.pixels.shape[1:3]
    if megapixels is not None:
        scale = math.sqrt(megapixels * MEGAPIXEL / (rows * columns))
    if scale is not None:
        width, height = max(1, round(columns * scale)), max(1, round(rows * scale))
    if width is None and height is None:
        raise ValueError("a Resize needs a width, a height, a scale or megapixels. Give one")
    width = width or max(1, round(columns * height / rows))  # type: ignore[operator]  # one of them is given
    height = height or max(1, round(rows * width / columns))
    pixels = cropped(image.pixels.movedim(-1, 1), (height, width)).movedim(1, -1) if crop else image.pixels
    return Image(resize_pictures(pixels, (height, width), method, antialias=antialias))


@node("Label", check=_check_colours)
def label(
    image: Image,
    text: str,
    place: Annotated[Literal["above", "below", "left", "right"], Help("text at the left and right reads upward")] = "above",
    size: Annotated[int, Range(6, 512), Help("height of the letters, in pixels")] = 14,
    colour: Colour = "black",
    background: Colour = "white",
) -> Image:
    """Add a band with a line of text at one edge of each picture.

    Text that is too long is cut and ends in dots.
    """
    import torch

    upright = place in ("above", "below")
    length = image.pixels.shape[2 if upright else 1]
    band = text_band(text, length, size, colour=colour, background=background)  # (h, W, 3)
    band = band if upright else band.rot90()  # (H, w, 3)
    bands = band.expand(len(image.pixels), -1, -1, -1)
    parts = (bands, image.pixels) if place in ("above", "left") else (image.pixels, bands)
    return Image(torch.cat(parts, dim=1 if upright else 2))


@node("Grid", check=_check_colours)
def grid(
    images: list[Image],
    columns: Annotated[int | None, Range(1, 1000), Help("pictures in a row; default: all of them")] = None,
    gap: Annotated[int, Range(0, 1024), Help("pixels between the pictures")] = 4,
    background: Colour = "white",
) -> Image:
    """Arrange pictures in a grid, row by row.

    Each picture of a batch has its own cell. Smaller pictures are centred in their cells.
    """
    pictures = [picture for image in images for picture in image.pixels]  # each (H, W, 3)
    if not pictures:
        raise ValueError("expected at least one picture, found none. Link some")
    return Image(contact_sheet(pictures, min(columns or len(pictures), len(pictures)), gap, background)[None])
