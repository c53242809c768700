"""A decoder of sixel graphics, written from DEC's manual, as small as tests need it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_TOKEN = re.compile(r'"(?P<raster>[\d;]*)|#(?P<colour>[\d;]+)|!(?P<count>\d+)(?P<repeated>[?-~])|(?P<one>[?-~])|(?P<move>[$-])')


@dataclass(frozen=True)
class Sixel:
    """A decoded picture: `pixels` (H, W, 3) in percent, -1 where nothing was drawn, and its number of colours."""

    pixels: NDArray[np.int64]
    colours: int


def decode_sixel(text: str) -> Sixel:
    """Draw the text between `ESC P ... q` and `ESC \\`. Raises ValueError for anything that is not in the format."""
    match = re.fullmatch("\x1bP[\\d;]*q(.*)\x1b\\\\", text, re.DOTALL)
    if match is None:
        raise ValueError("not one sixel picture")
    body, position = match[1], 0
    palette: dict[int, list[int]] = {}
    pixels = np.full((0, 0, 3), -1)
    x = top = colour = 0
    while position < len(body):
        token = _TOKEN.match(body, position)
        if token is None:
            raise ValueError(f"unexpected {body[position : position + 10]!r}")
        position = token.end()
        if token["raster"] is not None:
            _, _, width, height = map(int, token["raster"].split(";"))
            pixels = np.full((height, width, 3), -1)
        elif token["colour"] is not None:
            colour, *definition = map(int, token["colour"].split(";"))
            if definition:
                kind, *percent = definition
                if kind != 2 or len(percent) != 3 or not all(0 <= level <= 100 for level in percent):
                    raise ValueError(f"not a colour in RGB: {definition}")
                palette[colour] = percent
        elif token["move"] is not None:
            x, top = 0, top + (6 if token["move"] == "-" else 0)
        else:
            count, bits = int(token["count"] or 1), ord(token["repeated"] or token["one"]) - 63
            for row in range(6):
                if bits >> row & 1:
                    pixels[top + row, x : x + count] = palette[colour]  # outside of the picture is an error
            x += count
            if x > pixels.shape[1]:
                raise ValueError("a row is too long")
    return Sixel(pixels, len(palette))
