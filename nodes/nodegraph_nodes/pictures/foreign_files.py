"""Files of other programs that people give to nodegraph instead of a workflow: what they are, and what to do instead."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from nodegraph_nodes.pictures.texts import texts_in

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_PICTURES: Final = {
    "nodegraph": (
        "a picture made by nodegraph, and damaged, so that the workflow in it cannot be read. Take a copy as it was written"
    ),
    "parameters": (
        "a picture made by AUTOMATIC1111's program or a similar one, not a workflow. 'nodegraph show' prints the prompt "
        "and the settings in it: give them to a workflow with --set"
    ),
}


def describe_foreign_file(data: bytes) -> str | None:
    """How the sentence "FILE is ..." goes on for a picture with settings inside; None for other files."""
    keywords = set(_keywords(data) if data.startswith(_PNG) else texts_in(data))
    return next((text for keyword, text in _PICTURES.items() if keyword in keywords), None)


def _keywords(png: bytes) -> Iterator[str]:
    """The keywords of the text chunks of a PNG file, also of damaged ones."""
    position = len(_PNG)
    while position + 8 <= len(png):
        (length,) = struct.unpack(">I", png[position : position + 4])
        if png[position + 4 : position + 8] in (b"tEXt", b"iTXt", b"zTXt"):
            yield png[position + 8 : position + 8 + min(length, 80)].partition(b"\0")[0].decode("latin-1")
        position += 12 + length
