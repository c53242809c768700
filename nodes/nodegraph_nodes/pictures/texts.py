"""Texts that programs write into picture files, by the names that they have in PNG files."""

from __future__ import annotations

import struct
import zlib
from typing import Final

from nodegraph_nodes.pictures.exif import USER_COMMENT, exif_texts

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_LONGEST: Final = 16 << 20  # bytes of a text
_KINDS: Final = (b"tEXt", b"zTXt", b"iTXt", b"comf")  # the last is ComfyUI's, in animated pictures


def texts_in(data: bytes) -> dict[str, str]:
    """The texts in a PNG, JPEG or WebP file; empty for other files. Damaged and very long ones are left out.

    In JPEG and WebP files, AUTOMATIC1111's program and Forge write the user comment of EXIF, and ComfyUI puts the name of a text
    before it: `prompt:{...}`.
    """
    if data.startswith(_PNG):
        return text_chunks(data)
    texts: dict[str, str] = {}
    for tag, text in exif_texts(data).items():
        name, colon, rest = text.partition(":")
        if tag == USER_COMMENT:
            texts["parameters"] = text
        elif colon and name.lower() in ("prompt", "workflow"):
            texts[name.lower()] = rest
    return texts


def text_chunks(png: bytes) -> dict[str, str]:
    """The texts in a PNG file by their keywords (PNG specification, 11.3.3). Damaged and very long ones are left out."""
    texts: dict[str, str] = {}
    position = len(_PNG) if png.startswith(_PNG) else len(png)
    while position + 8 <= len(png):
        (length,) = struct.unpack(">I", png[position : position + 4])
        kind, body = png[position + 4 : position + 8], png[position + 8 : position + 8 + length]
        position += 12 + length
        if kind not in _KINDS or len(body) < length or length > _LONGEST:
            continue
        key, _, rest = body.partition(b"\0")
        try:
            texts.setdefault(key.decode("latin-1"), _text(kind, rest))
        except (ValueError, zlib.error, IndexError):
            continue
    return texts


def _text(kind: bytes, rest: bytes) -> str:
    if kind in (b"tEXt", b"comf"):
        return _decoded(rest)
    if kind == b"zTXt":
        return _decoded(_inflated(rest[1:]))
    is_compressed = rest[0] == 1
    content = rest[2:].split(b"\0", 2)[2]
    return (_inflated(content) if is_compressed else content).decode()


def _decoded(content: bytes) -> str:
    """Text of a chunk that should be Latin-1; some programs write UTF-8 there."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _inflated(content: bytes) -> bytes:
    """Compressed text. Raises ValueError if it is very long, as a few bytes can stand for gigabytes."""
    inflate = zlib.decompressobj()
    found = inflate.decompress(content, _LONGEST)
    if inflate.unconsumed_tail:
        raise ValueError("a text that is too long")
    return found
