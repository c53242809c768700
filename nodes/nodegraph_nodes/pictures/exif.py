"""Texts in the EXIF data of JPEG and WebP files (CIPA DC-008, which builds on TIFF 6.0)."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from typing import Final

USER_COMMENT: Final = 0x9286

_EXIF_ENTRIES: Final = 0x8769  # the tag with the position of a second list of entries
_BYTES: Final = (1, 2, 7)  # the types whose values are single bytes: numbers, ASCII, anything
_LONGEST: Final = 16 << 20  # bytes of all texts
_MARK: Final = b"Exif\0\0"
_WIDE: Final = b"UNICODE\0"
_NARROW: Final = (b"ASCII\0\0\0", bytes(8))


def exif_texts(data: bytes) -> dict[int, str]:
    """The texts in the EXIF data of a JPEG or WebP file, by tag; empty if there are none. Damaged ones are left out."""
    texts: dict[int, str] = {}
    for tiff in itertools.islice(_blocks(data), 1):
        order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
        if order is None:
            continue
        entries = [*_entries(tiff, _number(tiff, 4, order), order)]
        inner = [value for tag, kind, value in entries if tag == _EXIF_ENTRIES and kind == 4]
        for position in inner[:1]:
            entries += _entries(tiff, _number(position, 0, order), order)
        for tag, kind, value in entries:
            if kind in _BYTES:
                texts.setdefault(tag, _comment(value) if tag == USER_COMMENT else _text(value))
    return texts


def _blocks(data: bytes) -> Iterator[bytes]:
    """The EXIF data in a file: a block in the format of TIFF."""
    if data.startswith(b"\xff\xd8"):
        position = 2
        while data[position : position + 1] == b"\xff" and data[position + 1 : position + 2] != b"\xda":  # until the pixels
            if data[position + 1 : position + 2] == b"\xff":  # padding
                position += 1
                continue
            length = int.from_bytes(data[position + 2 : position + 4], "big")
            body = data[position + 4 : position + 2 + length]
            if data[position + 1 : position + 2] == b"\xe1" and body.startswith(_MARK):
                yield body.removeprefix(_MARK)
            position += 2 + length
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        position = 12
        while position + 8 <= len(data):
            length = int.from_bytes(data[position + 4 : position + 8], "little")
            if data[position : position + 4] == b"EXIF":
                yield data[position + 8 : position + 8 + length].removeprefix(_MARK)
            position += 8 + length + length % 2


def _entries(tiff: bytes, position: int, order: str) -> Iterator[tuple[int, int, bytes]]:
    """The tag, the type and the value of each entry of the list at `position`. Those that are cut off or long are left out."""
    left = _LONGEST  # many entries of a small file may stand for the same bytes
    count = int.from_bytes(tiff[position : position + 2], "little" if order == "<" else "big")
    for start in range(position + 2, min(position + 2 + 12 * count, len(tiff) - 11), 12):
        tag, kind, length = struct.unpack(f"{order}HHI", tiff[start : start + 8])
        value = tiff[start + 8 : start + 12]
        if kind in _BYTES:
            begin = start + 8 if length <= 4 else _number(value, 0, order)
            left -= length
            if begin + length > len(tiff) or left < 0:
                continue
            value = tiff[begin : begin + length]
        yield tag, kind, value


def _number(data: bytes, position: int, order: str) -> int:
    return int.from_bytes(data[position : position + 4], "little" if order == "<" else "big")


def _comment(value: bytes) -> str:
    """A user comment: eight bytes say how it is written. Programs differ in the order of the bytes of UTF-16."""
    code, content = value[:8], value[8:]
    if code == _WIDE:
        is_big = content[0::2].count(0) >= content[1::2].count(0)  # the first byte of most characters is 0
        return content.decode("utf-16-be" if is_big else "utf-16-le", errors="replace").strip("\0\ufeff")
    return _text(content if code in _NARROW else value)


def _text(value: bytes) -> str:
    """Text that should be ASCII; some programs write UTF-8 there."""
    value = value.strip(b"\0")
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
