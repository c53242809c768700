"""The results in a cache directory: values in files named by their content, and one small record for each key.

A file is written under a temporary name and renamed, and blobs are written before the record that names them, so a process that is
killed leaves no incomplete result. Nothing is unpickled. If the directory cannot be read or written, the run goes on without it.

`layout.py` describes the files of the directory, `records.py` the content of small ones; `maintenance` checks, trims and clears it.
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
from nodegraph.cache.store.record_files import RecordFiles
from nodegraph.cache.store.records import (
    Alias,
    LostResultError,
    Record,
    StoredBlob,
    StoredValue,
    StoreInfo,
    alias_bytes,
    export_bytes,
    read_alias,
    read_export,
)
from nodegraph.cache.store.safe_io import SafeFiles
from nodegraph.cache.store.usage import Growth, RunUsage
from nodegraph.cache.store.work import WorkFolder, lock_name
from nodegraph.light_dataclass import dataclass

if TYPE_CHECKING:
    from nodegraph.cache.store.maintenance.upkeep import Upkeep

__all__ = ["LostResultError", "Record", "Store", "StoreInfo", "StoredValue"]

T = TypeVar("T")

LONG_JOURNAL_BYTES: Final = 1 << 20
"""A journal longer than this is folded into the index even after a run that stored nothing."""


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
        self._records = RecordFiles(self.layout, self._files)
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
        store._records = self._records.for_run(store._files)
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
            self.upkeep.make_room(self.limit)

    has_shared_store: ClassVar[bool] = False
    """Whether blobs may have to be fetched before they are read."""

    def fetch(self, blobs: Collection[str]) -> set[str]:
        """Bring blobs into the directory that are only in the shared store. Returns those that cannot be had."""
        return set()

    def flush(self, show: Callable[[int], None] = lambda left: None) -> None:
        """Wait until what was stored is in the shared store, too, if there is one behind the directory.

        `show` is called about once a second with how much is left.
        """

    @property
    def upkeep(self) -> Upkeep:
        """What is done with the whole directory: `store.upkeep.gc()`. A run imports nothing of it unless it has to make room."""
        from nodegraph.cache.store.maintenance.upkeep import Upkeep

        return Upkeep(
            self.layout,
            files=self._files,
            index=self._index,
            usage=self._usage,
            record=self.record,
            read_again=self._read_again,
            warn=self.warn,
        )

    def _read_again(self) -> None:
        self._blobs.check_again()
        self._records.read_again()

    # --- records

    def record(self, key: str) -> Record | None:
        """The record of `key`; None if it does not exist or cannot be read."""
        return self._records.get(key)

    def put_record(self, record: Record) -> None:
        """Write `record`. Its blobs must be stored already."""
        if self._records.put(record):
            self._usage.stored(record)

    def quarantine(self, record: Record) -> None:
        """Move a record to quarantine, with copies of its blobs."""
        self._records.quarantine(record)

    def records(self) -> Iterator[Record]:
        """Every record, in no particular order."""
        return filter(None, map(self.record, self._records.keys()))

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

    # --- locks and unfinished work

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
