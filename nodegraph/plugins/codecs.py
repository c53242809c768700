"""Codecs: how values are stored and exported, one codec for each port type that can be stored.

The engine stores numbers, text, booleans, lists and mappings as JSON; a pack registers codecs for its own types. A type
without a codec (a loaded model) lives in memory only.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from nodegraph.errors import PluginError
from nodegraph.files import parse_json
from nodegraph.node_types.port_types import AnyType, Choices, Class, List, PortType, Union, parse
from nodegraph.node_types.port_types import Mapping as MappingType
from nodegraph.plugins.backend import CpuBackend
from nodegraph.plugins.codec import Codec
from nodegraph.plugins.list_codec import PREFIX, ListCodec, digests_bytes, list_digest
from nodegraph.plugins.registry import Origin
from nodegraph.plugins.state.known_state import KnownState
from nodegraph.text import described


class JSONCodec:
    """Numbers, text, booleans, lists and mappings of these."""

    name = "json"
    suffix = ".json"
    extension = ".json"

    def __repr__(self) -> str:
        return "<codec json>"

    def digest(self, value: Any) -> str:
        return self.digest_of(self.encode(value))

    def digest_of(self, data: bytes) -> str:
        """The digest of the value that `encode` made `data` of."""
        return hashlib.sha256(b"json\0" + data).hexdigest()

    def save(self, value: Any, path: Path) -> None:
        path.write_bytes(self.encode(value))

    def load(self, path: Path) -> Any:
        return parse_json(path.read_bytes())

    def export(self, value: Any) -> list[bytes]:
        return [json.dumps(value, ensure_ascii=False, indent=2).encode() + b"\n"]

    def embed(self, data: bytes, metadata: Mapping[str, str]) -> bytes:
        return data

    def extract(self, data: bytes) -> tuple[bytes, Mapping[str, str]]:
        return data, {}

    def convert(self, value: Any) -> Any:
        return None

    def check(self, value: Any) -> str | None:
        if type(value) is int and abs(value) < _LONG:
            return None
        try:
            encoded = self.encode(value)
        except (TypeError, ValueError, RecursionError) as error:
            return f"it cannot be written as JSON ({error})"
        if type(value) in _SCALARS:
            return None
        return None if parse_json(encoded) == value else "JSON would change it (tuples, and keys that are not text, do not survive)"

    def size(self, value: Any) -> int:
        return len(self.encode(value))

    def encode(self, value: Any) -> bytes:
        """The value as JSON."""
        return str(value).encode() if type(value) is int else _ENCODER.encode(value).encode()

    def decode(self, data: bytes) -> Any:
        return parse_json(data)


def is_scalar(value: Any) -> bool:
    """Whether `value` is a number, text, a boolean or None, which cannot be changed."""
    return type(value) in _SCALARS


class _InKnownState:
    """A codec of a plugin whose methods run in the known state, whoever calls them."""

    def __init__(self, codec: Codec, state: KnownState) -> None:
        self._codec, self._state = codec, state

    def __repr__(self) -> str:
        return f"<codec {self._codec.name} in the known state>"

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._codec, name)
        if name == "in_format":
            return functools.partial(self._in_format, found)
        return functools.partial(self._state.call, found) if name in _METHODS else found

    def _in_format(self, in_format: Any, *arguments: Any) -> Any:
        codec = self._state.call(in_format, *arguments)
        return self if codec is self._codec else _InKnownState(codec, self._state)


_METHODS = frozenset(("digest", "save", "load", "encode", "decode", "export", "embed", "extract", "convert", "check", "size"))


class Codecs:
    """The registered codecs, by port type and by name.

    `state`: the state of the process in which codecs of plugins run.
    """

    def __init__(self, state: KnownState | None = None) -> None:
        self.json = _JSON
        self.known_state = state or KnownState(CpuBackend)
        self._own: dict[int, tuple[Codec, Codec]] = {}  # by the id of a registered codec: it, and the one that runs it
        origin = Origin("nodegraph", "0")
        self._by_type: dict[type, tuple[Codec, Origin]] = dict.fromkeys(_JSON_TYPES, (_JSON, origin))
        self._of_class: dict[type, Codec | None] = {}  # a cache for for_type
        self._stored_names: dict[int, str] = {id(_JSON): _JSON.name}  # by the codec's id
        self._by_stored_name: dict[str, Codec] = {_JSON.name: _JSON}
        self._lists: dict[int, ListCodec] = {}  # by the id of the codec of the items

    def __repr__(self) -> str:
        return f"<Codecs: {', '.join(sorted({codec.name for codec, _ in self._by_type.values()}))}>"

    def add(self, kind: Any, codec: Codec, origin: Origin) -> None:
        """Store values of `kind` with `codec`. Raises PluginError if the type has a codec or the codec's name is taken."""
        who = f"plugin '{origin.plugin}' ({origin.place}) registers a codec"
        if not isinstance(kind, type):
            raise PluginError(f"[E302] {who} for {described(kind)}, which is not a class. Expected register(type, codec)")
        if kind in self._by_type:
            owner = self._by_type[kind][1].plugin
            raise PluginError(f"[E301] {who} for {kind.__name__}, which has one from '{owner}'. Remove one")
        for other, (known, known_origin) in self._by_type.items():
            if known.name == codec.name and known is not self._in_known_state(codec):
                raise PluginError(
                    f"[E301] {who} called '{codec.name}' for {kind.__name__}; '{known_origin.plugin}' has one for "
                    f"{other.__name__}. Rename one"
                )
        codec = self._in_known_state(codec)
        self._by_type[kind] = (codec, origin)
        self._by_stored_name[self._stored_names.setdefault(id(codec), _stored_name(codec, origin.identity))] = codec
        self._of_class.clear()

    def add_code(self, code_of: Callable[[str], str]) -> None:
        """Let the stored names cover more code, which `code_of` returns by the name of a codec's plugin; "" for none."""
        for codec, origin in self._by_type.values():
            if codec is not _JSON and (code := code_of(origin.plugin)):
                self._by_stored_name.pop(self._stored_names[id(codec)], None)
                name = self._stored_names[id(codec)] = _stored_name(codec, f"{origin.identity} {code}")
                self._by_stored_name[name] = codec

    def remove(self, plugin: str) -> None:
        """Remove the codecs of the plugin of this name."""
        self._by_type = {kind: owned for kind, owned in self._by_type.items() if owned[1].plugin != plugin}
        codecs = {id(codec) for codec, _ in self._by_type.values()}
        self._by_stored_name = {name: codec for name, codec in self._by_stored_name.items() if id(codec) in codecs}
        self._of_class.clear()

    def _in_known_state(self, codec: Codec) -> Codec:
        """The codec that runs `codec` in the known state, always the same one; it is kept, so that its id stays its own."""
        if codec is _JSON or isinstance(codec, _InKnownState):
            return codec
        return self._own.setdefault(id(codec), (codec, cast(Codec, _InKnownState(codec, self.known_state))))[1]

    def for_type(self, kind: Any) -> Codec | None:
        """The codec for a port type; None if its values stay in memory.

        A union such as `int | str` has a codec if all its types have the same one; None beside a type has the type's. A list has
        one if its items have; a mapping, if they are stored as JSON.
        """
        if isinstance(kind, type) and kind in self._of_class:
            return self._of_class[kind]
        return self._codec(parse(kind))

    def convert(self, kind: Any, value: Any) -> Any:
        """A value of a port type made from another Python object, by the codec of one of its classes; None if no codec can.

        Raises ValueError as `Codec.convert` does.
        """
        for part in parse(kind).required_alternatives:
            codec = self._codec(part) if isinstance(part, Class) and not part.arguments else None
            convert = getattr(codec, "convert", None)
            converted = None if convert is None else convert(value)
            if converted is not None:
                return converted
        return None

    def for_value(self, value: Any, declared: Any = None) -> Codec | None:
        """The codec for `value`; None if it has no codec. An empty list has that of its `declared` type.

        A list has one if its items have one, all the same. A mapping has one only if everything in it is plain JSON.
        """
        codec = self.for_type(type(value)) if value is not None else _JSON
        if type(value) is not list:
            return None if codec is _JSON and not is_json(value) else codec
        if not value and declared is not None and isinstance(of_type := self.for_type(declared), ListCodec):
            return of_type
        return _JSON if is_json(value) else self._for_items(value)

    def _for_items(self, value: list[Any]) -> ListCodec | None:
        """The codec for a list of values of one codec, some of which may be None."""
        codecs = [self.for_value(item) for item in value if item is not None and not _is_empty(item)]
        first = codecs[0] if codecs else None
        if first is None or first is _JSON or any(codec is not first for codec in codecs):
            return None
        return self.list_of(first) if isinstance(first, ListCodec) or not any(map(_is_empty, value)) else None

    def list_of(self, item: Codec) -> ListCodec:
        """The codec of lists whose items have the codec `item`."""
        known = self._lists.get(id(item))
        if known is None:
            known = self._lists[id(item)] = ListCodec(item)
            self._stored_names[id(known)] = f"{PREFIX}{self.stored_name(item)}"
        return known

    def _codec(self, port_type: PortType) -> Codec | None:
        if isinstance(port_type, Union):
            return self._shared(port_type.required_alternatives)
        if isinstance(port_type, Choices):
            return self._shared(parse(type(value)) for value in port_type.values)
        if not isinstance(port_type, Class) or not isinstance(port_type.cls, type):
            return None
        if isinstance(port_type, List) and port_type.arguments:
            item = self._codec(port_type.item)
            if item is not None and item is not _JSON:
                return self.list_of(item)
        if isinstance(port_type, List | MappingType):
            stored = (isinstance(part, AnyType) or self._codec(part) is _JSON for part in port_type.arguments)
            return self._of_base(port_type.cls) if all(stored) else None
        return self._of_base(port_type.cls)

    def _of_base(self, cls: type) -> Codec | None:
        """The codec of the first base class that has one."""
        if cls not in self._of_class:
            self._of_class[cls] = next((self._by_type[base][0] for base in cls.__mro__ if base in self._by_type), None)
        return self._of_class[cls]

    def never(self, kind: Any) -> bool:
        """Whether the values of a port of this type are identified by the key of their node: the type has no codec.

        A value of a subclass that has one may be stored; it is identified in the same way.
        """
        return isinstance(kind, type) and kind not in (object, Any) and self.for_type(kind) is None

    def by_name(self, name: str) -> Codec | None:
        return next((codec for codec, _ in self._by_type.values() if codec.name == name), None)

    def stored_name(self, codec: Codec) -> str:
        """What a record calls a codec: its name and the state of its plugin's code, which may change what a file means."""
        return self._stored_names[id(codec)]

    def stored_name_of_type(self, kind: Any) -> str:
        """The name in records of the codec for a port type; "" if it has none, or that of JSON."""
        codec = self.for_type(kind)
        return "" if codec is None or codec is _JSON else self.stored_name(codec)

    def by_stored_name(self, name: str) -> Codec | None:
        """The codec that a record names; None if it is not installed, or with other code."""
        found = self._by_stored_name.get(name)
        if found is None and name.startswith(PREFIX):
            item = self.by_stored_name(name.removeprefix(PREFIX))
            return None if item is None else self.list_of(item)
        return found

    def extract(self, data: bytes, extension: str) -> Mapping[str, str]:
        """The metadata in an exported file with this extension; empty if no codec finds some. `data` may be any file."""
        for codec in dict.fromkeys(codec for codec, _ in self._by_type.values()):
            in_format = getattr(codec, "in_format", None)
            try:
                own = codec if codec.extension == extension else in_format(extension, {}) if in_format is not None else None
                texts = own.extract(data)[1] if own is not None else {}
            except Exception:  # it may be a file of any kind, or a damaged one
                continue
            if texts:
                return dict(texts)
        return {}

    def digest(self, codec: Codec, value: Any) -> str:
        """The digest of a value of a registered codec. With other code of the codec, it is another one."""
        if codec is _JSON:
            return _JSON.digest(value)
        if isinstance(codec, ListCodec):
            items = (_JSON if item is None or _is_empty(item) else codec.item for item in value)
            return list_digest(digests_bytes(map(self.digest, items, value)))
        return hashlib.sha256(f"{self.stored_name(codec)} {codec.digest(value)}".encode()).hexdigest()

    def _shared(self, port_types: Iterable[PortType]) -> Codec | None:
        first, *others = map(self._codec, port_types)
        return first if all(codec is first for codec in others) else None


def _stored_name(codec: Codec, code: str) -> str:
    return f"{codec.name} {hashlib.sha256(code.encode()).hexdigest()[:_CODE_LETTERS]}"


_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
_SCALARS = (bool, int, float, str, type(None))  # JSON never changes these
_CODE_LETTERS = 16  # of the hash of a plugin's code in the names of codecs
_LONG = 1 << 64  # Python refuses to write down whole numbers that are far longer
_JSON = JSONCodec()
_JSON_TYPES = (bool, int, float, str, list, dict, type(None))


def _is_empty(value: Any) -> bool:
    return type(value) is list and not value


def is_json(value: Any) -> bool:
    """Whether `value` and everything in it is of a type that JSON has."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
        elif not isinstance(item, bool | int | float | str | None):
            return False
    return True
