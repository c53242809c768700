"""How values become bytes and come back: one codec for each port type that can be stored.

The engine stores numbers, text, booleans, lists and mappings as JSON; a pack registers codecs for its own types. A type
without a codec (a loaded model) lives in memory only.
"""

from __future__ import annotations

import hashlib
import json
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from nodegraph.errors import PluginError
from nodegraph.plugins.registry import Origin


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
        """The contents of the files that a user gets, one for each item of a batch, without metadata."""

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
        if type(value) is int and abs(value) < _LONG:
            return None
        try:
            encoded = self._encode(value)
        except (TypeError, ValueError, RecursionError) as error:
            return f"it cannot be written as JSON ({error})"
        if type(value) in _SCALARS:
            return None
        return None if json.loads(encoded) == value else "JSON would change it (tuples and keys that are no text do not survive)"

    def size(self, value: Any) -> int:
        return len(self._encode(value))

    @staticmethod
    def _encode(value: Any) -> bytes:
        return str(value).encode() if type(value) is int else _ENCODER.encode(value).encode()


class Codecs:
    """The codecs there are, by port type and by name."""

    def __init__(self) -> None:
        origin = Origin("nodegraph", "0")
        self._by_type: dict[type, tuple[Codec, Origin]] = dict.fromkeys(_JSON_TYPES, (_JSON, origin))
        self._of_class: dict[type, Codec | None] = {}  # what was found before

    def add(self, kind: Any, codec: Codec, origin: Origin) -> None:
        """Store values of `kind` by `codec`. Raises PluginError if the type has a codec or the codec's name is taken."""
        who = f"plugin '{origin.plugin}' ({origin.place}) registers a codec"
        if not isinstance(kind, type):
            raise PluginError(f"[E302] {who} for {kind!r}, which is no class. Expected register(type, codec)")
        if kind in self._by_type:
            owner = self._by_type[kind][1].plugin
            raise PluginError(f"[E301] {who} for {kind.__name__}, which has one from '{owner}'. Remove one")
        for other, (known, known_origin) in self._by_type.items():
            if known.name == codec.name and known is not codec:
                raise PluginError(
                    f"[E301] {who} called '{codec.name}' for {kind.__name__}; '{known_origin.plugin}' has one for "
                    f"{other.__name__}. Rename one"
                )
        self._by_type[kind] = (codec, origin)
        self._of_class.clear()

    def for_type(self, kind: Any) -> Codec | None:
        """The codec for a port type, or None where its values live in memory only.

        Several types in one port (`int | str`) have a codec where they share it, and None beside a type takes the type's. A list
        or a mapping of values that are no JSON has none.
        """
        if isinstance(kind, type) and kind in self._of_class:
            return self._of_class[kind]
        origin = typing.get_origin(kind)
        if origin is None and isinstance(kind, type):
            self._of_class[kind] = next((self._by_type[base][0] for base in kind.__mro__ if base in self._by_type), None)
            return self._of_class[kind]
        arguments = typing.get_args(kind)
        if origin in (types.UnionType, typing.Union):
            return self._shared(part for part in arguments if part is not type(None))
        if origin is typing.Literal:
            return self._shared(map(type, arguments))
        if origin in (list, dict) and any(part is not Any and self.for_type(part) is not _JSON for part in arguments):
            return None
        return self.for_type(origin) if isinstance(origin, type) else None

    def never(self, kind: Any) -> bool:
        """Whether no value of a port of this type can be stored, whatever it turns out to be."""
        if not isinstance(kind, type) or kind in (object, Any) or self.for_type(kind) is not None:
            return False
        return not any(issubclass(stored, kind) for stored in self._by_type)

    def by_name(self, name: str) -> Codec | None:
        return next((codec for codec, _ in self._by_type.values() if codec.name == name), None)

    def _shared(self, kinds: Iterable[Any]) -> Codec | None:
        first, *others = [self.for_type(kind) for kind in kinds]
        return first if all(codec is first for codec in others) else None


_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
_SCALARS = (bool, int, float, str, type(None))  # these JSON never changes
_LONG = 1 << 64  # far longer whole numbers Python does not write down
_JSON = JSONCodec()
_JSON_TYPES = (bool, int, float, str, list, dict, type(None))
