"""Nodes that lay pictures out for people to compare: scaled, labelled, side by side."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from nodegraph import Help, Range, node
from nodegraph_nodes.types import Image

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from torch import Tensor

Colour = Annotated[str, Help("a name, or #rrggbb")]
_LARGEST = 32_768  # pixels of a side


def _one_size(**given: Any) -> Iterable[str]:
    sized = [name for name in ("width", "height") if given.get(name) is not None]
    if sized and given.get("scale") is not None:
        yield f"{' and '.join(sized)} and scale both say how large; leave one out"
    if not sized and "scale" in given and given["scale"] is None:
        yield "a Resize needs a width, a height or a scale"


def _known_colours(**given: Any) -> Iterable[str]:
    """What is wrong with the colours. The usual two are known without opening a library."""
    for name in ("colour", "background"):
        value = given.get(name, "white")
        if value not in ("white", "black"):
            try:
                _colour(value)
            except ValueError as error:
                yield f"{name}: {error}"


@node("Resize", check=_one_size, foreign_names=("ImageScale", "ImageScaleBy", "LatentUpscale", "LatentUpscaleBy"))
def resize(
    image: Image,
    width: Annotated[int | None, Range(1, _LARGEST), Help("pixels; without a height, in proportion")] = None,
    height: Annotated[int | None, Range(1, _LARGEST), Help("pixels; without a width, in proportion")] = None,
    scale: Annotated[float | None, Range(0.001, 1000), Help("instead of them: 2 is twice as wide and high")] = None,
    method: Annotated[
        Literal["nearest", "bilinear", "bicubic", "area"], Help("nearest keeps pixels as they are; area is for much smaller ones")
    ] = "bicubic",
) -> Image:
    """Pictures in another size."""
    import torch.nn.functional as F

    rows, columns = image.pixels.shape[1:3]
    if scale is not None:
        width, height = max(1, round(columns * scale)), max(1, round(rows * scale))
    if width is None and height is None:
        raise ValueError("a Resize needs a width, a height or a scale. Give one")
    width = width or max(1, round(columns * height / rows))  # type: ignore[operator]  # one of them is given
    height = height or max(1, round(rows * width / columns))
    if max(width, height) > _LARGEST:
        raise ValueError(f"expected sides of at most {_LARGEST} pixels, found {width}x{height}. Take a smaller scale")
    smooth = {"antialias": True} if method in ("bilinear", "bicubic") else {}
    mode = "nearest-exact" if method == "nearest" else method
    planes = image.pixels.permute(0, 3, 1, 2)  # (B, 3, H, W)
    resized = F.interpolate(planes, size=(height, width), mode=mode, **smooth)
    return Image(resized.permute(0, 2, 3, 1).clamp(0, 1).contiguous())


@node("Label", check=_known_colours)
def label(
    image: Image,
    text: str,
    place: Annotated[Literal["above", "below", "left", "right"], Help("at the sides, text reads upward")] = "above",
    size: Annotated[int, Range(6, 512), Help("of the letters, in pixels")] = 14,
    colour: Colour = "black",
    background: Colour = "white",
) -> Image:
    """Pictures with a line of text in a band at one of their edges.

    A line that is too long ends in dots.
    """
    import numpy as np
    import torch

    upright = place in ("above", "below")
    band = _band(text, image.pixels.shape[2 if upright else 1], size, colour, background)
    pixels = torch.from_numpy(np.array(band)).float() / 255  # (h, W, 3)
    pixels = pixels if upright else pixels.rot90()  # (H, w, 3)
    bands = pixels.expand(len(image.pixels), -1, -1, -1)
    parts = (bands, image.pixels) if place in ("above", "left") else (image.pixels, bands)
    return Image(torch.cat(parts, dim=1 if upright else 2))


@node("Grid", check=_known_colours)
def grid(
    images: list[Image],
    columns: Annotated[int | None, Range(1, 1000), Help("how many stand side by side; by default all")] = None,
    gap: Annotated[int, Range(0, 1024), Help("pixels between them")] = 4,
    background: Colour = "white",
) -> Image:
    """One picture of many, row by row.

    A batch counts as its pictures. Smaller ones stand in the middle of their cells.
    """
    import torch

    pictures = [picture for image in images for picture in image.pixels]  # each (H, W, 3)
    if not pictures:
        raise ValueError("expected at least one picture, found none. Link some")
    across = min(columns or len(pictures), len(pictures))
    rows = [pictures[k : k + across] for k in range(0, len(pictures), across)]
    heights = [max(picture.shape[0] for picture in row) for row in rows]
    widths = [max(row[k].shape[1] for row in rows if k < len(row)) for k in range(across)]
    size = sum(heights) + gap * (len(rows) - 1), sum(widths) + gap * (across - 1)
    if max(size) > _LARGEST:
        raise ValueError(f"expected sides of at most {_LARGEST} pixels, found {size[1]}x{size[0]}. Take fewer or smaller pictures")
    sheet = torch.tensor(_rgb(background)).repeat(*size, 1)  # (H, W, 3)
    top = 0
    for row, height in zip(rows, heights, strict=True):
        left = 0
        for picture, width in zip(row, widths, strict=False):
            _put(sheet, picture, top + (height - picture.shape[0]) // 2, left + (width - picture.shape[1]) // 2)
            left += width + gap
        top += height + gap
    return Image(sheet[None])


def _put(sheet: Tensor, picture: Tensor, top: int, left: int) -> None:
    sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture


def _band(text: str, width: int, size: int, colour: str, background: str) -> Picture:
    """One line of text in the middle of a band of this width, whose height hangs on `size` alone."""
    from PIL import Image as pillow
    from PIL import ImageDraw, ImageFont

    font = ImageFont.load_default(size)
    band = pillow.new("RGB", (width, round(1.6 * size)), _colour(background))
    draw = ImageDraw.Draw(band)
    line = shown = " ".join(text.split())[: width + 1]  # no letter is narrower than a pixel
    while line and draw.textlength(shown, font) > width:
        line = line[:-1]
        shown = f"{line.rstrip()}..."
    draw.text((width / 2, band.height / 2), shown if line else "", fill=_colour(colour), font=font, anchor="mm")
    return band


def _colour(name: str) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255. Raises ValueError for a colour that nobody knows."""
    from PIL import ImageColor

    try:
        return ImageColor.getrgb(name)[:3]
    except ValueError as error:
        raise ValueError(f"expected a colour such as 'white' or '#ff8800', found {name!r}. Name another one") from error


def _rgb(name: str) -> list[float]:
    return [part / 255 for part in _colour(name)]
