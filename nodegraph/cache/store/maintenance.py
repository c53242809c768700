"""Looking after a whole cache directory: checking all of it, making room, emptying it.

Processes may compute and read meanwhile. A blob is written before the record that names it, so one that no record names is left
alone while it is young; and one that was written anew since it was looked at is not removed.
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
from nodegraph.cache.store.layout import KEY, ROOMS, Layout, is_abandoned, remove
from nodegraph.cache.store.locks import LockHeldError, Locks
from nodegraph.cache.store.records import Record, read_export

GRACE_SECONDS: Final = 3600
"""How long a file that nothing refers to is left alone: what refers to it may be yet to come."""

QUARANTINE_SECONDS: Final = 7 * 86400
"""How long damaged blobs are kept for a look."""

Read = Callable[[str], Record | None]
"""Gives the record of a key, if there is one that can be read."""


@dataclass(frozen=True)
class Verified:
    """What `verify` found. `wrong` and `missing` name blobs; `lost` are the records that were dropped because of them."""

    blobs: int
    bytes: int
    wrong: tuple[str, ...]
    missing: tuple[str, ...]
    lost: tuple[Record, ...]


@dataclass(frozen=True)
class Collected:
    """What `collect` removed: the keys of results, blobs, and the bytes of these; and the bytes that are left."""

    keys: tuple[str, ...]
    blobs: tuple[str, ...]
    bytes: int
    left: int


@dataclass(frozen=True)
class _Export:
    """A file in `exports`: what the value of `digest` was exported to."""

    path: Path
    digest: str
    blobs: tuple[str, ...]


def verify(layout: Layout, read: Read) -> Verified:
    """Hash every blob anew; put wrong ones aside, and drop the records and exports that name what is not there."""
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
            layout.put_aside(Path(entry.path))
    there = {entry.name for entry in layout.blobs()}
    missing: set[str] = set()
    lost: list[Record] = []
    for record in filter(None, map(read, layout.records())):
        gone = {blob for blob in record.blobs().keys() - there if not layout.blob(blob).exists()}  # it may have come since
        if gone:
            missing |= gone
            lost.append(record)
            remove(layout.record(record.key))
    for export in _exports(layout):
        if not all(layout.blob(blob).exists() for blob in export.blobs):
            remove(export.path)
    return Verified(count, size, tuple(sorted(wrong)), tuple(sorted(missing - set(wrong))), tuple(lost))


def collect(layout: Layout, read: Read, used: Mapping[str, float], limit: int | None, older_than: float | None) -> Collected:
    """Remove what nothing refers to, and the results that were not used for longest; see `Store.gc`.

    `used` gives the time of the last use for each key. One process at a time may do this.
    """
    now = time.time()
    contents = _Contents(layout, read)
    contents.drop_strays(now)
    records = sorted(contents.records.values(), key=lambda record: (used.get(record.key, record.created), record.created))
    for record in records:
        idle = now - used.get(record.key, record.created)
        if (limit is None or contents.total <= limit) and (older_than is None or idle <= older_than):
            break
        contents.drop(record)
    removed = contents.remove()
    _sweep(layout, now)
    return removed


class _Contents:
    """What lies in the directory and who refers to it, and what is to go."""

    def __init__(self, layout: Layout, read: Read) -> None:
        self._layout = layout
        self._sizes: dict[str, tuple[int, int]] = {}  # bytes and time of the last change, in ns
        for entry in layout.blobs():
            with contextlib.suppress(OSError):
                stat = entry.stat(follow_symlinks=False)
                self._sizes[entry.name] = stat.st_size, stat.st_mtime_ns
        self.total = sum(size for size, _ in self._sizes.values())
        self.records = {record.key: record for record in filter(None, map(read, layout.records()))}
        self._exports: dict[str, list[_Export]] = {}
        for export in _exports(layout):
            self._exports.setdefault(export.digest, []).append(export)
        self._values = Counter(digest for record in self.records.values() for digest in _digests(record))
        self._holders = Counter(blob for record in self.records.values() for blob in record.blobs())
        for digest in self._values:
            self._holders.update(blob for export in self._exports.get(digest, ()) for blob in export.blobs)
        self._keys: list[str] = []
        self._files: list[Path] = []  # of exports and of records that cannot be read
        self._blobs: list[str] = []

    def drop_strays(self, now: float) -> None:
        """Drop what nothing refers to and nobody wrote lately."""
        for name, (_, changed) in self._sizes.items():
            if not self._holders[name] and now - changed / 1e9 > GRACE_SECONDS:
                self._drop_blob(name)
        for digest, exports in self._exports.items():
            if digest not in self._values:
                self._files += [export.path for export in exports if _is_old(export.path, now)]
        for key in self._layout.records():
            if key not in self.records and _is_old(self._layout.record(key), now):
                self._files.append(self._layout.record(key))

    def drop(self, record: Record) -> None:
        """Drop a result, and what only it refers to."""
        self._keys.append(record.key)
        for blob in record.blobs():
            self._release(blob)
        for digest in _digests(record):
            self._values[digest] -= 1
            if not self._values[digest]:
                for export in self._exports.get(digest, ()):
                    self._files.append(export.path)
                    for blob in export.blobs:
                        self._release(blob)

    def remove(self) -> Collected:
        """Remove what was dropped: first what refers, then what it refers to."""
        keys = [key for key in self._keys if remove(self._layout.record(key))]
        for path in self._files:
            remove(path)
        for entry in self._layout.files("aliases"):
            with contextlib.suppress(OSError, ValueError):
                content = Path(entry.path).read_text(encoding="ascii")
                if not (KEY.fullmatch(content) and self._layout.record(content).exists()):
                    remove(entry.path)
        gone = [blob for blob in self._blobs if self._remove_blob(blob)]
        freed = sum(self._sizes[blob][0] for blob in gone)
        return Collected(tuple(keys), tuple(gone), freed, sum(size for size, _ in self._sizes.values()) - freed)

    def _release(self, blob: str) -> None:
        self._holders[blob] -= 1
        if not self._holders[blob] and blob in self._sizes:
            self._drop_blob(blob)

    def _drop_blob(self, blob: str) -> None:
        self._blobs.append(blob)
        self.total -= self._sizes[blob][0]

    def _remove_blob(self, blob: str) -> bool:
        path = self._layout.blob(blob)
        try:
            unchanged = path.stat().st_mtime_ns == self._sizes[blob][1]
        except OSError:
            return True
        return unchanged and remove(path)  # else it was written anew, for a record that is yet to come


def clear(layout: Layout) -> None:
    """Remove every result, and what is remembered of files and devices."""
    for room in ROOMS:
        shutil.rmtree(layout.place / room, ignore_errors=True)
    for pattern in (
        "verified.jsonl",
        "files.jsonl",
        "numerics.json",
        "journal.jsonl",
        "journal-*.taken",
        "index.sqlite",
        "index.sqlite-*",
    ):
        for path in layout.place.glob(pattern):
            remove(path)


def _sweep(layout: Layout, now: float) -> None:
    """Remove what processes that died have left behind, and damaged blobs that nobody looked at."""
    for entry in layout.files("tmp"):
        if is_abandoned(entry, now):
            remove(entry.path)
    locks = Locks(layout.place / "locks")
    for entry in layout.files("locks"):
        with contextlib.suppress(LockHeldError, OSError), locks.hold_now(Path(entry.path).stem):
            pass  # whoever lets go of a lock removes its file
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
    return {stored.digest for stored in record.outputs.values()}
