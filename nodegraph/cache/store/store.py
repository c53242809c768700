"""The results in a cache directory: values as content-addressed files, and one small record for each key.

A file is written beside its place and renamed, blobs before the record that names them; so a process that is killed leaves nothing
half-written. Nothing is unpickled. A directory that cannot be read or written costs the cache, never the run.

`layout.py` says where things are, `records.py` what is in them; `maintenance.py` checks, trims and clears the whole directory.
"""

from __future__ import annotations

import contextlib
import copy
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from nodegraph.cache.file_digests import Fingerprints, hash_file
from nodegraph.cache.store.journal import Journal, Line
from nodegraph.cache.store.layout import BLOB, KEY, Layout
from nodegraph.cache.store.locks import LockHeldError
from nodegraph.cache.store.records import (
    LostResultError,
    Record,
    Stored,
    StoreInfo,
    export_bytes,
    read_export,
    read_record,
    record_bytes,
)
from nodegraph.cache.store.safe_io import Shelf, move, reason, write_bytes
from nodegraph.files import FileState

if TYPE_CHECKING:
    from nodegraph.cache.store.index import Entry, Index
    from nodegraph.cache.store.maintenance import Collected, Verified

__all__ = ["LostResultError", "Record", "Store", "StoreInfo", "Stored"]

T = TypeVar("T")

SMALL_BYTES: Final = 1 << 16
"""Blobs up to this size are hashed by every process that reads them: that costs no more than to remember them."""

KEPT_RECORDS: Final = 1 << 14
"""How many records are held in memory, to be read again only when their files change."""

LONG_JOURNAL_BYTES: Final = 1 << 20
"""When notes of uses are folded into the index even after a run that stored nothing."""

_GC: Final = "gc"  # the lock of those who remove


@dataclass
class _Growth:
    """Bytes added to a directory since its index was last asked, and how many may be added before it is asked again."""

    added: int = 0
    room: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, size: int) -> None:
        with self.lock:
            self.added += size


@dataclass
class Store:
    """A cache directory. `warn` receives what is wrong with it, at most one message each on reading, writing and locking a run.

    `limit` is how many bytes of blobs `finish` leaves; None: all of them.
    """

    place: Path
    warn: Callable[[str], None] = field(default=lambda message: None)
    limit: int | None = None

    def __post_init__(self) -> None:
        self.layout = Layout(self.place)
        self._shelf = Shelf(self.layout, self.warn)
        self._journal = Journal(self.layout.journal)
        self._verified = Fingerprints(self.place / "verified.jsonl", granularity_ns=0)
        self._records: dict[str, tuple[FileState, Record]] = {}  # as read from files in this state
        self._seen: dict[str, FileState] = {}  # blobs that this process found right, and in which state
        self._growth = _Growth()
        self.start()

    def start(self) -> None:
        """Begin a run: failures of an earlier one are forgotten, so that what failed is tried and reported again."""
        self._shelf.start()
        self._noting = threading.Lock()
        self._used: Counter[str] = Counter()
        self._mine: set[str] = set()  # keys that the run made or used

    def for_run(self, warn: Callable[[str], None]) -> Store:
        """The same directory as one run uses it, with its own warnings, failures and uses. What is known of files is shared."""
        store = copy.copy(self)
        store.warn = warn
        store._shelf = Shelf(self.layout, warn)
        store.start()
        return store

    def claim(self) -> None:
        """Mark the directory as a cache, for what is not put there through the store. Where that cannot be, it is left as it is."""
        with contextlib.suppress(OSError):
            self.layout.make()

    def finish(self) -> None:
        """End a run: note what it used, and remove what was not used for longest if the limit is exceeded. Never fails."""
        self._note([])
        growth = self._growth
        if not self._shelf.writable or (growth.added <= growth.room and self._journal.size() < LONG_JOURNAL_BYTES):
            return
        total = self._ask(lambda index: index.total(), exact=False)
        with growth.lock:
            growth.added, growth.room = 0, 0 if self.limit is None else max(0, self.limit - total) // 8  # others write there, too
        if self.limit is not None and total > self.limit:
            self._make_room(self.limit)

    # --- records

    def record(self, key: str) -> Record | None:
        """The record of `key`; None where there is none, or none that can be read."""
        path = self.layout.record(key)
        try:
            state = FileState.of(path)
        except OSError:
            state = None  # reading it tells whether that is trouble
        known = self._records.get(key)
        if known is not None and known[0] == state:
            return known[1]
        data = self._shelf.read(path)
        try:
            record = read_record(data, key) if data is not None else None
        except (KeyError, TypeError, ValueError, AttributeError):
            return None  # of another version, or damaged: it will be written anew
        if record is not None and state is not None:
            if len(self._records) >= KEPT_RECORDS:
                self._records.clear()
            self._records[key] = state, record
        return record

    def put_record(self, record: Record) -> None:
        """Write `record`, whose blobs are stored already."""
        if self._shelf.write(self.layout.record(record.key), record_bytes(record)):
            self._mine.add(record.key)
            self._note(
                [["made", record.key, record.type, record.workflow, record.node, record.created, list(record.blobs().items())]]
            )

    def records(self) -> Iterator[Record]:
        """Every record, in no order."""
        return filter(None, map(self.record, self.layout.records()))

    def touch(self, key: str) -> None:
        """Note that the record of `key` was used. Written down with the next result that is stored, or when the run ends."""
        with self._noting:
            self._used[key] += 1
            self._mine.add(key)

    # --- aliases

    def alias(self, static: str) -> str | None:
        """The content key that `static` stands for; None where that is not known."""
        content = (self._shelf.read(self.layout.alias(static)) or b"").decode("ascii", errors="replace")
        return content if KEY.fullmatch(content) else None

    def put_alias(self, static: str, content: str) -> None:
        """Note that `static` stands for `content`, whose record is stored already."""
        self._shelf.write(self.layout.alias(static), content.encode("ascii"))

    # --- blobs

    def has(self, blob: str) -> bool:
        """Whether `blob` is there with the content that its name says. One that is not is put aside, with a warning."""
        try:
            self.blob(blob)
        except LostResultError:
            return False
        return True

    def blob(self, blob: str) -> Path:
        """The file of `blob`, its content checked once for each state of the file. Raises LostResultError."""
        if not BLOB.fullmatch(blob):
            raise LostResultError(f"'{blob}' is no blob's name")
        path = self.layout.blob(blob)
        try:
            state = FileState.of(path)
            if self._seen.get(blob) == state:
                return path
            digest = hash_file(path) if state.size <= SMALL_BYTES else self._verified.sha256(path)
        except FileNotFoundError:
            raise LostResultError(f"{path} is gone") from None
        except OSError as error:
            self._shelf.trouble_reading(f"the cache file {path} cannot be read: {reason(error)}. What it held is computed again")
            raise LostResultError(str(error)) from error
        if not blob.startswith(digest):
            self.layout.put_aside(path)
            self._shelf.trouble_reading(
                f"the cache file {path} was changed since it was written; it is put aside and computed again"
            )
            raise LostResultError(f"{path} was changed")
        self._seen[blob] = state
        return path

    def put_file(self, write: Callable[[Path], None], suffix: str) -> tuple[str, int] | None:
        """Store the file that `write` makes at the path it is given; its blob's name and bytes.

        None where the directory takes nothing. What `write` raises, other than OSError, goes through.
        """

        def put() -> tuple[str, int]:
            with self._shelf.new_file(suffix) as temporary:
                write(temporary)
                blob, size = hash_file(temporary) + suffix, temporary.stat().st_size
                move(temporary, self.layout.blob(blob))  # over an earlier one, which may be damaged, or about to be removed
            self._growth.add(size)
            return blob, size

        return self._shelf.attempt(put)

    def put_bytes(self, data: bytes, suffix: str) -> tuple[str, int] | None:
        """Store `data`; as `put_file`."""
        return self.put_file(lambda path: write_bytes(path, data), suffix)

    # --- exported files of a value

    def exported(self, digest: str, extension: str) -> list[bytes] | None:
        """The files that the value of `digest` was exported to, or None where they are not all there."""
        data = self._shelf.read(self.layout.export(digest, extension))
        blobs = read_export(data) if data is not None else None
        try:
            return [self.blob(blob).read_bytes() for blob in blobs] if blobs is not None else None
        except (LostResultError, OSError):
            return None

    def put_exported(self, digest: str, extension: str, files: list[bytes]) -> None:
        """Keep what the value of `digest` was exported to."""
        stored = [put for put in (self.put_bytes(data, extension) for data in files) if put is not None]
        document = export_bytes([blob for blob, _ in stored])
        if len(stored) == len(files) and self._shelf.write(self.layout.export(digest, extension), document):
            self._note([["kept", stored]])

    # --- the whole

    def lock(self, key: str, waiting: Callable[[], None] = lambda: None) -> AbstractContextManager[bool]:
        """Keep other processes, and threads, from computing `key`; gives whether one of them had to be waited for.

        `waiting` is called again and again meanwhile, and ends that by raising. Where there can be no lock the block runs
        without one, and the first time a run is told so.
        """
        return self._shelf.lock(key, waiting)

    def entries(self) -> list[Entry]:
        """Every stored result with its size and use, the one that was not used for longest first."""
        if not self.layout.is_cache():
            return []
        return self._ask(lambda index: index.entries(), exact=True)

    def info(self) -> StoreInfo:
        """How much there is."""
        sizes = [size for _, size in self.layout.blob_sizes()]
        return StoreInfo(self.place, sum(1 for _ in self.layout.records()), len(sizes), sum(sizes))

    def verify(self) -> Verified:
        """Read every blob, put those aside that are not what their names say, and drop the records that lose them."""
        from nodegraph.cache.store.maintenance import verify

        found = verify(self.layout, self.record)
        self._verified.forget()
        self._seen.clear()
        self.entries()  # so that the index follows
        return found

    def gc(self, limit: int | None = None, older_than: float | None = None) -> Collected:
        """Remove what no result needs, then the results that were not used for longest.

        As many as it takes until `limit` bytes of blobs are left, and those not used for `older_than` seconds. Waits while
        another process does the same. Other processes may go on: what they are writing is left alone, and what they have open or
        mapped stays theirs.
        """
        from nodegraph.cache.store.maintenance import Collected

        if not self.layout.is_cache():
            return Collected((), (), 0, 0)
        with self._shelf.lock(_GC, lambda: None):
            return self._collect(limit, older_than)

    def clear(self) -> StoreInfo:
        """Remove every result, and what is remembered of files and devices; run records stay. Says what was removed."""
        from nodegraph.cache.store.maintenance import clear

        before = self.info()
        clear(self.layout)
        self._verified.forget()
        self._seen.clear()
        self._records.clear()
        self._used.clear()
        after = self.info()
        return StoreInfo(self.place, before.records - after.records, before.blobs - after.blobs, before.bytes - after.bytes)

    def _make_room(self, limit: int) -> None:
        """Remove down to nine tenths of `limit`, so that not every run has to; another process that does so is left to it."""
        try:
            with self._shelf.lock_now(_GC):
                removed = self._collect(limit // 10 * 9, None)
        except LockHeldError:
            return
        if not self._mine.isdisjoint(removed.keys):
            self.warn(
                f"the cache may hold {limit} bytes, which is less than this run needs: some of its results were removed again. "
                f"Give it more with --cache-size or NODEGRAPH_CACHE_SIZE"
            )

    def _collect(self, limit: int | None, older_than: float | None) -> Collected:
        from nodegraph.cache.store.maintenance import collect

        self._note([])
        used = {entry.key: entry.used for entry in self.entries()}
        collected = collect(self.layout, self.record, used, limit, older_than)
        self._ask(lambda index: index.forget(collected.keys, collected.blobs), exact=False)
        return collected

    def _ask(self, question: Callable[[Index], T], *, exact: bool) -> T:
        from nodegraph.cache.store.index import ask  # sqlite3 is not for runs that find everything

        return ask(self.layout, self.record, question, exact=exact)

    def _note(self, lines: list[Line]) -> None:
        """Write down `lines`, and the uses so far. What cannot be written is dropped: it costs counts and order only."""
        with self._noting:
            used, self._used = self._used, Counter()
        if used:
            lines = [*lines, ["used", time.time(), used]]
        if lines:
            with contextlib.suppress(OSError):
                self._journal.add(lines)
