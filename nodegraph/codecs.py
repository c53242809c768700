"""How values become bytes and come back: one codec for each port type that can be stored.

The engine stores numbers, text, booleans, lists and mappings as JSON; a pack registers codecs for its own types. A type
without a codec (a loaded model) lives in memory only.
"""

from __future__ import annotations

import hashlib
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from nodegraph.errors import PluginError
from nodegraph.registry import Origin


class Codec(Protocol):
    """How the values of one port type are stored and exported."""

    name: str  # part of the record of what was stored
    suffix: str  # of the stored file, with its dot
    extension: str  # of an exported file, with its dot

    def digest(self, value: Any) -> str:
        """SHA-256, in hex, over type, dtype, shape and raw bytes: equal values, equal digests."""

    def save(self, value: Any, path: Path) -> None:
        """Write `value` to the new file `path`, without loss."""

    def load(self, path: Path) -> Any:
        """What `save` wrote, mapped into memory where it can be."""

    def export(self, value: Any) -> list[bytes]:
        """The files that a person gets, one for each picture of a batch, without metadata."""

    def embed(self, data: bytes, metadata: Mapping[str, str]) -> bytes:
        """An exported file with `metadata` inside it; `data` itself where the format has no place for it."""

    def check(self, value: Any) -> str | None:
        """What is wrong with `value` (NaN, Inf), or None."""

    def size(self, value: Any) -> int:
        """Bytes that `value` takes in memory."""


class JSONCodec:
    """Numbers, text, booleans, lists and mappings of these."""

    name = "json"
    suffix = ".json"
    extension = ".json"

    def digest(self, value: Any) -> str:
        return hashlib.sha256(b"json\0" + self._encode(value)).hexdigest()

    def save(self, value: Any, path: Path) -> None:
        path.write_bytes(self._encode(value))

    def load(self, path: Path) -> Any:
        return json.loads(path.read_bytes())

    def export(self, value: Any) -> list[bytes]:
        return [json.dumps(value, ensure_ascii=False, indent=2).encode() + b"\n"]

    def embed(self, data: bytes, metadata: Mapping[str, str]) -> bytes:
        return data

    def check(self, value: Any) -> str | None:
        try:
            encoded = self._encode(value)
        except (TypeError, ValueError) as error:
            return f"it cannot be written as JSON ({error})"
        return None if json.loads(encoded) == value else "JSON would change it (tuples and keys that are no text do not survive)"

    def size(self, value: Any) -> int:
        return len(self._encode(value))

    @staticmethod
    def _encode(value: Any) -> bytes:
        return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


_JSON_TYPES = (bool, int, float, str, list, dict)


class Codecs:
    """The codecs there are, by port type and by name."""

    def __init__(self) -> None:
        self._by_type: dict[type, tuple[Codec, Origin]] = {}
        origin = Origin("nodegraph", "0")
        for kind in _JSON_TYPES:
            self._by_type[kind] = (_JSON, origin)

    def add(self, kind: type, codec: Codec, origin: Origin) -> None:
        """Store values of `kind` by `codec`. Raises PluginError if the type has a codec or the codec's name is taken."""
        if kind in self._by_type:
            raise PluginError(
                f"[E301] plugin '{origin.plugin}' registers a codec for {kind.__name__}, which has one from "
                f"'{self._by_type[kind][1].plugin}'"
            )
        for other, (known, known_origin) in self._by_type.items():
            if known.name == codec.name and known is not codec:
                raise PluginError(
                    f"[E301] plugin '{origin.plugin}' registers a codec called '{codec.name}' for {kind.__name__}; "
                    f"'{known_origin.plugin}' has one of that name for {other.__name__}. Rename one"
                )
        self._by_type[kind] = (codec, origin)

    def for_type(self, kind: Any) -> Codec | None:
        """The codec for a port type, or None where its values live in memory only."""
        kind = _without_none(kind)
        kind = typing.get_origin(kind) or kind
        for base in getattr(kind, "__mro__", ()):
            if base in self._by_type:
                return self._by_type[base][0]
        return None

    def by_name(self, name: str) -> Codec | None:
        return next((codec for codec, _ in self._by_type.values() if codec.name == name), None)


_JSON = JSONCodec()


def _without_none(kind: Any) -> Any:
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        parts = [part for part in typing.get_args(kind) if part is not type(None)]
        return parts[0] if len(parts) == 1 else kind
    return kind
