"""Sixel graphics of DEC's terminals (VT330/VT340 Programmer Reference Manual, volume 2, chapter 14).

A picture is drawn in bands of six rows. In each band, the columns of one colour are drawn after those of another: each is a
character whose six bits say which of its pixels have that colour. There is no library for this that is both small and well kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_COLOURS: Final = 256  # that today's terminals can show at once
_BAND: Final = 6
_ZERO: Final = 63  # the character of no pixel
_RUN: Final = re.compile(rb"(.)\1{3,}", re.DOTALL)  # four equal characters or more are shorter as a number and a character


def encode(picture: Picture) -> str:
    """The text that draws a picture (mode RGB) pixel by pixel where the cursor is, with at most 256 colours."""
    indexed = _with_palette(picture)
    palette = indexed.getpalette() or []
    colours = "".join(
        f"#{index};2;{';'.join(map(_percent, palette[3 * index : 3 * index + 3]))}" for index in sorted({*indexed.tobytes()})
    )
    bands = "-".join(_bands(indexed.tobytes(), picture.width))
    # 1: pixels that are not drawn stay as they are; raster attributes: square pixels, and the size
    return f'\x1bP0;1q"1;1;{picture.width};{picture.height}{colours}{bands}\x1b\\'


def _with_palette(picture: Picture) -> Picture:
    """The picture in its own colours if they are few, else in 256 that fit it, dithered."""
    from PIL import Image as pillow

    chosen = picture.quantize(_COLOURS, method=pillow.Quantize.MEDIANCUT)
    if picture.getcolors(_COLOURS) is not None:
        return chosen
    return picture.quantize(palette=chosen, dither=pillow.Dither.FLOYDSTEINBERG)


def _percent(level: int) -> str:
    return str(round(level * 100 / 255))


def _bands(indexes: bytes, width: int) -> Iterator[str]:
    """Each band of six rows: for each of its colours, the colour's number and its columns."""
    for start in range(0, len(indexes), _BAND * width):
        rows = [indexes[first : first + width] for first in range(start, min(start + _BAND * width, len(indexes)), width)]
        yield "$".join(f"#{colour}{_columns(rows, colour)}" for colour in sorted(set(b"".join(rows))))


def _columns(rows: list[bytes], colour: int) -> str:
    """The characters of one colour in a band."""
    bits = 0
    for row, content in enumerate(rows):  # all columns at once: a byte of the sum is a column
        marks = bytearray(256)
        marks[colour] = 1 << row
        bits |= int.from_bytes(content.translate(bytes(marks)))
    columns = bits.to_bytes(len(rows[0])).translate(_CHARACTERS).rstrip(b"?")
    return _RUN.sub(lambda run: b"!%d%c" % (len(run[0]), run[0][0]), columns).decode()


_CHARACTERS: Final = bytes(range(_ZERO, _ZERO + 64)) + bytes(192)
