"""The upkeep of a cache directory: listing what it holds, checking it, and removing results."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nodegraph.cache.store.layout import Layout
from nodegraph.cache.store.lock_holder import gc_waiting_message
from nodegraph.cache.store.locks import LockHeldError
from nodegraph.cache.store.maintenance.clear import clear
from nodegraph.cache.store.maintenance.collect import GcResult, collect
from nodegraph.cache.store.maintenance.progress import Progress, no_progress, steps, with_progress
from nodegraph.cache.store.maintenance.verify import VerifyResult, count_stale, verify
from nodegraph.cache.store.records import ReadRecord, StoreInfo
from nodegraph.cache.store.safe_io import SafeFiles
from nodegraph.cache.store.usage import RunUsage
from nodegraph.cache.store.work import Work, all_work

if TYPE_CHECKING:  # what only counts files imports no database
    from nodegraph.cache.store.index import Entry
    from nodegraph.cache.store.index_queries import IndexQueries

_GC = "gc"  # the name of the lock for removing results


class Upkeep:
    """What a command or the end of a run does with the whole directory.

    `record` reads the record of a key. `read_again` is called after files have changed, so that nothing is remembered of them.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        files: SafeFiles,
        index: IndexQueries,
        usage: RunUsage,
        record: ReadRecord,
        read_again: Callable[[], None],
        warn: Callable[[str], None],
    ) -> None:
        self._layout, self._files, self._index, self._usage = layout, files, index, usage
        self._record, self._read_again, self._warn = record, read_again, warn

    def __repr__(self) -> str:
        return f"<Upkeep of {self._layout.directory}>"

    # --- what is there

    def entries(self, progress: Progress = no_progress) -> list[Entry]:
        """Every stored result with its size and use. The least recently used one comes first."""
        return self._index.entries(with_progress(self._record, progress)) if self._layout.is_cache() else []

    def stale(self, progress: Progress = no_progress) -> int:
        """How many results another version of nodegraph stored in a way that this one does not read. `gc` removes them."""
        return count_stale(self._layout, {entry.key for entry in self.entries(progress)}, progress)

    def info(self, progress: Progress = no_progress) -> StoreInfo:
        """How much is stored."""
        listed = steps(progress, "listed")
        sizes = [size for _, size in listed(self._layout.blob_sizes())]
        return StoreInfo(self._layout.directory, sum(1 for _ in listed(self._layout.records())), len(sizes), sum(sizes))

    def work(self) -> list[Work]:
        """All unfinished work. The oldest comes first."""
        return sorted(all_work(self._layout), key=lambda work: work.used) if self._layout.is_cache() else []

    def verify(self, progress: Progress = no_progress) -> VerifyResult:
        """Check the content of every file. Damaged ones are moved to quarantine; records that name a damaged blob are removed."""
        result = verify(self._layout, self._record, progress)
        self._read_again()
        self.entries(progress)  # updates the index
        return result

    # --- what is removed

    def gc(self, limit: int | None = None, older_than: float | None = None, progress: Progress = no_progress) -> GcResult:
        """Remove what no result needs, then the least recently used results.

        Results are removed until `limit` bytes of blobs remain, and if they were not used for `older_than` seconds. Waits while
        another process does the same. Runs in other processes can go on: files that they are writing are not removed, and files
        that they have open or mapped stay readable for them.
        """
        if not self._layout.is_cache():
            return GcResult(keys=(), blobs=(), bytes=0, remaining=0)
        with self._files.lock(_GC, lambda: None, lambda lock: self._warn(gc_waiting_message(lock))):
            return self._collect(limit, older_than, progress)

    def make_room(self, limit: int) -> None:
        """Trim the directory to nine tenths of `limit`, so that not every run has to. Does nothing if another process does so."""
        try:
            with self._files.lock_without_waiting(_GC):
                removed = self._collect(limit // 10 * 9, None, no_progress)
        except LockHeldError:
            return
        if not self._usage.keys.isdisjoint(removed.keys):
            self._warn(
                f"the cache may hold {limit} bytes, but this run needs more, so some of its results were removed again. Allow more "
                f"with --cache-size or NODEGRAPH_CACHE_SIZE"
            )

    def clear(self, progress: Progress = no_progress) -> StoreInfo:
        """Remove every result, and what is remembered of files and devices. Run records stay. Returns how much was removed."""
        try:
            return clear(self._layout, progress)
        finally:
            self._read_again()
            self._usage.forget()

    def _collect(self, limit: int | None, older_than: float | None, progress: Progress) -> GcResult:
        self._usage.write()
        read = with_progress(self._record, progress)
        records = {key: record for key in list(self._layout.records()) if (record := read(key)) is not None}
        last_used = {entry.key: entry.used for entry in self._index.entries(lambda key: records.get(key) or read(key))}
        result = collect(self._layout, records, last_used=last_used, limit=limit, older_than=older_than, progress=progress)
        self._index.forget(result.keys, result.blobs)
        return result
