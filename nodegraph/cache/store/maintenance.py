"""Maintenance of a whole cache directory: verify it, collect garbage, clear it.

Other processes may compute and read results meanwhile. A blob is written before the record that names it, so a blob that no record
names is kept while it is young; and a blob that was written again since it was listed is not removed.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nodegraph.cache.file_digests import hash_file
from nodegraph.cache.store.layout import KEY, RESULT_FOLDERS, Layout, is_abandoned, remove
from nodegraph.cache.store.locks import LockHeldError, Locks
from nodegraph.cache.store.records import Record, read_export

GRACE_SECONDS: Final = 3600
"""How long a file that nothing refers to is kept: another process may be about to write the record that refers to it."""

QUARANTINE_SECONDS: Final = 7 * 86400
"""How long damaged blobs are kept, so that they can be examined."""

ReadRecord = Callable[[str], Record | None]
"""Returns the record of a key, or None if it does not exist or cannot be read."""


@dataclass(frozen=True, kw_only=True)
class VerifyResult:
    """What `verify` found. `blobs` and `bytes` count the blobs that were read.

    `wrong` names the damaged blobs, `missing` those that are gone. `lost` holds the records that were removed because of them.
    """

    blobs: int
    bytes: int
    wrong: tuple[str, ...]
    missing: tuple[str, ...]
    lost: tuple[Record, ...]


@dataclass(frozen=True, kw_only=True)
class GcResult:
    """What `collect` removed: results by their keys, blobs by their names, and the bytes of these blobs.

    `remaining` is the bytes of the blobs that are still there.
    """

    keys: tuple[str, ...]
    blobs: tuple[str, ...]
    bytes: int
    remaining: int


@dataclass(frozen=True)
class _Export:
    """A file in `exports`: the blobs of the files that the value with `digest` was exported to."""

    path: Path
    digest: str
    blobs: tuple[str, ...]


def verify(layout: Layout, read_record: ReadRecord) -> VerifyResult:
    """Hash every blob. Damaged ones are moved to quarantine; records and exports that name a missing blob are removed."""
    count = size = 0
    wrong: list[str] = []
    for entry in layout.blobs():
        try:
            sound = entry.name.startswith(hash_file(Path(entry.path)))
            size += entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            continue  # removed meanwhile
        except OSError:
            sound = False
        count += 1
        if not sound:
            wrong.append(entry.name)
            layout.quarantine(Path(entry.path))
    on_disk = {entry.name for entry in layout.blobs()}
    missing: set[str] = set()
    lost: list[Record] = []
    for record in filter(None, map(read_record, layout.records())):
        gone = {blob for blob in record.blobs().keys() - on_disk if not layout.blob(blob).exists()}  # it may be there by now
        if gone:
            missing |= gone
            lost.append(record)
            remove(layout.record(record.key))
    for export in _exports(layout):
        if not all(layout.blob(blob).exists() for blob in export.blobs):
            remove(export.path)
    return VerifyResult(
        blobs=count,
        bytes=size,
        wrong=tuple(sorted(wrong)),
        missing=tuple(sorted(missing - set(wrong))),
        lost=tuple(lost),
    )


def collect(
    layout: Layout,
    read_record: ReadRecord,
    *,
    last_used: Mapping[str, float],
    limit: int | None,
    older_than: float | None,
) -> GcResult:
    """Remove what nothing refers to, then the least recently used results; see `Store.gc`.

    `last_used` holds the time of the last use of each key. Only one process at a time may do this.
    """
    now = time.time()
    collection = _Collection(layout, read_record)
    collection.drop_unreferenced(now)
    by_last_use = sorted(
        collection.records.values(), key=lambda record: (last_used.get(record.key, record.created), record.created)
    )
    for record in by_last_use:
        idle = now - last_used.get(record.key, record.created)
        if (limit is None or collection.total <= limit) and (older_than is None or idle <= older_than):
            break
        collection.drop(record)
    result = collection.remove()
    _remove_leftovers(layout, now)
    return result


class _Collection:
    """What is in the directory, what refers to what, and what is going to be removed."""

    def __init__(self, layout: Layout, read_record: ReadRecord) -> None:
        self._layout = layout
        self._sizes: dict[str, tuple[int, int]] = {}  # bytes, and time of the last change in ns
        for entry in layout.blobs():
            with contextlib.suppress(OSError):
                stat = entry.stat(follow_symlinks=False)
                self._sizes[entry.name] = stat.st_size, stat.st_mtime_ns
        self.total = sum(size for size, _ in self._sizes.values())
        self.records = {record.key: record for record in filter(None, map(read_record, layout.records()))}
        self._exports: dict[str, list[_Export]] = {}
        for export in _exports(layout):
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

    def remove(self) -> GcResult:
        """Remove what was dropped: first records and exports, then the blobs that they refer to."""
        keys = [key for key in self._dropped_keys if remove(self._layout.record(key))]
        for path in self._dropped_files:
            remove(path)
        for entry in self._layout.files("aliases"):
            with contextlib.suppress(OSError, ValueError):
                content = Path(entry.path).read_text(encoding="ascii")
                if not (KEY.fullmatch(content) and self._layout.record(content).exists()):
                    remove(entry.path)
        blobs = [blob for blob in self._dropped_blobs if self._remove_blob(blob)]
        freed = sum(self._sizes[blob][0] for blob in blobs)
        remaining = sum(size for size, _ in self._sizes.values()) - freed
        return GcResult(keys=tuple(keys), blobs=tuple(blobs), bytes=freed, remaining=remaining)

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


def clear(layout: Layout) -> None:
    """Remove every result, and what is remembered of files and devices."""
    for folder in RESULT_FOLDERS:
        shutil.rmtree(layout.directory / folder, ignore_errors=True)
    for pattern in (
        "verified.jsonl",
        "files.jsonl",
        "numerics.json",
        "journal.jsonl",
        "journal-*.taken",
        "index.sqlite",
        "index.sqlite-*",
    ):
        for path in layout.directory.glob(pattern):
            remove(path)


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


def _exports(layout: Layout) -> Iterator[_Export]:
    for entry in layout.files("exports"):
        with contextlib.suppress(OSError):
            blobs = read_export(Path(entry.path).read_bytes())
            yield _Export(Path(entry.path), entry.name[:64], tuple(blobs or ()))


def _is_old(path: Path, now: float) -> bool:
    try:
        return now - path.stat().st_mtime > GRACE_SECONDS
    except OSError:
        return False


def _digests(record: Record) -> set[str]:
    return {value.digest for value in record.outputs.values()}
