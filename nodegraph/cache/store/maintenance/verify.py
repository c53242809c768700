"""Checking the content of every file of a cache directory."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from nodegraph.cache.file_digests import hash_file
from nodegraph.cache.store.layout import MEMOS, Layout, remove
from nodegraph.cache.store.maintenance.exports import exports_in
from nodegraph.cache.store.maintenance.progress import Progress, no_progress, steps, with_progress
from nodegraph.cache.store.records import FORMAT, ReadRecord, Record, StaleRecordError, read_alias, read_export, read_record
from nodegraph.files import parse_json
from nodegraph.light_dataclass import dataclass

_AT_ONCE: Final = 256  # blobs that are handed to the threads


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


def verify(layout: Layout, read_record: ReadRecord, progress: Progress = no_progress) -> VerifyResult:
    """Hash every blob, in several threads, and read every other file.

    Damaged files are moved to quarantine; records and exports that name a missing blob are removed.
    """
    count = size = 0
    wrong: list[str] = []
    entries = list(layout.blobs())
    for i, (entry, (sound, read)) in enumerate(_checked(entries), 1):
        progress("checked", i, len(entries))
        if sound is None:
            continue  # removed meanwhile
        count, size = count + 1, size + read
        if not sound:
            wrong.append(entry.name)
            layout.quarantine(Path(entry.path))
    damaged, stale = _check_small_files(layout, progress)
    on_disk = {entry.name for entry in layout.blobs()}
    missing: set[str] = set()
    lost: list[Record] = []
    for record in filter(None, map(with_progress(read_record, progress), layout.records())):
        gone = {blob for blob in record.blobs().keys() - on_disk if not layout.blob(blob).exists()}  # it may be there by now
        if gone:
            missing |= gone
            lost.append(record)
            remove(layout.record(record.key))
    for export in exports_in(layout):
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


def _checked(entries: Sequence[os.DirEntry[str]]) -> Iterator[tuple[os.DirEntry[str], tuple[bool | None, int]]]:
    """Each blob with what `_check_blob` returns for it. Several threads check a few at a time, so that Ctrl-C waits for few."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        try:
            for start in range(0, len(entries), _AT_ONCE):
                some = entries[start : start + _AT_ONCE]
                yield from zip(some, threads.map(_check_blob, some), strict=True)
        except BaseException:  # such as Ctrl-C, or GeneratorExit if the caller stops
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def _check_blob(entry: os.DirEntry[str]) -> tuple[bool | None, int]:
    """Whether a blob has the content that its name says, and its bytes. None: it was removed meanwhile."""
    try:
        return entry.name.startswith(hash_file(Path(entry.path))), entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        return None, 0
    except OSError:
        return False, 0


def count_stale(layout: Layout, listed: Collection[str], progress: Progress = no_progress) -> int:
    """How many records are in a form that only another version of nodegraph reads; those whose keys are in `listed` are not."""
    count = 0
    for key in steps(progress, "listed")(layout.records()):
        if key not in listed:
            try:
                read_record(layout.record(key).read_bytes(), key)
            except StaleRecordError:
                count += 1
            except (OSError, KeyError, TypeError, ValueError, AttributeError):
                continue  # removed meanwhile, or damaged
    return count


def _check_small_files(layout: Layout, progress: Progress) -> tuple[list[str], int]:
    """Move the damaged ones among the records, aliases, exports, run records and memos to quarantine.

    Returns their paths below the directory, and how many records are in another format.
    """
    damaged: list[str] = []
    stale = 0
    for path, is_sound in steps(progress, "checked")(_small_files(layout)):
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
        yield Path(entry.path), lambda data: read_alias(data) is not None
    for entry in layout.results("exports"):
        yield Path(entry.path), _is_export
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


def _is_export(data: bytes) -> bool:
    if parse_json(data)["format"] != FORMAT:
        raise StaleRecordError("a list of exported files in another format")
    return read_export(data) is not None


def _is_object(data: bytes) -> bool:
    return isinstance(parse_json(data), dict)


def _are_lists(data: bytes) -> bool:
    """Whether every line is a list. A line that a killed process left incomplete has no line break behind it or is the last."""
    lines = data.splitlines()
    return all(isinstance(parse_json(line), list) for line in lines[: -1 if data[-1:] != b"\n" else None] if line)
