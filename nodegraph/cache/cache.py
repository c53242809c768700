"""From keys to results: a tier in memory over the store on disk.

A value that can be stored lives on disk and is read when it is wanted. What has no codec (a loaded model), and everything where
there is no cache directory, is held in memory for the life of the engine, within bounds.
"""

from __future__ import annotations

import copy
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Generic, NamedTuple, TypeVar

from nodegraph.cache.store.store import LostResultError, Record, Store, Stored, StoreInfo
from nodegraph.files import FileState, file_states
from nodegraph.plugins.codecs import Codec, Codecs

T = TypeVar("T")

MEMORY_BYTES: Final = 1 << 30
"""How much of storable values is held in memory where they cannot be stored; the least recently used go first."""

KEPT_WITHOUT_CODEC: Final = 8
"""How many nodes' results that cannot be stored, and whose size nobody knows, are held."""


class Made(NamedTuple):
    """What made a result: node type, workflow, node, how long it took, what it had to say, and on which kind of machine."""

    type: str
    workflow: str
    node: str
    seconds: float
    notices: tuple[str, ...] = ()
    machine: str = ""


class Hit(NamedTuple):
    """A result that is there: its content key, what made it, the digest of the value of each port, and what of it is on disk."""

    key: str
    made: Made
    digests: Mapping[str, str]
    stored: Mapping[str, Stored] = MappingProxyType({})


class _Held(NamedTuple):
    """Values in memory; `files` are what went into them, in the state that they were in."""

    values: Mapping[str, Any]
    digests: Mapping[str, str]
    made: Made
    files: Mapping[Path, FileState | None] = MappingProxyType({})


class Cache:
    """The results there are, by content key and port. May be asked from several threads."""

    def __init__(self, codecs: Codecs, store: Store | None, memory_bytes: int = MEMORY_BYTES) -> None:
        self.store = store
        self.codecs = codecs
        self._json = codecs.by_name("json")
        self._aliases: dict[str, str] = {}
        self._sized: _Recent[_Held] = _Recent(memory_bytes)
        self._codeless: _Recent[_Held] = _Recent(KEPT_WITHOUT_CODEC)
        self._unreadable: set[str] = set()
        self._lock = threading.RLock()

    def for_run(self, warn: Callable[[str], None]) -> Cache:
        """The same results as one run uses them: its warnings, uses and failures of the directory are its own."""
        cache = copy.copy(self)
        if self.store is not None:
            cache.store = self.store.for_run(warn)
        return cache

    def resolve(self, static: str) -> str | None:
        """The content key that a static key stands for, where that is known."""
        return self._aliases.get(static) or (self.store.alias(static) if self.store is not None else None)

    def alias(self, static: str, content: str) -> None:
        """Let `static` stand for `content` from now on."""
        if static == content or self._aliases.get(static) == content:
            return
        self._aliases[static] = content
        if self.store is not None and self.store.alias(static) != content:
            self.store.put_alias(static, content)

    def lookup(self, key: str, ports: Collection[str]) -> Hit | None:
        """What is known of the result of `key`, if all of `ports` can be loaded; else None. Counts as a use."""
        hit = self.peek(key, ports)
        if hit is not None and hit.stored and self.store is not None:
            self.store.touch(key)
        return hit

    def peek(self, key: str, ports: Collection[str] = ()) -> Hit | None:
        """As `lookup`, and counts as no use."""
        held = self._in_memory(key)
        if held is not None and not self._is_current(held, ports):
            held = None
        wanted = [port for port in ports if held is None or port not in held.values]
        if held is not None and not wanted:
            return Hit(key, held.made, held.digests)
        record = self.store.record(key) if self.store is not None and key not in self._unreadable else None
        if record is None or not all(self._loadable(record, port) for port in wanted):
            return None
        made = Made(record.type, record.workflow, record.node, record.seconds, record.notices, record.machine)
        return Hit(key, made, {port: stored.digest for port, stored in record.outputs.items()}, record.outputs)

    def load(self, key: str, port: str) -> Any:
        """The value of a port.

        Raises LostResultError if it is gone since `lookup` or cannot be read; `lookup` then no longer finds it.
        """
        held = self._in_memory(key)
        if held is not None and port in held.values:
            return held.values[port]
        try:
            stored = self.stored(key, port)
            codec = self.codec_of(stored) if stored is not None else None
            if stored is None or codec is None or self.store is None:
                raise LostResultError(f"there is no stored '{port}' under {key}")
            return codec.load(self.store.blob(stored.blob))
        except Exception as error:
            self._unreadable.add(key)
            raise LostResultError(str(error)) from error

    def stored(self, key: str, port: str) -> Stored | None:
        """How the value of a port is stored, or None where it is not."""
        record = self.store.record(key) if self.store is not None else None
        return record.outputs.get(port) if record is not None else None

    def digest(self, value: Any) -> str | None:
        """The digest of a value by its codec; None for one without."""
        codec = self.codec(value)
        return None if codec is None else codec.digest(value)

    def put(
        self, key: str, values: Mapping[str, Any], digests: Mapping[str, str], made: Made, files: Iterable[Path] = ()
    ) -> list[str]:
        """Keep a node's result, by port. Says what could not be stored.

        A value that only memory can hold, such as an opened model, may read on in `files`: it is found as long as these are as
        they are now.
        """
        stored: dict[str, Stored] = {}
        held: dict[str, Any] = {}
        said: list[str] = []
        size, codeless = 0, False
        for port, value in values.items():
            codec = self.codec(value)
            entry = None
            if codec is None:
                codeless = True
            else:
                try:
                    entry = self._store(codec, value, digests[port])
                except Exception as error:
                    said.append(f"'{port}' could not be stored by codec '{codec.name}': {type(error).__name__}: {error}")
            if entry is not None:
                stored[port] = entry
            else:
                held[port] = value
                size += codec.size(value) if codec is not None else 0
        self._unreadable.discard(key)
        if stored and self.store is not None:
            self.store.put_record(
                Record(key, made.type, made.workflow, made.node, time.time(), made.seconds, stored, made.notices, made.machine)
            )
        if held:
            tier, cost = (self._codeless, 1) if codeless else (self._sized, size)
            with self._lock:
                tier.put(key, _Held(held, digests, made, file_states(files) if codeless else {}), cost)
        return said

    def codec(self, value: Any) -> Codec | None:
        """The codec for `value`, or None; a list or mapping has one where everything in it is as plain as itself."""
        codec = self.codecs.for_type(type(value)) if value is not None else self._json
        return None if codec is self._json and not _plain(value) else codec

    def codec_of(self, stored: Stored) -> Codec | None:
        """The codec that a value is stored by, if it is still there."""
        return self.codecs.by_name(stored.codec)

    def exported(self, codec: Codec, digest: str | None, value: Callable[[], Any]) -> list[bytes]:
        """The files that a value is exported to, without decoding it where they are kept; `digest` None: it is not stored."""
        if self.store is None or digest is None or codec.extension == codec.suffix:
            return codec.export(value())
        files = self.store.exported(digest, codec.extension)
        if files is None:
            files = codec.export(value())
            self.store.put_exported(digest, codec.extension, files)
        return files

    # --- the whole

    def entries(self) -> Iterator[Record]:
        """The records of the store, in no order."""
        return self.store.records() if self.store is not None else iter(())

    def info(self) -> StoreInfo | None:
        """How much is stored; None without a cache directory."""
        return self.store.info() if self.store is not None else None

    def clear(self) -> StoreInfo | None:
        """Remove every result, from memory and disk. Says what was removed from disk."""
        self.free()
        self._aliases.clear()
        return self.store.clear() if self.store is not None else None

    def free(self) -> None:
        """Let go of what is held in memory."""
        with self._lock:
            self._sized.clear()
            self._codeless.clear()

    def _is_current(self, held: _Held, ports: Collection[str]) -> bool:
        """Whether what only memory can hold of `ports` may be used: the files that it may read on in are as they were."""
        if not held.files or all(self.codec(held.values[port]) is not None for port in ports if port in held.values):
            return True
        return file_states(held.files) == held.files

    def _loadable(self, record: Record, port: str) -> bool:
        stored = record.outputs.get(port)
        return stored is not None and self.codec_of(stored) is not None and self.store is not None and self.store.has(stored.blob)

    def _store(self, codec: Codec, value: Any, digest: str) -> Stored | None:
        if self.store is None:
            return None
        put = self.store.put_file(lambda path: codec.save(value, path), codec.suffix)
        return Stored(digest, put[0], codec.name, put[1]) if put is not None else None

    def _in_memory(self, key: str) -> _Held | None:
        with self._lock:
            return self._codeless.get(key) or self._sized.get(key)


class _Recent(Generic[T]):
    """What was used last, as much of it as `limit` allows."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._total = 0
        self._entries: OrderedDict[str, tuple[T, int]] = OrderedDict()

    def get(self, key: str) -> T | None:
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key][0]

    def put(self, key: str, value: T, cost: int) -> None:
        self._total += cost - self._entries.pop(key, (None, 0))[1]
        self._entries[key] = (value, cost)
        while self._total > self._limit:
            _, (_, freed) = self._entries.popitem(last=False)
            self._total -= freed

    def clear(self) -> None:
        self._entries.clear()
        self._total = 0


def _plain(value: Any) -> bool:
    """Whether `value` is what JSON holds, through and through."""
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
