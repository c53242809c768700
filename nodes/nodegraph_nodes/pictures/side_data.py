"""The pixels of a picture file without what is stored beside them: EXIF, colour profiles, texts, thumbnails."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Iterator
from typing import Final

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_PNG_PIXELS: Final = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS"})
_WEBP_PIXELS: Final = frozenset({b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF"})
_WEBP_FLAGS: Final = {b"ICCP": 0x20, b"EXIF": 0x08, b"XMP ": 0x04}

_JPEG: Final = b"\xff\xd8"
_JPEG_PIXELS: Final = (0xE0, 0xEE)  # JFIF and Adobe say how colours are stored
_JPEG_SIDE: Final = (*range(0xE0, 0xF0), 0xFE)
_START_OF_SCAN: Final = 0xDA

_ATTEMPTS: Final = (
    (("EXIF", "ICC"), "a text or other data beside its pixels is damaged and ignored"),
    (("EXIF",), "its colour profile cannot be read, so its colours are read as sRGB"),
    (("ICC",), "its EXIF data cannot be read, so the picture is not turned"),
    ((), "its EXIF data and its colour profile cannot be read: the picture is not turned, and its colours are read as sRGB"),
)
_PNG_NAMES: Final = {"EXIF": b"eXIf", "ICC": b"iCCP"}
_WEBP_NAMES: Final = {"EXIF": b"EXIF", "ICC": b"ICCP"}
_JPEG_MARKERS: Final = {"EXIF": 0xE1, "ICC": 0xE2}


def without_side_data(data: bytes) -> Iterator[tuple[bytes, str]]:
    """The picture file with less and less beside its pixels, and what is missing then. The bytes of the pixels are the same.

    Nothing for a format whose side data cannot stop a reader.
    """
    for wanted, missing in _ATTEMPTS:
        if data.startswith(_PNG):
            yield _png(data, _PNG_PIXELS | {_PNG_NAMES[name] for name in wanted}), missing
        elif data.startswith(_JPEG):
            yield _jpeg(data, (*_JPEG_PIXELS, *(_JPEG_MARKERS[name] for name in wanted))), missing
        elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            yield _webp(data, _WEBP_PIXELS | {_WEBP_NAMES[name] for name in wanted}), missing


def _png(data: bytes, wanted: Collection[bytes]) -> bytes:
    """The chunks named in `wanted` (PNG specification, 5.3), with those of the pixels in one piece.

    A wrong checksum is corrected only for chunks that decoders may skip: the first letter of their name is small.
    """
    chunks: list[bytes] = []
    pixels: list[bytes] = []
    position = len(_PNG)
    while position + 8 <= len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        name, chunk = data[position + 4 : position + 8], data[position : position + 12 + length]
        position += 12 + length
        if name in wanted and name[:1].islower():
            body = chunk[4 : 8 + length]
            chunk = chunk[:4] + body + struct.pack(">I", zlib.crc32(body))
        if name in wanted:
            (pixels if name in (b"IDAT", b"IEND") else chunks).append(chunk)
        if name == b"IEND":
            break
    return _PNG + b"".join(chunks) + b"".join(pixels)


def _jpeg(data: bytes, wanted: Collection[int]) -> bytes:
    """The segments before the first scan whose markers are no side data, or in `wanted`; the scans as they are (ITU T.81, B.1)."""
    segments = [_JPEG]
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker, (length,) = data[position + 1], struct.unpack(">H", data[position + 2 : position + 4])
        if marker == 0xFF:  # padding
            position += 1
            continue
        if marker == _START_OF_SCAN:
            break
        if marker not in _JPEG_SIDE or marker in wanted:
            segments.append(data[position : position + 2 + length])
        position += 2 + length
    return b"".join(segments) + data[position:]


def _webp(data: bytes, wanted: Collection[bytes]) -> bytes:
    """The chunks named in `wanted` (WebP container specification), with a header that announces only these."""
    chunks: list[bytes] = []
    position = 12
    while position + 8 <= len(data):
        name = data[position : position + 4]
        (length,) = struct.unpack("<I", data[position + 4 : position + 8])
        chunk = data[position : position + 8 + length + length % 2]
        position += 8 + length + length % 2
        if name == b"VP8X":
            removed = sum(flag for side, flag in _WEBP_FLAGS.items() if side not in wanted)
            chunk = chunk[:8] + bytes([chunk[8] & ~removed]) + chunk[9:] if len(chunk) > 8 else chunk
        if name in wanted:
            chunks.append(chunk)
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body
