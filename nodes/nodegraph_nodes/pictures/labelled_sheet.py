"""Contact sheets of sweeps: pictures in a grid with labels. Long labels are cut."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nodegraph_nodes.pictures.sheets import cut_text

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont
    from torch import Tensor

    from nodegraph.plugin_api import SheetLabels

LONGEST_SIDE: Final = 4096
"""How long the sides of the pictures on a sheet may be together, in pixels: larger pictures are reduced, but not below `_LEAST`."""

_SMALLEST, _LARGEST = 128, 1024  # pixels: smaller pictures are enlarged, larger ones reduced
_LEAST: Final = 72  # pixels: pictures are not reduced below this; 400 in a row fit into the 32,767 pixels that programs can show
_GAP: Final = 6
_WIDEST_LINE: Final = 360  # pixels: a narrow sheet is widened up to this for its title and the names of its sections
_BACKGROUND, _TEXT, _MISSING = "white", "black", "#d8d8d8"


def labelled_sheet(values: Iterable[Sequence[Picture]], labels: SheetLabels) -> Tensor:
    """A sheet (H, W, 3) of values, each of which is one or more pictures, or none if it is missing."""
    import numpy as np
    import torch

    count = len(labels.cells) or len(labels.rows) * labels.width or 1
    limit = max(_LEAST, min(_LARGEST, LONGEST_SIDE // max(labels.width, -(-count // labels.width))))
    cells = [_resized(_beside_each_other(pictures), limit) if pictures else None for pictures in values]
    return torch.from_numpy(np.array(_drawn(cells, labels))).float() / 255


def read_picture(path: Path) -> Picture:
    """The picture in a file. Raises ValueError."""
    from PIL import Image as pillow

    try:
        with pillow.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, SyntaxError) as error:  # Pillow raises both for files that it cannot read
        raise ValueError(f"{path.name} cannot be shown on a sheet. Expected a picture") from error


def _beside_each_other(pictures: Sequence[Picture]) -> Picture:
    from PIL import Image as pillow

    if len(pictures) == 1:
        return pictures[0].convert("RGB")
    size = sum(picture.width for picture in pictures) + 2 * (len(pictures) - 1), max(picture.height for picture in pictures)
    row, left = pillow.new("RGB", size, _BACKGROUND), 0
    for picture in pictures:
        row.paste(picture, (left, 0))
        left += picture.width + 2
    return row


def _resized(picture: Picture, limit: int) -> Picture:
    """A picture in the size of a cell, whose sides are at most `limit`."""
    from PIL import Image as pillow

    longest = max(picture.size)
    if longest <= limit:
        factor = max(1, min(-(-_SMALLEST // longest), limit // longest))
        return picture.resize((picture.width * factor, picture.height * factor), pillow.Resampling.NEAREST)
    size = max(1, round(picture.width * limit / longest)), max(1, round(picture.height * limit / longest))
    return picture.resize(size, pillow.Resampling.LANCZOS)


def _drawn(cells: Sequence[Picture | None], labels: SheetLabels) -> Picture:
    from PIL import Image as pillow
    from PIL import ImageDraw, ImageFont

    known = [picture for picture in cells if picture is not None]
    wide = max((picture.width for picture in known), default=_SMALLEST)
    high = max((picture.height for picture in known), default=_SMALLEST)
    size = max(11, min(18, wide // 10))
    font, line = ImageFont.load_default(size), round(1.6 * size)
    row_count = -(-len(cells) // labels.width)
    in_section = row_count // max(1, len(labels.sections))
    side = min(max((round(font.getlength(text)) for text in labels.rows), default=0), max(wide, 160)) + _GAP
    down = high + (line if labels.cells else 0) + _GAP
    head = _GAP + line * (bool(labels.title) + bool(labels.columns))
    start = _GAP + (side if labels.rows else 0)
    lines = max((round(font.getlength(text)) for text in (labels.title, *labels.sections)), default=0)
    width = max(start + labels.width * (wide + _GAP), min(lines, _WIDEST_LINE) + 2 * _GAP)
    sheet = pillow.new("RGB", (width, head + line * len(labels.sections) + row_count * down), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    lefts = [start + column * (wide + _GAP) for column in range(labels.width)]
    _write(draw, labels.title, (_GAP, _GAP, width - 2 * _GAP, line), font, centred=False)
    for left, text in zip(lefts, labels.columns, strict=False):
        _write(draw, text, (left, head - line, wide, line), font)
    top = head
    for row in range(row_count):
        if labels.sections and row % in_section == 0:
            _write(draw, labels.sections[row // in_section], (_GAP, top, width - 2 * _GAP, line), font, centred=False)
            top += line
        if labels.rows:
            _write(draw, labels.rows[row], (_GAP, top, side - _GAP, high), font, centred=False)
        for left, index in zip(lefts, range(row * labels.width, len(cells)), strict=False):
            picture = cells[index]
            if picture is None:
                draw.rectangle((left, top, left + wide - 1, top + high - 1), fill=_MISSING)
            else:
                sheet.paste(picture, (left + (wide - picture.width) // 2, top + (high - picture.height) // 2))
            if labels.cells:
                _write(draw, labels.cells[index], (left, top + high, wide, line), font)
        top += down
    return sheet


def _write(
    draw: ImageDraw, text: str, box: tuple[int, int, int, int], font: FreeTypeFont | ImageFont, *, centred: bool = True
) -> None:
    """Write one line of text into a box (left, top, width, height), cut to its width."""
    left, top, width, height = box
    x, anchor = (left + width / 2, "mm") if centred else (left, "lm")
    draw.text((x, top + height / 2), cut_text(text, width, font), fill=_TEXT, font=font, anchor=anchor)
