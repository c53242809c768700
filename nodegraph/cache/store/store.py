"""The results in a cache directory: values in files named by their content, and one small record for each key.

A file is written under a temporary name and renamed, and blobs are written before the record that names them, so a process that is
killed leaves no incomplete result. Nothing is unpickled. If the directory cannot be read or written, the run goes on without it.

`layout.py` describes the files of the directory, `records.py` their content; `maintenance` checks, trims and clears it.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

from nodegraph.cache.store.blobs import Blobs
from nodegraph.cache.store.index_queries import IndexQueries
from nodegraph.cache.store.journal import Journal
from nodegraph.cache.store.layout import Layout, remove
from nodegraph.cache.store.locks import LockHeldError
from nodegraph.cache.store.records import (
    Alias,
    LostResultError,
    Record,
    StaleRecordError,
    StoredBlob,
    StoredValue,
    StoreInfo,
    alias_bytes,
    export_bytes,
    read_alias,
    read_export,
    read_record,
    record_bytes,
)
from nodegraph.cache.store.safe_io import SafeFiles
from nodegraph.cache.store.usage import Growth, RunUsage
from nodegraph.cache.store.work import Work, WorkFolder, all_work, lock_name
from nodegraph.files import FileState
from nodegraph.light_dataclass import dataclass

if TYPE_CHECKING:
    from nodegraph.cache.store.index import Entry
    from nodegraph.cache.store.maintenance.collect import GcResult
    from nodegraph.cache.store.maintenance.progress import Progress
    from nodegraph.cache.store.maintenance.verify import VerifyResult

__all__ = ["LostResultError", "Record", "Store", "StoreInfo", "StoredValue"]

T = TypeVar("T")

MAX_RECORDS_IN_MEMORY: Final = 1 << 14

LONG_JOURNAL_BYTES: Final = 1 << 20
"""A journal longer than this is folded into the index even after a run that stored nothing."""

_GC: Final = "gc"  # the name of the lock for removing results


@dataclass(eq=False)
class Store:
    """A cache directory. `warn` receives its failures, at most one message about each of reading, writing and locking in a run.

    At the end of a run, `finish` trims the blobs to `limit` bytes. None: there is no limit.
    """

    directory: Path
    warn: Callable[[str], None] = field(default=lambda message: None)
    limit: int | None = None

    def __post_init__(self) -> None:
        self.layout = Layout(self.directory)
        self._files = SafeFiles(self.layout, self.warn)
        self._blobs = Blobs(self.layout, self._files)
        self._journal = Journal(self.layout.journal)
        self._records: dict[str, tuple[FileState, Record]] = {}  # each with the state of the file that it was read from
        self._growth = Growth()
        self.start()

    def start(self) -> None:
        """Begin a run: what failed in an earlier run is tried again and, if it fails again, reported again."""
        self._files.start()
        self._usage = RunUsage(self._journal)
        self._index = IndexQueries(self.layout, self.record)

    def for_run(self, warn: Callable[[str], None]) -> Store:
        """The same directory for one run, which has its own warnings, failures and uses. What is known of files is shared."""
        store = copy.copy(self)
        store.warn = warn
        store._files = SafeFiles(self.layout, warn)
        store._blobs = self._blobs.for_run(store._files)
        store.start()
        return store

    def mark_directory(self) -> None:
        """Create the directory and mark it as a cache, for files that are written to it without the store. Never fails."""
        with contextlib.suppress(OSError):
            self.layout.create()

    def finish(self) -> None:
        """End a run: note what it used and, if the limit is exceeded, remove the least recently used results. Never fails."""
        self._usage.write()
        if self.layout.is_open_to_others():
            self.warn(
                f"every user of this machine can write to the cache directory {self.directory}, and so change the results of your "
                f"runs. Run 'chmod o-w {self.directory}', or choose another one with --cache-dir"
            )
        growth = self._growth
        may_be_full = self.limit is not None and growth.added > growth.allowed
        if not self._files.writable or (not may_be_full and self._journal.size() < LONG_JOURNAL_BYTES):
            return
        total = self._index.total()
        if total is None:
            return  # the index is locked: the journal stays, and a later run trims the directory
        growth.start_again(0 if self.limit is None else max(0, self.limit - total) // 8)  # other processes write there, too
        if self.limit is not None and total > self.limit:
            self._make_room(self.limit)

    has_shared_store: ClassVar[bool] = False
    """Whether blobs may have to be fetched before they are read."""

    def fetch(self, blobs: Collection[str]) -> set[str]:
        """Bring blobs into the directory that are only in the shared store. Returns those that cannot be had."""
        return set()

    def flush(self, show: Callable[[int], None] = lambda left: None) -> None:
        """Wait until what was stored is in the shared store, too, if there is one behind the directory.

        `show` is called about once a second with how much is left.
        """

    # --- records

    def record(self, key: str) -> Record | None:
        """The record of `key`; None if it does not exist or cannot be read."""
        path = self.layout.record(key)
        try:
            state = FileState.of(path)
        except FileNotFoundError:
            return None
        except OSError:
            state = None  # reading reports it
        known = self._records.get(key)
        if known is not None and known[0] == state:
            return known[1]
        data = self._files.read(path)
        try:
            record = read_record(data, key) if data is not None else None
        except (KeyError, TypeError, ValueError, AttributeError, StaleRecordError):
            return None  # of another version, or damaged; the result is computed and written again
        if record is not None and state is not None:
            self._remember(state, record)
        return record

    def _remember(self, state: FileState, record: Record) -> None:
        if len(self._records) >= MAX_RECORDS_IN_MEMORY:
            self._records.clear()
        self._records[record.key] = state, record

    def put_record(self, record: Record) -> None:
        """Write `record`. Its blobs must be stored already."""
        path = self.layout.record(record.key)
        if self._files.write(path, record_bytes(record)):
            self._usage.stored(record)
            with contextlib.suppress(OSError):
                self._remember(FileState.of(path), record)

    def quarantine(self, record: Record) -> None:
        """Move a record to quarantine, with copies of its blobs: these are as they were written, and others may refer to them."""
        self.layout.quarantine(self.layout.record(record.key))
        for blob in record.blobs():
            self.layout.copy_to_quarantine(self.layout.blob(blob))

    def records(self) -> Iterator[Record]:
        """Every record, in no particular order."""
        return filter(None, map(self.record, self.layout.records()))

    def touch(self, key: str) -> None:
        """Count a use of the record of `key`."""
        self._usage.used(key)

    # --- aliases

    def alias(self, static: str) -> Alias | None:
        """What the static key `static` stands for; None if that is not known."""
        data = self._files.read(self.layout.alias(static))
        return read_alias(data) if data is not None else None

    def put_alias(self, static: str, alias: Alias) -> None:
        """Store what `static` stands for. The record of this result must be stored already."""
        self._files.write(self.layout.alias(static), alias_bytes(alias))

    def remove_aliases(self) -> None:
        """Remove every alias. Nothing is lost but time: nodes are found by their content keys, from the first to the last."""
        for entry in self.layout.results("aliases"):
            remove(entry.path)

    # --- blobs

    def has(self, blob: str) -> bool:
        """Whether `blob` is there and has the content that its name says. If not, it is moved to quarantine, with a warning."""
        return self._blobs.has(blob)

    def blob(self, blob: str) -> Path:
        """The file of `blob`, whose content was checked. Raises LostResultError."""
        return self._blobs.path(blob)

    def read_blob(self, blob: str, read: Callable[[Path], T]) -> T:
        """What `read` returns for the file of `blob`, whose content was checked. Raises LostResultError, and what `read` raises."""
        return self._blobs.read(blob, read)

    def put_file(self, write: Callable[[Path], None], suffix: str) -> StoredBlob | None:
        """Store the file that `write(path)` creates. None if the directory cannot be written.

        Raises WriterError if `write` fails for another reason.
        """
        return self._grown(self._blobs.put(write, suffix))

    def put_bytes(self, data: bytes, suffix: str) -> StoredBlob | None:
        """Store `data` as a file. None if the directory cannot be written."""
        return self._grown(self._blobs.put_bytes(data, suffix))

    def _grown(self, blob: StoredBlob | None) -> StoredBlob | None:
        if blob is not None:
            self._growth.add(blob.size)
        return blob

    # --- the exported files of a value

    def exported(self, digest: str, extension: str) -> list[bytes] | None:
        """The files that the value with `digest` was exported to; None unless all of them are there."""
        data = self._files.read(self.layout.export(digest, extension))
        blobs = read_export(data) if data is not None else None
        try:
            return [self.read_blob(blob, Path.read_bytes) for blob in blobs] if blobs is not None else None
        except (LostResultError, OSError):
            return None

    def put_exported(self, digest: str, extension: str, files: list[bytes]) -> None:
        """Store the files that the value with `digest` was exported to."""
        blobs = [blob for blob in (self.put_bytes(data, extension) for data in files) if blob is not None]
        document = export_bytes([blob.name for blob in blobs])
        if len(blobs) == len(files) and self._files.write(self.layout.export(digest, extension), document):
            self._usage.exported(blobs)

    # --- the whole directory

    def lock(
        self, key: str, waiting: Callable[[], None] = lambda: None, long_wait: Callable[[Path | None], None] = lambda lock: None
    ) -> AbstractContextManager[bool]:
        """Keep other threads and processes from computing `key`. Yields whether one of them had to be waited for.

        `waiting` is called repeatedly meanwhile; it can stop the waiting by raising. `long_wait` is called once, with the lock file
        (None: another machine computes), if it takes longer than a second. If there can be no lock, the block runs without one,
        with one warning in a run.
        """
        return self._files.lock(key, waiting, long_wait)

    @contextlib.contextmanager
    def work_folder(
        self, key: str, waiting: Callable[[], None] = lambda: None, long_wait: Callable[[Path], None] = lambda lock: None
    ) -> Iterator[WorkFolder | None]:
        """The folder for the unfinished work of `key`, which no other thread or process uses meanwhile; see `lock`.

        None if the directory cannot be written, or if there can be no lock.
        """
        with self._files.lock(lock_name(key), waiting, long_wait):
            folder = WorkFolder(self.directory, self.layout.work(key))

            def create() -> WorkFolder:
                self.layout.create()
                folder.create()
                return folder

            yield self._files.attempt(create) if self._files.can_lock() else None

    def work(self) -> list[Work]:
        """All unfinished work. The oldest comes first."""
        return sorted(all_work(self.layout), key=lambda work: work.used) if self.layout.is_cache() else []

    def entries(self, progress: Progress | None = None) -> list[Entry]:
        """Every stored result with its size and use. The least recently used one comes first."""
        if not self.layout.is_cache():
            return []
        if progress is None:
            return self._index.entries()
        from nodegraph.cache.store.maintenance.progress import with_progress

        return self._index.entries(with_progress(self.record, progress))

    def stale(self, progress: Progress | None = None) -> int:
        """How many results another version of nodegraph stored in a way that this one does not read. `gc` removes them."""
        from nodegraph.cache.store.maintenance.progress import no_progress
        from nodegraph.cache.store.maintenance.verify import count_stale

        return count_stale(self.layout, {entry.key for entry in self.entries(progress)}, progress or no_progress)

    def info(self, progress: Progress | None = None) -> StoreInfo:
        """How much is stored."""
        from nodegraph.cache.store.maintenance.progress import no_progress, steps

        listed = steps(progress or no_progress, "listed")
        sizes = [size for _, size in listed(self.layout.blob_sizes())]
        return StoreInfo(self.directory, sum(1 for _ in listed(self.layout.records())), len(sizes), sum(sizes))

    def verify(self, progress: Progress | None = None) -> VerifyResult:
        """Check the content of every file. Damaged ones are moved to quarantine; records that name a damaged blob are removed."""
        from nodegraph.cache.store.maintenance.progress import no_progress
        from nodegraph.cache.store.maintenance.verify import verify

        result = verify(self.layout, self.record, progress or no_progress)
        self._records.clear()
        self._blobs.check_again()
        self.entries(progress)  # updates the index
        return result

    def gc(self, limit: int | None = None, older_than: float | None = None, progress: Progress | None = None) -> GcResult:
        """Remove what no result needs, then the least recently used results.

        Results are removed until `limit` bytes of blobs remain, and if they were not used for `older_than` seconds. Waits while
        another process does the same. Runs in other processes can go on: files that they are writing are not removed, and files
        that they have open or mapped stay readable for them.
        """
        from nodegraph.cache.store.maintenance.collect import GcResult

        if not self.layout.is_cache():
            return GcResult(keys=(), blobs=(), bytes=0, remaining=0)
        with self._files.lock(_GC, lambda: None, self._report_long_wait):
            return self._collect(limit, older_than, progress)

    def clear(self, progress: Progress | None = None) -> StoreInfo:
        """Remove every result, and what is remembered of files and devices. Run records stay. Returns how much was removed."""
        from nodegraph.cache.store.maintenance.clear import clear
        from nodegraph.cache.store.maintenance.progress import no_progress

        try:
            return clear(self.layout, progress or no_progress)
        finally:
            self._blobs.check_again()
            self._records.clear()
            self._usage = RunUsage(self._journal)

    def _report_long_wait(self, lock: Path) -> None:
        from nodegraph.cache.store.lock_holder import gc_waiting_message

        self.warn(gc_waiting_message(lock))

    def _make_room(self, limit: int) -> None:
        """Trim the directory to nine tenths of `limit`, so that not every run has to. Does nothing if another process does so."""
        try:
            with self._files.lock_without_waiting(_GC):
                removed = self._collect(limit // 10 * 9, None)
        except LockHeldError:
            return
        if not self._usage.keys.isdisjoint(removed.keys):
            self.warn(
                f"the cache may hold {limit} bytes, but this run needs more, so some of its results were removed again. Allow more "
                f"with --cache-size or NODEGRAPH_CACHE_SIZE"
            )

    def _collect(self, limit: int | None, older_than: float | None, progress: Progress | None = None) -> GcResult:
        from nodegraph.cache.store.maintenance.collect import collect
        from nodegraph.cache.store.maintenance.progress import no_progress, with_progress

        self._usage.write()
        read = with_progress(self.record, progress or no_progress)
        records = {key: record for key in list(self.layout.records()) if (record := read(key)) is not None}
        last_used = {entry.key: entry.used for entry in self._index.entries(lambda key: records.get(key) or read(key))}
        result = collect(
            self.layout,
            records,
            last_used=last_used,
            limit=limit,
            older_than=older_than,
            progress=progress or no_progress,
        )
        self._index.forget(result)
        return result
