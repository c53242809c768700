"""Removing what nothing refers to, and the least recently used results."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from nodegraph.cache.store.layout import Layout, is_abandoned, remove
from nodegraph.cache.store.locks import LockHeldError, Locks
from nodegraph.cache.store.maintenance.exports import Export, exports_in
from nodegraph.cache.store.maintenance.progress import Progress, no_progress, steps
from nodegraph.cache.store.records import Record, read_alias
from nodegraph.cache.store.work import UNUSED_SECONDS, remove_work
from nodegraph.light_dataclass import dataclass

GRACE_SECONDS: Final = 3600
"""How long a file that nothing refers to is kept: another process may be about to write the record that refers to it."""


QUARANTINE_SECONDS: Final = 7 * 86400
"""How long damaged blobs are kept, so that they can be examined."""


@dataclass(frozen=True, kw_only=True)
class GcResult:
    """What `collect` removed: results by their keys, blobs by their names, and the bytes of these blobs.

    `remaining` is the bytes of the blobs that are still there, and `stuck` counts the results and blobs that could not be removed.
    `work` counts the folders of unfinished work that were removed.
    """

    keys: tuple[str, ...]
    blobs: tuple[str, ...]
    bytes: int
    remaining: int
    stuck: int = 0
    work: int = 0


def collect(
    layout: Layout,
    records: Mapping[str, Record],
    *,
    last_used: Mapping[str, float],
    limit: int | None,
    older_than: float | None,
    progress: Progress = no_progress,
) -> GcResult:
    """Remove what nothing refers to, then the least recently used results; see `Upkeep.gc`.

    `records` holds every record, and `last_used` the time of the last use, by key. Only one process at a time may do this.
    """
    now = time.time()
    collection = _Collection(layout, records, progress)
    collection.drop_unreferenced(now)
    by_last_use = sorted(
        collection.records.values(), key=lambda record: (last_used.get(record.key, record.created), record.created)
    )
    for record in by_last_use:
        idle = now - last_used.get(record.key, record.created)
        if (limit is None or collection.total <= limit) and (older_than is None or idle <= older_than):
            break
        collection.drop(record)
    result = collection.remove(progress)
    _remove_leftovers(layout, now)
    work = remove_work(layout, UNUSED_SECONDS if older_than is None else older_than)
    return replace(result, work=work) if work else result


class _Collection:
    """What is in the directory, what refers to what, and what is going to be removed."""

    def __init__(self, layout: Layout, records: Mapping[str, Record], progress: Progress) -> None:
        self._layout = layout
        listed = steps(progress, "listed")
        self._sizes: dict[str, tuple[int, int]] = {}  # bytes, and time of the last change in ns
        for entry in listed(layout.blobs()):
            with contextlib.suppress(OSError):
                stat = entry.stat(follow_symlinks=False)
                self._sizes[entry.name] = stat.st_size, stat.st_mtime_ns
        self.total = sum(size for size, _ in self._sizes.values())
        self.records = records
        self._exports: dict[str, list[Export]] = {}
        for export in listed(exports_in(layout)):
            self._exports.setdefault(export.digest, []).append(export)
        self._records_with_value = Counter(digest for record in self.records.values() for digest in _digests(record))
        self._references = Counter(blob for record in self.records.values() for blob in record.blobs())
        for digest in self._records_with_value:
            self._references.update(blob for export in self._exports.get(digest, ()) for blob in export.blobs)
        self._dropped_keys: list[str] = []
        self._dropped_files: list[Path] = []  # exports, and records that cannot be read
        self._dropped_blobs: list[str] = []

    def drop_unreferenced(self, now: float) -> None:
        """Drop files that nothing refers to and that were not written recently."""
        for name, (_, changed_ns) in self._sizes.items():
            if not self._references[name] and now - changed_ns / 1e9 > GRACE_SECONDS:
                self._drop_blob(name)
        for digest, exports in self._exports.items():
            if digest not in self._records_with_value:
                self._dropped_files += [export.path for export in exports if _is_old(export.path, now)]
        for key in self._layout.records():
            if key not in self.records and _is_old(self._layout.record(key), now):
                self._dropped_files.append(self._layout.record(key))

    def drop(self, record: Record) -> None:
        """Drop a result, and the files that only it refers to."""
        self._dropped_keys.append(record.key)
        for blob in record.blobs():
            self._release(blob)
        for digest in _digests(record):
            self._records_with_value[digest] -= 1
            if not self._records_with_value[digest]:
                for export in self._exports.get(digest, ()):
                    self._dropped_files.append(export.path)
                    for blob in export.blobs:
                        self._release(blob)

    def remove(self, progress: Progress) -> GcResult:
        """Remove what was dropped: first records and exports, then the blobs that they refer to.

        If `progress` raises, what is left is removed by the next collection.
        """
        step = steps(progress, "removed", len(self._dropped_keys) + len(self._dropped_files) + len(self._dropped_blobs))
        keys = [key for key in step(self._dropped_keys) if remove(self._layout.record(key))]
        for path in step(self._dropped_files):
            remove(path)
        for entry in steps(progress, "read")(self._layout.results("aliases")):
            with contextlib.suppress(OSError):
                alias = read_alias(Path(entry.path).read_bytes())
                if alias is None or not self._layout.record(alias.content).exists():
                    remove(entry.path)
        blobs = [blob for blob in step(self._dropped_blobs) if self._remove_blob(blob)]
        freed = sum(self._sizes[blob][0] for blob in blobs)
        remaining = sum(size for size, _ in self._sizes.values()) - freed
        stuck = len(self._dropped_keys) + len(self._dropped_blobs) - len(keys) - len(blobs)
        return GcResult(keys=tuple(keys), blobs=tuple(blobs), bytes=freed, remaining=remaining, stuck=stuck)

    def _release(self, blob: str) -> None:
        self._references[blob] -= 1
        if not self._references[blob] and blob in self._sizes:
            self._drop_blob(blob)

    def _drop_blob(self, blob: str) -> None:
        self._dropped_blobs.append(blob)
        self.total -= self._sizes[blob][0]

    def _remove_blob(self, blob: str) -> bool:
        path = self._layout.blob(blob)
        try:
            unchanged = path.stat().st_mtime_ns == self._sizes[blob][1]
        except OSError:
            return True
        return unchanged and remove(path)  # a blob that was written again will be named by a new record


def _remove_leftovers(layout: Layout, now: float) -> None:
    """Remove the temporary files and locks of dead processes, and blobs that were in quarantine for long enough."""
    for entry in layout.files("tmp"):
        if is_abandoned(entry, now):
            remove(entry.path)
    locks = Locks(layout.directory / "locks")
    for entry in layout.files("locks"):
        with contextlib.suppress(LockHeldError, OSError), locks.hold_without_waiting(Path(entry.path).stem):
            pass  # releasing a lock removes its file
    for entry in layout.files("quarantine"):
        with contextlib.suppress(OSError):
            if now - entry.stat(follow_symlinks=False).st_mtime > QUARANTINE_SECONDS:
                remove(entry.path)


def _is_old(path: Path, now: float) -> bool:
    try:
        return now - path.stat().st_mtime > GRACE_SECONDS
    except OSError:
        return False


def _digests(record: Record) -> set[str]:
    return {value.digest for value in record.outputs.values()}
