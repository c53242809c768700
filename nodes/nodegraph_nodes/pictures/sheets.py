"""Pictures for people to compare: resized, with bands of text, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from PIL.ImageFont import FreeTypeFont, ImageFont
    from torch import Tensor

LONGEST_SIDE: Final = 32_768
"""The longest side of a picture that is made here, in pixels."""


Method = Literal["nearest", "bilinear", "bicubic", "lanczos", "area"]


def resize_pictures(pixels: Tensor, size: tuple[int, int], method: Method, *, antialias: bool = True) -> Tensor:
    """Pictures (B, H, W, 3) at another `size` (height, width). Raises ValueError if a side is too long.

    Without `antialias`, bilinear and bicubic look at 4 and 16 pixels only, also if pictures become smaller.
    """
    import torch.nn.functional as F

    height, width = size
    if max(size) > LONGEST_SIDE:
        raise ValueError(f"expected sides of at most {LONGEST_SIDE} pixels, found {width}x{height}. Choose a smaller scale")
    if method == "lanczos":
        return _lanczos(pixels, size)
    smooth = {"antialias": antialias} if method in ("bilinear", "bicubic") else {}
    mode = "nearest-exact" if method == "nearest" else method
    planes = pixels.permute(0, 3, 1, 2)  # (B, 3, H, W)
    return F.interpolate(planes, size=size, mode=mode, **smooth).permute(0, 2, 3, 1).clamp(0, 1).contiguous()


def _lanczos(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Pictures (B, H, W, 3) at another size with Pillow's filter, which torch does not have: channel by channel, in float32."""
    import numpy as np
    import torch
    from PIL import Image as pillow

    height, width = size
    planes = pixels.movedim(-1, 1).flatten(0, 1).contiguous().numpy()  # (B * 3, H, W)
    resized = [np.array(pillow.fromarray(plane).resize((width, height), pillow.Resampling.LANCZOS)) for plane in planes]
    batch = torch.from_numpy(np.stack(resized)).reshape(len(pixels), 3, height, width)
    return batch.movedim(1, -1).clamp(0, 1).contiguous()


def as_pillow(plane: Tensor) -> Picture:
    """A picture of one plane with values from 0 to 1, rounded to 8 bits: (H, W, 3) in colour, (H, W) in grey."""
    from PIL import Image as pillow

    return pillow.fromarray((plane.detach().cpu() * 255).round().clamp(0, 255).byte().numpy())


def as_png(planes: Tensor, *, gap: int = 8) -> bytes:
    """A PNG file with the pictures of a batch (B, H, W, 3) beside each other."""
    import io

    file = io.BytesIO()
    sheet = planes[0] if len(planes) == 1 else contact_sheet(list(planes), len(planes), gap, "white")
    as_pillow(sheet).save(file, format="PNG")
    return file.getvalue()


def as_html(png: bytes) -> str:
    """An element of HTML that holds a PNG file."""
    import base64

    return f'<img src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def text_band(text: str, width: int, size: int, colour: str, background: str) -> Tensor:
    """A band (h, width, 3) with one line of text in the middle. Its height depends only on `size`, that of the text in pixels.

    Text that is too long is cut and ends in dots. Raises ValueError for an unknown colour.
    """
    import numpy as np
    import torch
    from PIL import Image as pillow
    from PIL import ImageDraw, ImageFont

    font = ImageFont.load_default(size)
    band = pillow.new("RGB", (width, round(1.6 * size)), rgb(background))
    draw = ImageDraw.Draw(band)
    draw.text((width / 2, band.height / 2), cut_text(text, width, font), fill=rgb(colour), font=font, anchor="mm")
    return torch.from_numpy(np.array(band)).float() / 255


def cut_text(text: str, width: int, font: FreeTypeFont | ImageFont) -> str:
    """As much of `text`, on one line, as fits into `width` pixels; if it is cut, it ends in dots."""
    line = shown = " ".join(text.split())[: width + 1]  # no letter is narrower than a pixel
    while line and font.getlength(shown) > width:
        line = line[:-1]
        shown = f"{line.rstrip()}..."
    return shown if line else ""


def contact_sheet(pictures: Sequence[Tensor], columns: int, gap: int, background: str) -> Tensor:
    """Pictures (H, W, 3) in a grid, row by row, each in the middle of its cell, `gap` pixels apart: (H', W', 3).

    Raises ValueError for an unknown colour and if a side would be too long.
    """
    import torch

    rows = [pictures[first : first + columns] for first in range(0, len(pictures), columns)]
    heights = [max(picture.shape[0] for picture in row) for row in rows]
    widths = [max(row[column].shape[1] for row in rows if column < len(row)) for column in range(columns)]
    size = sum(heights) + gap * (len(rows) - 1), sum(widths) + gap * (columns - 1)
    if max(size) > LONGEST_SIDE:
        raise ValueError(
            f"expected sides of at most {LONGEST_SIDE} pixels, found {size[1]}x{size[0]}. Use fewer or smaller pictures"
        )
    sheet = torch.tensor([part / 255 for part in rgb(background)]).repeat(*size, 1)  # (H', W', 3)
    top = 0
    for row, height in zip(rows, heights, strict=True):
        left = 0
        for picture, width in zip(row, widths, strict=False):
            y, x = top + (height - picture.shape[0]) // 2, left + (width - picture.shape[1]) // 2
            sheet[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
            left += width + gap
        top += height + gap
    return sheet


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue of a colour, each from 0 to 255. Raises ValueError for an unknown colour."""
    from PIL import ImageColor

    try:
        return ImageColor.getrgb(colour)[:3]
    except ValueError as error:
        raise ValueError(f"expected a colour such as 'white' or '#ff8800', found {colour!r}. Name another one") from error
