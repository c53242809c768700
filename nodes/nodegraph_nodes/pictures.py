"""Pictures as numbers: reading files, and laying pictures and text out for people to compare."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from nodegraph import Run

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from torch import Tensor

LONGEST_SIDE: Final = 32_768
"""The longest side of a picture that is made here, in pixels."""

FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""The formats that are read, whatever a file is called. Pillow would try others, too: for EPS it starts Ghostscript."""


def read_picture(path: Path, run: Run) -> tuple[Tensor, Tensor]:
    """Pixels (1, H, W, 3) and opacity (1, H, W) of a picture file, float32 in [0, 1], turned upright.

    If the file holds several pictures, the first one is returned, with a notice. Raises ValueError if the file is not a picture,
    is damaged, or has more than 179 million pixels.
    """
    return colours_and_opacity(_open(path, run), f"the picture {path}")


def colours_and_opacity(picture: Picture, name: str) -> tuple[Tensor, Tensor]:
    """Pixels (1, H, W, 3) and opacity (1, H, W) of a picture, float32 in [0, 1]. Errors call it `name`."""
    import numpy as np
    import torch

    if picture.mode == "F" or picture.mode.startswith("I"):  # when these are converted, libraries keep only the lowest 8 bits
        grey = _grey_values(picture, name)[None]
        transparent = picture.info.get("transparency")
        opacity = torch.ones_like(grey) if transparent is None else (grey != transparent / 65535).float()
        return grey[..., None].expand(-1, -1, -1, 3).contiguous(), opacity
    planes = torch.from_numpy(np.array(picture.convert("RGBA"))).float()[None] / 255  # (1, H, W, 4)
    return planes[..., :3].contiguous(), planes[..., 3].contiguous()


def _open(path: Path, run: Run) -> Picture:
    """The first picture in a file, upright. Raises ValueError as `read_picture` does."""
    from PIL import Image as pillow
    from PIL import ImageOps, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin  # noqa: F401 (these add their formats)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pillow.DecompressionBombWarning)  # above twice this size, it is an error
            with pillow.open(path, formats=FORMATS) as picture:
                several = getattr(picture, "is_animated", False)
                picture.load()
                upright = ImageOps.exif_transpose(picture)
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is not a picture that can be read. Give a PNG, JPEG, WebP, GIF, BMP, TIFF or PPM file") from error
    except pillow.DecompressionBombError as error:
        raise ValueError(f"the picture {path} is too large ({error}). Scale it down first") from error
    except MemoryError:
        raise
    except Exception as error:  # decoders raise many kinds of errors for damaged files
        raise ValueError(f"the picture {path} cannot be read: {error}. Copy or save it again") from error
    if several:
        run.notice(f"{path.name} holds several pictures: the first one is used")
    return upright


def _grey_values(picture: Picture, name: str) -> Tensor:
    """The values of a grey picture with 16 bits or with floating-point values from 0 to 1: (H, W), float32 in [0, 1]."""
    import numpy as np
    import torch

    values = torch.from_numpy(np.asarray(picture).astype(np.float32))
    white = 1.0 if picture.mode == "F" else 65535.0
    if not (values.min() >= 0 and values.max() <= white):
        found = f"{values.min():g} to {values.max():g}"
        raise ValueError(f"{name}: expected grey values from 0 to {white:g}, found {found}. Save it as a PNG file")
    return values / white


def resize_pictures(pixels: Tensor, size: tuple[int, int], method: Literal["nearest", "bilinear", "bicubic", "area"]) -> Tensor:
    """Pictures (B, H, W, 3) at another `size` (height, width). Raises ValueError if a side is too long."""
    import torch.nn.functional as F

    height, width = size
    if max(size) > LONGEST_SIDE:
        raise ValueError(f"expected sides of at most {LONGEST_SIDE} pixels, found {width}x{height}. Choose a smaller scale")
    smooth = {"antialias": True} if method in ("bilinear", "bicubic") else {}
    mode = "nearest-exact" if method == "nearest" else method
    planes = pixels.permute(0, 3, 1, 2)  # (B, 3, H, W)
    return F.interpolate(planes, size=size, mode=mode, **smooth).permute(0, 2, 3, 1).clamp(0, 1).contiguous()


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
    line = shown = " ".join(text.split())[: width + 1]  # no letter is narrower than a pixel
    while line and draw.textlength(shown, font) > width:
        line = line[:-1]
        shown = f"{line.rstrip()}..."
    draw.text((width / 2, band.height / 2), shown if line else "", fill=rgb(colour), font=font, anchor="mm")
    return torch.from_numpy(np.array(band)).float() / 255


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
