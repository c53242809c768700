"""Values as they were when their node returned them. `nodegraph.cache.taker` makes them.

A node's value is written to bytes once. Its digest is taken from these bytes, and every reader gets an object of its own that is
made of them. So nothing that the node, a reader or another thread does to an object changes what others compute from or what is
stored.

The bytes of a large value are a file that each reader maps into memory privately (copy on write), which copies nothing. The file is
a blob of the cache directory, or else an anonymous one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from nodegraph.cache.anonymous_files import AnonymousFile
from nodegraph.cache.store.records import StoredValue
from nodegraph.cache.store.store import LostResultError, Store
from nodegraph.files import parse_json
from nodegraph.node_types.item_ports import is_item, item_port, split_item
from nodegraph.plugins.codec import Codec
from nodegraph.plugins.codecs import JSONCodec, is_scalar

IN_MEMORY_BYTES: Final = 1 << 22
"""An anonymous file up to this size is kept as bytes: a process may have only so many files open."""


_NO_CODECS: Final[frozenset[str]] = frozenset()
_JSON: Final = JSONCodec()


class Snapshot:
    """A value as it was. `digest` is that of its codec, None without one; `size` is in bytes; `stored` says where it is on disk.

    `codecs` are the stored names of the codecs that readers get the value or its parts through, without that of JSON. `drew`: a
    codec drew from a global generator of random numbers, so the value may be another one next time.
    """

    digest: str | None = None
    size: int = 0
    stored: StoredValue | None = None
    codecs: frozenset[str] = _NO_CODECS
    drew: bool = False
    _items: Sequence[Snapshot] | None = None

    def open(self) -> Any:
        """The value, as an object of the reader's own. Raises LostResultError if it is gone or was changed."""
        raise NotImplementedError

    def items(self) -> Sequence[Snapshot]:
        """The snapshots of the items of a list. Raises LostResultError as `open` does, and TypeError if it is no list."""
        if self._items is None:
            value = self.open()
            if not isinstance(value, list):
                raise TypeError(f"expected a list, found {type(value).__name__}")
            self._items = [Text.of_item(item) for item in value]  # it is JSON: other lists have snapshots of their items
        return self._items

    def length(self) -> int:
        """The number of items of a list. Raises as `items` does."""
        value = self.open() if self._items is None else self._items
        if not isinstance(value, list):
            raise TypeError(f"expected a list, found {type(value).__name__}")
        return len(value)

    def stored_at(self, port: str) -> dict[str, StoredValue]:
        """Where the value of `port` is on disk, and each item of a list, by its port; nothing if it is not."""
        return {} if self.stored is None else {port: self.stored}

    def digests_at(self, port: str) -> dict[str, str]:
        """The digest of the value of `port`, and of each item of a list that is a value of its own."""
        return {} if self.digest is None else {port: self.digest}

    def is_sound(self) -> bool:
        """Whether the value is still as it was."""
        return True


def is_text(snapshot: Snapshot) -> bool:
    """Whether a value is stored as JSON."""
    return isinstance(snapshot, Text) or (snapshot.stored is not None and snapshot.stored.codec == _JSON.name)


def part_of(snapshot: Snapshot, indexes: Iterable[int]) -> Snapshot:
    """The snapshot of an item of a list, or of one inside it. Raises LostResultError if the list is shorter."""
    for index in indexes:
        items = snapshot.items()
        if index >= len(items):
            raise LostResultError(f"the list has {len(items)} items, and had more than {index} before")
        snapshot = items[index]
    return snapshot


def digests_of_items(ports: Iterable[str], snapshots: Mapping[str, Snapshot], digests: Mapping[str, str]) -> dict[str, str]:
    """The digests of the items of lists among `ports` that `digests` does not have, since these lists are stored as a whole."""
    found = {}
    for port in ports:
        if is_item(port) and port not in digests:
            base, indexes = split_item(port)
            if base in snapshots and digests.get(base) == snapshots[base].digest:
                digest = part_of(snapshots[base], indexes).digest
                if digest is not None:
                    found[port] = digest
    return found


class Encoded(Snapshot):
    """A small value, as the bytes that its codec makes of it. `stored` says where they are on disk, too.

    `value` is one that was made of the bytes, and that nothing else has: the first reader gets it.
    """

    def __init__(self, codec: Codec, data: bytes, value: Any, *, digest: str, stored: StoredValue | None) -> None:
        self._codec, self._data, self._unread = codec, data, [value]
        self.digest, self.size, self.stored = digest, len(data) + codec.size(value), stored

    def open(self) -> Any:
        try:
            return self._unread.pop()  # one of several threads gets it
        except IndexError:
            return self._codec.decode(self._data)


class Text(Snapshot):
    """A value of JSON. Numbers, text and booleans cannot be changed, so they are passed on as they are."""

    def __init__(self, value: Any, data: bytes, digest: str, stored: StoredValue | None) -> None:
        self._value, self._data, self.digest, self.stored, self.size = value, data, digest, stored, len(data)

    @classmethod
    def of_item(cls, value: Any) -> Text:
        """An item of a list of JSON, which is stored with the list."""
        data = _JSON.encode(value)
        return cls(value if is_scalar(value) else None, data, _JSON.digest_of(data), None)

    def open(self) -> Any:
        return parse_json(self._data) if self._value is None else self._value


class Blob(Snapshot):
    """A value in the cache directory. `on_failure` is called if it cannot be read any more."""

    def __init__(self, codec: Codec, store: Store, stored: StoredValue, *, on_failure: Callable[[], None] = lambda: None) -> None:
        self.stored, self.digest, self.size = stored, stored.digest, stored.size
        self._codec, self._store, self._blob, self._on_failure = codec, store, stored.blob, on_failure

    def open(self) -> Any:
        try:
            return self._store.read_blob(self._blob, self._codec.load)
        except Exception as error:
            self._on_failure()
            raise LostResultError(str(error)) from error


class Anonymous(Snapshot):
    """A value in a file without a name, which is gone with the snapshot; in memory if it is small."""

    def __init__(self, value: Any, codec: Codec) -> None:
        self._codec = codec
        self._file: AnonymousFile | None = AnonymousFile(lambda path: codec.save(value, path), codec.suffix)
        self._data = b""
        if self._file.path.stat().st_size <= IN_MEMORY_BYTES:
            self._data, self._file = self._file.path.read_bytes(), None

    def open(self) -> Any:
        file = self._file or AnonymousFile(lambda path: path.write_bytes(self._data), self._codec.suffix)
        return self._codec.load(file.path)


class Parts(Snapshot):
    """A list or mapping whose items are snapshots. `items` are those of a list."""

    def __init__(self, rebuild: Callable[[], Any], parts: Iterable[Snapshot], *, items: Sequence[Snapshot] | None = None) -> None:
        self._rebuild, self._parts, self._items = rebuild, tuple(parts), items
        self.codecs = _NO_CODECS.union(*(part.codecs for part in self._parts))
        self.size = sum(part.size for part in self._parts)
        self.drew = any(part.drew for part in self._parts)

    def open(self) -> Any:
        return self._rebuild()

    def is_sound(self) -> bool:
        return all(part.is_sound() for part in self._parts)


class Listed(Parts):
    """A list whose items have a codec. `stored` is where the digests of its items are; these are stored by themselves."""

    def __init__(self, items: Sequence[Snapshot], *, digest: str, stored: StoredValue | None) -> None:
        super().__init__(lambda: [item.open() for item in items], items, items=items)
        self.digest, self.stored = digest, stored

    def stored_at(self, port: str) -> dict[str, StoredValue]:
        found = super().stored_at(port)
        if found:
            for index, item in enumerate(self.items()):
                found |= item.stored_at(item_port(port, index))
        return found

    def digests_at(self, port: str) -> dict[str, str]:
        found = super().digests_at(port)
        for index, item in enumerate(self.items()):
            found |= item.digests_at(item_port(port, index))
        return found


class Copied(Snapshot):
    """A value that its codec failed to write: each reader gets a copy. Raises what `copy.deepcopy` raises."""

    def __init__(self, value: Any) -> None:
        self._value = copy.deepcopy(value)

    def open(self) -> Any:
        return copy.deepcopy(self._value)


class Live(Snapshot):
    """A value without a codec, such as a model: the object itself, which must not be changed in place.

    `version` returns what differs once it was changed; None if nothing tells.
    """

    def __init__(self, value: Any, version: Callable[[Any], Any]) -> None:
        self._value, self._version = value, version
        self._first_version = version(value)

    def open(self) -> Any:
        if not self.is_sound():
            raise LostResultError("it was changed in place")
        return self._value

    def is_sound(self) -> bool:
        return bool(self._version(self._value) == self._first_version)
