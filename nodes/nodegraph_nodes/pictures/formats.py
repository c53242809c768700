"""The picture formats that outputs are written in, each with a place for texts beside the pixels."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final, Protocol

from nodegraph.plugin_api import dataclass

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_LONGEST_SIDES: Final = {"JPEG": 65_500, "WEBP": 16_383}
"""Pixels that libjpeg and libwebp can write along a side."""


class PictureFormat(Protocol):
    """How a picture becomes a file, and how texts go into the file and out of it again."""

    def encode(self, picture: Picture) -> bytes:
        """The content of the file, without texts."""

    def embed(self, data: bytes, texts: Mapping[str, str]) -> bytes:
        """The file with `texts` in it, each under its name."""

    def extract(self, data: bytes) -> tuple[bytes, dict[str, str]]:
        """The file as it was before `embed`, and the texts. May raise for a file of another program."""


@dataclass(frozen=True)
class Png:
    """PNG, without loss; texts are iTXt chunks after the header (PNG specification, 11.3.3.4)."""

    def encode(self, picture: Picture) -> bytes:
        return _saved(picture, "PNG")

    def embed(self, data: bytes, texts: Mapping[str, str]) -> bytes:
        (length,) = struct.unpack(">I", data[8:12])
        end = 8 + 12 + length  # of IHDR, which is always the first chunk
        return data[:end] + b"".join(_text_chunk(key, text) for key, text in texts.items()) + data[end:]

    def extract(self, data: bytes) -> tuple[bytes, dict[str, str]]:
        position, chunks, texts = len(_PNG), [data[: len(_PNG)]], {}
        if chunks != [_PNG]:
            raise ValueError("expected a PNG file")
        while position < len(data):
            (length,) = struct.unpack(">I", data[position : position + 4])
            chunk = data[position : position + 12 + length]
            position += len(chunk)
            key, _, text = chunk[8:-4].partition(b"\0\0\0\0\0")
            if chunk[4:8] == b"iTXt" and text:
                texts[key.decode("latin-1")] = text.decode()
            else:
                chunks.append(chunk)
        return b"".join(chunks), texts


@dataclass(frozen=True)
class Jpeg:
    """JPEG with full colour resolution; texts are comments (ITU T.81, B.2.4.5), long ones in several parts."""

    quality: int = 90

    _COMMENT = b"\xff\xfe"
    _LONGEST = 65_000  # a segment has at most 65,533 bytes

    def encode(self, picture: Picture) -> bytes:
        return _saved(picture, "JPEG", quality=self.quality, subsampling=0, optimize=True)

    def embed(self, data: bytes, texts: Mapping[str, str]) -> bytes:
        segments = []
        for key, text in texts.items():
            content = text.encode()
            for start in range(0, max(len(content), 1), self._LONGEST):
                body = key.encode("latin-1") + b"\0" + content[start : start + self._LONGEST]
                segments.append(self._COMMENT + struct.pack(">H", len(body) + 2) + body)
        return data[:2] + b"".join(segments) + data[2:]

    def extract(self, data: bytes) -> tuple[bytes, dict[str, str]]:
        if data[:2] != b"\xff\xd8":
            raise ValueError("expected a JPEG file")
        position, parts = 2, dict[str, bytes]()
        while data[position : position + 2] == self._COMMENT:
            (length,) = struct.unpack(">H", data[position + 2 : position + 4])
            key, _, content = data[position + 4 : position + 2 + length].partition(b"\0")
            name = key.decode("latin-1")
            parts[name] = parts.get(name, b"") + content
            position += 2 + length
        return data[:2] + data[position:], {name: content.decode() for name, content in parts.items()}


@dataclass(frozen=True)
class WebP:
    """WebP, lossy or `lossless`; texts are in its XMP data."""

    quality: int = 90
    lossless: bool = False

    def encode(self, picture: Picture) -> bytes:
        return _saved(picture, "WEBP", quality=self.quality, lossless=self.lossless, xmp=_xmp({}))

    def embed(self, data: bytes, texts: Mapping[str, str]) -> bytes:
        return self._with_xmp(data, _xmp(texts))

    def extract(self, data: bytes) -> tuple[bytes, dict[str, str]]:
        content = next(content for name, content in self._chunks(data) if name == b"XMP ").decode()
        found = re.findall(r'<nodegraph:text name="([^"]*)">([^<]*)</nodegraph:text>', content)
        return self._with_xmp(data, _xmp({})), {_unescaped(name): _unescaped(text) for name, text in found}

    def _with_xmp(self, data: bytes, xmp: bytes) -> bytes:
        body = b"WEBP"
        for name, content in self._chunks(data):
            shown = xmp if name == b"XMP " else content
            body += name + struct.pack("<I", len(shown)) + shown + bytes(len(shown) % 2)
        return b"RIFF" + struct.pack("<I", len(body)) + body

    def _chunks(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
            raise ValueError("expected a WebP file")
        position = 12
        while position + 8 <= len(data):
            (length,) = struct.unpack("<I", data[position + 4 : position + 8])
            yield data[position : position + 4], data[position + 8 : position + 8 + length]
            position += 8 + length + length % 2


FORMATS: Final[Mapping[str, type[Png] | type[Jpeg] | type[WebP]]] = {".png": Png, ".jpg": Jpeg, ".jpeg": Jpeg, ".webp": WebP}
"""The formats of outputs, by the extension of the file."""


def picture_format(extension: str, options: Mapping[str, Any]) -> PictureFormat:
    """The format with this extension and these options. Raises ValueError if there is none, or an option does not fit."""
    kind = FORMATS.get(extension)
    if kind is None:
        *others, last = FORMATS
        raise ValueError(f"this output is written as {', '.join(others)} or {last}, found {extension}")
    known = {field.name: field.default for field in fields(kind)}
    for name, value in options.items():
        if name not in known:
            listed = " and ".join(known) or "no options"
            raise ValueError(f"a {extension} file has {listed}, found {name}. Leave it out")
        expected = "true or false" if isinstance(known[name], bool) else "a whole number from 1 to 100"
        fits = isinstance(value, bool) if isinstance(known[name], bool) else type(value) is int and 1 <= value <= 100
        if not fits:
            raise ValueError(f"{name}: expected {expected}, found {value!r}. Correct it, or leave it out")
    return kind(**options)


def _saved(picture: Picture, format: str, **options: Any) -> bytes:
    """The content of a file of this format. Raises ValueError if the picture is too large for it."""
    longest = _LONGEST_SIDES.get(format)
    if longest is not None and max(picture.size) > longest:
        width, height = picture.size
        raise ValueError(f"expected sides of at most {longest} pixels, found {width}x{height}. Save it as a PNG file")
    buffer = io.BytesIO()
    picture.save(buffer, format=format, **options)
    return buffer.getvalue()


def _text_chunk(key: str, text: str) -> bytes:
    body = b"iTXt" + key.encode("latin-1") + b"\0\0\0\0\0" + text.encode()  # not compressed, no language, key not translated
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def _xmp(texts: Mapping[str, str]) -> bytes:
    """XMP data (ISO 16684-1) with these texts."""
    listed = "".join(f'<nodegraph:text name="{_escaped(name)}">{_escaped(text)}</nodegraph:text>' for name, text in texts.items())
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" xmlns:nodegraph="urn:nodegraph">{listed}</rdf:Description></rdf:RDF></x:xmpmeta>'
    ).encode()


_ENTITIES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}


def _escaped(text: str) -> str:
    for character, entity in _ENTITIES.items():
        text = text.replace(character, entity)
    return text


def _unescaped(text: str) -> str:
    for character, entity in reversed(_ENTITIES.items()):
        text = text.replace(entity, character)
    return text
