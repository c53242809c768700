"""Kitty's graphics protocol, which Ghostty and others have, too (https://sw.kovidgoyal.net/kitty/graphics-protocol/)."""

from __future__ import annotations

import base64
import itertools
from typing import TYPE_CHECKING, Final

from nodegraph_nodes.pictures.inline.png import as_png

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_CHUNK: Final = 4096  # bytes of a command: the most that the protocol allows

_FIRST: Final = "a=T,f=100,q=2,"  # transmit and show, a PNG file, answer nothing: answers would be in the input


def encode(picture: Picture) -> str:
    """The text that shows a picture pixel by pixel where the cursor is."""
    data = base64.b64encode(as_png(picture)).decode()
    starts = range(0, len(data), _CHUNK)
    return "".join(
        f"\x1b_G{first}m={int(start + _CHUNK < len(data))};{data[start : start + _CHUNK]}\x1b\\"
        for first, start in zip(itertools.chain([_FIRST], itertools.repeat("")), starts, strict=False)
    )
