"""Maintenance of a whole cache directory: verify it, collect garbage, clear it.

Other processes may compute and read results meanwhile. A blob is written before the record that names it, so a blob that no record
names is kept while it is young; and a blob that was written again since it was listed is not removed.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar

from nodegraph.cache.file_digests import hash_file
from nodegraph.cache.store.layout import KEY, MEMOS, RESULT_FOLDERS, Layout, is_abandoned, remove
from nodegraph.cache.store.locks import LockHeldError, Locks
from nodegraph.cache.store.records import Record, StaleRecordError, read_export, read_record
from nodegraph.files import parse_json

T = TypeVar("T")

GRACE_SECONDS: Final = 3600
"""How long a file that nothing refers to is kept: another process may be about to write the record that refers to it."""

QUARANTINE_SECONDS: Final = 7 * 86400
"""How long damaged blobs are kept, so that they can be examined."""

ReadRecord = Callable[[str], Record | None]
"""Returns the record of a key, or None if it does not exist or cannot be read."""

Progress = Callable[[int, int], None]
"""Receives how many files are done, and how many there are. May stop the work by raising."""


class _Steps(Protocol):
    def __call__(self, items: Iterable[T], /) -> Iterator[T]: ...


def no_progress(done: int, total: int) -> None:
    """Show nothing."""


@dataclass(frozen=True, kw_only=True)
class VerifyResult:
    """What `verify` found. `blobs` and `bytes` count the blobs that were read.

    `wrong` names the damaged blobs, `missing` those that are gone. `lost` holds the records that were removed because of them.
    `damaged` names the other files of the cache that cannot be read, below its directory. `stale` counts the results that another
    version of nodegraph stored: this version does not use them.
    """

    blobs: int
    bytes: int
    wrong: tuple[str, ...]
    missing: tuple[str, ...]
    lost: tuple[Record, ...]
    damaged: tuple[str, ...] = ()
    stale: int = 0


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


def verify(layout: Layout, read_record: ReadRecord, progress: Progress = no_progress) -> VerifyResult:
    """Hash every blob, in several threads, and read every other file.

    Damaged files are moved to quarantine; records and exports that name a missing blob are removed.
    """
    count = size = 0
    wrong: list[str] = []
    entries = list(layout.blobs())
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        checks = threads.map(_check_blob, entries)
        try:
            for i, (entry, (sound, read)) in enumerate(zip(entries, checks, strict=True), 1):
                progress(i, len(entries))
                if sound is None:
                    continue  # removed meanwhile
                count, size = count + 1, size + read
                if not sound:
                    wrong.append(entry.name)
                    layout.quarantine(Path(entry.path))
        except BaseException:  # such as Ctrl-C
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    damaged, stale = _check_small_files(layout)
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
        damaged=tuple(sorted(damaged)),
        stale=stale,
    )


def _check_blob(entry: os.DirEntry[str]) -> tuple[bool | None, int]:
    """Whether a blob has the content that its name says, and its bytes. None: it was removed meanwhile."""
    try:
        return entry.name.startswith(hash_file(Path(entry.path))), entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        return None, 0
    except OSError:
        return False, 0


def _check_small_files(layout: Layout) -> tuple[list[str], int]:
    """Move the damaged ones among the records, aliases, exports, run records and memos to quarantine.

    Returns their paths below the directory, and how many records are in another format.
    """
    damaged: list[str] = []
    stale = 0
    for path, is_sound in _small_files(layout):
        try:
            sound = is_sound(path.read_bytes())
        except StaleRecordError:
            stale += 1
            continue
        except FileNotFoundError:
            continue
        except (OSError, KeyError, TypeError, ValueError, AttributeError):
            sound = False
        if not sound:
            damaged.append(path.relative_to(layout.directory).as_posix())
            layout.quarantine(path)
    return damaged, stale


def _small_files(layout: Layout) -> Iterator[tuple[Path, Callable[[bytes], bool]]]:
    """Each file that is not a blob, with a function that checks its content: it returns False or raises if the file is damaged."""
    for entry in layout.results("records"):
        yield Path(entry.path), functools.partial(_is_record, key=entry.name[:64])
    for entry in layout.results("aliases"):
        yield Path(entry.path), lambda data: KEY.fullmatch(data.decode("ascii")) is not None
    for entry in layout.results("exports"):
        yield Path(entry.path), lambda data: read_export(data) is not None
    for path in (layout.directory / "runs").glob("*.json"):
        yield path, _is_object
    for name in MEMOS:
        path = layout.directory / name
        if path.suffix == ".jsonl":
            yield path, _are_lists
        elif path.suffix == ".json":
            yield path, _is_object


def _is_record(data: bytes, key: str) -> bool:
    return read_record(data, key).key == key


def _is_object(data: bytes) -> bool:
    return isinstance(parse_json(data), dict)


def _are_lists(data: bytes) -> bool:
    """Whether every line is a list. A line that a killed process left incomplete has no line break behind it or is the last."""
    lines = data.splitlines()
    return all(isinstance(parse_json(line), list) for line in lines[: -1 if data[-1:] != b"\n" else None] if line)


def collect(
    layout: Layout,
    read_record: ReadRecord,
    *,
    last_used: Mapping[str, float],
    limit: int | None,
    older_than: float | None,
    progress: Progress = no_progress,
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
    result = collection.remove(progress)
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

    def remove(self, progress: Progress) -> GcResult:
        """Remove what was dropped: first records and exports, then the blobs that they refer to.

        If `progress` raises, what is left is removed by the next collection.
        """
        step = _steps(progress, len(self._dropped_keys) + len(self._dropped_files) + len(self._dropped_blobs))
        keys = [key for key in step(self._dropped_keys) if remove(self._layout.record(key))]
        for path in step(self._dropped_files):
            remove(path)
        for entry in self._layout.results("aliases"):
            with contextlib.suppress(OSError, ValueError):
                content = Path(entry.path).read_text(encoding="ascii")
                if not (KEY.fullmatch(content) and self._layout.record(content).exists()):
                    remove(entry.path)
        blobs = [blob for blob in step(self._dropped_blobs) if self._remove_blob(blob)]
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


def clear(layout: Layout, progress: Progress = no_progress) -> None:
    """Remove every result, and what is remembered of files and devices. Files of other programs stay."""
    paths = [Path(entry.path) for folder in RESULT_FOLDERS for entry in layout.results(folder)]
    memos = [path for name in (*MEMOS, "journal-*.taken", "index.sqlite-*") for path in layout.directory.glob(name)]
    for path in _steps(progress, len(paths) + len(memos))([*paths, *memos]):
        remove(path)
    for folder in RESULT_FOLDERS:
        _remove_empty(layout.directory / folder)


def _remove_empty(folder: Path) -> None:
    """Remove the folders in `folder` that are empty, and then `folder` itself if it is."""
    with contextlib.suppress(OSError):
        for inner in (path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()):
            with contextlib.suppress(OSError):
                inner.rmdir()
        folder.rmdir()


def _steps(progress: Progress, total: int) -> _Steps:
    """A function that yields what it receives and shows progress; it may be called for one part of the work after another."""
    count = itertools.count(1)

    def step(items: Iterable[T]) -> Iterator[T]:
        for item in items:
            progress(next(count), total)
            yield item

    return step


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
    for entry in layout.results("exports"):
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
