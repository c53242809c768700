"""Results by their keys, in memory and in the store on disk.

A value that can be stored is kept on disk and read when it is needed. A value without a codec (a loaded model) is kept in memory
for the life of the engine, within limits. Without a cache directory, every value is kept in memory in this way.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from nodegraph.cache.current_code import CurrentCode
from nodegraph.cache.dependencies import NOTHING
from nodegraph.cache.exports import exported_files
from nodegraph.cache.file_digests import FileDigests
from nodegraph.cache.items import blobs_of, held_values, items_at, with_items
from nodegraph.cache.memory import MEMORY_BYTES, Memory
from nodegraph.cache.results import CachedResult
from nodegraph.cache.snapshots import Blob, Listed, Snapshot, part_of
from nodegraph.cache.store.records import Alias, Computation
from nodegraph.cache.store.store import LostResultError, Record, Store, StoredValue, StoreInfo
from nodegraph.cache.taker import Taker
from nodegraph.node_types.item_ports import is_item, list_port, split_item
from nodegraph.plugins.codec import Codec
from nodegraph.plugins.codecs import Codecs
from nodegraph.plugins.list_codec import ListCodec


class Cache:
    """The known results, by content key and port. May be used from several threads.

    `version` returns what differs once a value without a codec is changed in place; None if nothing tells. `files` remembers the
    digests of files.
    """

    def __init__(
        self,
        codecs: Codecs,
        store: Store | None,
        memory_bytes: int = MEMORY_BYTES,
        version: Callable[[Any], Any] = lambda value: None,
        files: FileDigests | None = None,
    ) -> None:
        self._version = version
        self.store = store
        self.codecs = codecs
        self._aliases: dict[str, tuple[str, Mapping[str, str]]] = {}  # as in `Alias`; making one for each node takes longer
        self.memory = Memory(memory_bytes)
        self._code = CurrentCode(codecs, files or FileDigests(None))
        self._unreadable: set[str] = set()
        self._unknown: set[str] = set()  # static keys of which the store did not know what they stand for
        self._warn: Callable[[str], None] = lambda message: None

    def __repr__(self) -> str:
        return f"<Cache {'in memory' if self.store is None else self.store.directory}>"

    def for_run(self, warn: Callable[[str], None]) -> Cache:
        """The same results for one run, which has its own warnings, uses and failures of the cache directory."""
        cache = copy.copy(self)
        cache._warn, cache._unknown = _once(warn), set()
        cache._code = copy.copy(self._code)
        if self.store is not None:
            cache.store = self.store.for_run(warn)
        return cache

    def at_one_time(self) -> AbstractContextManager[None]:
        """Look at each module only once during the block. For the cache of one run."""
        return self._code.at_one_time()

    def are_same(self, depends: Mapping[str, str]) -> bool:
        """Whether what results depend on besides their keys is the same now: modules and codecs."""
        return self._code.is_that_of(depends)

    def resolve(self, static: str) -> Alias | None:
        """What a static key stands for; None if that is not known, or may be something else now."""
        known = self._aliases.get(static) or (self.store.alias(static) if self.store is not None else None)
        if known is None:
            self._unknown.add(static)
        return None if known is None or (known[1] and not self.are_same(known[1])) else Alias(*known)

    def alias(self, static: str, content: str, depends: Mapping[str, str] = NOTHING) -> None:
        """Make the static key `static` stand for the content key `content`, as long as what it `depends` on stays the same."""
        if static == content:
            return
        alias = content, depends
        if self._aliases.get(static) == alias:
            return
        self._aliases[static] = alias
        if self.store is not None and (static in self._unknown or self.store.alias(static) != alias):
            self.store.put_alias(static, Alias(content, depends))

    @property
    def has_shared_store(self) -> bool:
        """Whether values may have to be fetched before they are read."""
        return self.store is not None and self.store.has_shared_store

    def lookup(self, key: str, ports: Collection[str], *, fetch: bool = True) -> CachedResult | None:
        """The result of `key` if all of `ports` can be loaded, else None. Counts as a use.

        With a shared store, the values of `ports` are brought into the cache directory; without `fetch`, they may fail to come.
        """
        result = self.peek(key, ports)
        if result is not None and result.stored and self.store is not None:
            if fetch and not self.fetch({key: ports}):
                return None
            self.store.touch(key)
        return result

    def fetch(self, wanted: Mapping[str, Collection[str]]) -> bool:
        """Bring the values of these ports of results, by key, into the cache directory. Returns False if one cannot be had.

        `lookup` then no longer finds this result. Does nothing without a shared store.
        """
        if self.store is None or not self.store.has_shared_store:
            return True
        records = {key: self.store.record(key) for key in wanted}
        blobs = {key: blobs_of(record, wanted[key]) for key, record in records.items() if record is not None}
        missing = self.store.fetch({blob for needed in blobs.values() for blob in needed})
        lost = [key for key, needed in blobs.items() if not needed.isdisjoint(missing)]
        self._unreadable.update(lost)
        return not lost

    def peek(self, key: str, ports: Collection[str] = ()) -> CachedResult | None:
        """The result of `key` if all of `ports` can be loaded, else None. Does not count as a use."""
        in_memory = self.memory.get(key)
        if in_memory is not None and not (
            in_memory.is_current(ports) and (not in_memory.computation.imports or self.are_same(in_memory.computation.imports))
        ):
            in_memory = None
        held = {} if in_memory is None else held_values(in_memory.values, ports)
        on_disk = [port for port in ports if port not in held]
        if in_memory is not None and not on_disk:
            held_digests = with_items(in_memory.digests, held)
            return CachedResult(key=key, computation=in_memory.computation, digests=held_digests, in_memory=held)
        record = self.store.record(key) if self.store is not None and key not in self._unreadable else None
        if record is None or not all(self._loadable(record, port) for port in on_disk):
            return None
        if record.imports and not self.are_same(record.imports):
            return None
        digests: Mapping[str, str] = {port: value.digest for port, value in record.outputs.items()}
        if missing := [port for port in on_disk if is_item(port) and port not in digests]:
            items = self._items_in_json(key, missing)
            if items is None:
                return None
            digests = with_items(digests, items)
        digests = with_items(digests, held)
        return CachedResult(key=key, computation=record.computation, digests=digests, stored=record.outputs, in_memory=held)

    def load(self, key: str, port: str) -> Any:
        """The value of a port, as an object of the reader's own.

        Raises LostResultError if it was removed since `lookup`, or cannot be read; `lookup` then no longer finds the result.
        """
        return self.snapshot(key, port).open()

    def snapshot(self, key: str, port: str) -> Snapshot:
        """A snapshot of the value of a port. Raises LostResultError as `load` does."""
        in_memory = self.memory.get(key)
        if in_memory is not None and (held := held_values(in_memory.values, [port])):
            return held[port]
        record = self.store.record(key) if self.store is not None else None
        stored = record.outputs.get(port) if record is not None else None
        codec = self.codec_of(stored) if stored is not None else None
        if record is None or stored is None or codec is None or self.store is None:
            base, indexes = split_item(port)
            if indexes and record is not None and base in record.outputs:
                return part_of(self.snapshot(key, base), indexes)
            self._unreadable.add(key)
            raise LostResultError(f"'{port}' is not stored under {key}")
        if isinstance(codec, ListCodec):
            items = [self.snapshot(key, item) for item in items_at(record, port)]
            return Listed(items, digest=stored.digest, stored=stored)
        return Blob(codec, self.store, stored, on_failure=lambda: self._unreadable.add(key))

    def stored(self, key: str, port: str) -> StoredValue | None:
        """Where the value of a port is on disk; None if it is not stored."""
        record = self.store.record(key) if self.store is not None else None
        return record.outputs.get(port) if record is not None else None

    def take(
        self, values: Mapping[str, Any], codecs: Mapping[str, Codec | None], *, store: bool
    ) -> tuple[dict[str, Snapshot], list[str]]:
        """Snapshots of a node's values, by port; with `store`, in the cache directory. `codecs` are those of the values.

        Also returns a message for each value that its codec failed to store.
        """
        taker = Taker(self.codecs, self.store if store else None, self._version, self._warn)
        taken, messages = {}, []
        for port, value in values.items():
            taken[port], message = taker.take(value, codecs[port])
            if message is not None:
                messages.append(message.format(f"'{port}'"))
        return taken, messages

    def put(
        self,
        key: str,
        values: Mapping[str, Snapshot],
        digests: Mapping[str, str],
        computation: Computation,
        *,
        files: Iterable[Path] = (),
    ) -> None:
        """Keep the values of a node's result, by port.

        `files` are the input files of the node. A value without a codec, such as an opened model, may read them later, so it is
        found only as long as none of them changes.
        """
        on_disk: dict[str, StoredValue] = {}
        for port, snapshot in values.items():
            on_disk |= snapshot.stored_at(port)
        in_memory = {port: snapshot for port, snapshot in values.items() if snapshot.stored is None}
        self._unreadable.discard(key)
        if on_disk and self.store is not None:
            self.store.put_record(Record(key=key, created=time.time(), outputs=on_disk, **computation._asdict()))
        if in_memory:
            self.memory.put(key, in_memory, digests, computation, files=files)

    def quarantine(self, key: str) -> float | None:
        """Take a wrong result out of the cache, so that it is found no longer.

        Returns when it was made (seconds since 1970), None if it was not on disk.
        """
        self.memory.remove(key)
        record = self.store.record(key) if self.store is not None else None
        if record is None or self.store is None:
            return None
        self.store.quarantine(record)
        return record.created

    def forget_aliases(self) -> None:
        """Forget what every static key stands for: it may follow from a wrong result.

        The results stay, and are found by their content keys.
        """
        self._aliases.clear()
        if self.store is not None:
            self.store.remove_aliases()

    def codec(self, value: Any, declared: Any = None) -> Codec | None:
        """The codec for `value`, as `Codecs.for_value` has it."""
        return self.codecs.for_value(value, declared)

    def codec_of(self, stored: StoredValue) -> Codec | None:
        """The codec that stored a value; None if it is no longer installed, or with other code."""
        return self.codecs.by_stored_name(stored.codec)

    def export(self, codec: Codec, digest: str | None, value: Callable[[], Any]) -> list[bytes]:
        """The files that a value is exported to.

        If the value is stored (`digest` is not None), its exported files are stored, too, and `value()` is called only the first
        time. They are not if the codec drew from a global generator of random numbers.
        """
        if self.store is None or digest is None or codec.extension == codec.suffix:
            return codec.export(value())
        return exported_files(self.store, self.codecs, codec, digest=digest, value=value)

    # --- the whole cache

    def entries(self) -> Iterator[Record]:
        """The records in the store, in no particular order."""
        return self.store.records() if self.store is not None else iter(())

    def info(self) -> StoreInfo | None:
        """How much is stored; None without a cache directory."""
        return self.store.upkeep.info() if self.store is not None else None

    def clear(self) -> StoreInfo | None:
        """Remove every result from memory and disk. Returns how much was removed from disk; None without a cache directory."""
        self.free()
        self._aliases.clear()
        return self.store.upkeep.clear() if self.store is not None else None

    def free(self) -> None:
        """Remove every result from memory."""
        self.memory.clear()

    def _loadable(self, record: Record, port: str) -> bool:
        stored = record.outputs.get(port)
        if stored is None:
            return is_item(port) and self._loadable(record, list_port(port))
        codec = self.codec_of(stored)
        if codec is None or self.store is None or not self.store.has(stored.blob):
            return False
        return not isinstance(codec, ListCodec) or all(self._loadable(record, item) for item in items_at(record, port))

    def _items_in_json(self, key: str, ports: Iterable[str]) -> dict[str, Snapshot] | None:
        """Items of lists that are stored as a whole; None if one does not exist."""
        lists: dict[str, Snapshot] = {}
        found = {}
        try:
            for port in ports:
                base, indexes = split_item(port)
                if base not in lists:
                    lists[base] = self.snapshot(key, base)
                found[port] = part_of(lists[base], indexes)
        except (LostResultError, TypeError):
            return None
        return found


def _once(warn: Callable[[str], None]) -> Callable[[str], None]:
    """A function that passes on only the first message."""
    unused = [warn]

    def warn_once(message: str) -> None:
        if unused:
            unused.pop()(message)

    return warn_once
