"""How a file begins that may hold a graph. Most files do not, so nothing that reads graphs is imported for them."""

from __future__ import annotations

from typing import Final

_PNG: Final = b"\x89PNG\r\n\x1a\n"


def is_picture(data: bytes) -> bool:
    """Whether a file is a PNG file, whose texts may hold a graph."""
    return data.startswith(_PNG)


def may_be_graph(data: bytes) -> bool:
    """Whether a file may hold a graph: it is a picture, or may be JSON."""
    return is_picture(data) or data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")
