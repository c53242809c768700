"""Where things lie in a cache directory.

    blobs/ab/<sha256 of the file><suffix>               values and exported files, never changed once written
    records/ab/<content key>.json                       an action record: which blobs a node's result is made of
    aliases/ab/<static key>                             the content key that a static key stands for
    exports/ab/<digest of a value><extension>.json      the files that a value was exported to
    quarantine/                                         blobs whose content was found changed
    tmp/<process>-<random><suffix>                      what is being written; renamed to its place when it is whole
    locks/<key>.lock                                    who computes what; removed by its holder
    verified.jsonl                                      the state in which large blobs were last read whole and found right
    journal.jsonl, index.sqlite                         use, size and order of the entries; rebuilt from the records when gone

Nothing is ever changed in place: what is new is written beside and renamed, and what goes is unlinked, so that whoever has a file
open or mapped keeps what he has.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

BLOB: Final = re.compile(r"[0-9a-f]{64}(\.[A-Za-z0-9]+)*")
KEY: Final = re.compile(r"[0-9a-f]{64}")

ROOMS: Final = ("aliases", "records", "exports", "blobs", "quarantine", "tmp")
"""The folders that hold nothing but results; aliases first, so that what is removed in this order never refers to what is gone."""

FORGOTTEN_SECONDS: Final = 60
"""How long a temporary file of a process that seems dead is left alone: it may live in another container."""

ABANDONED_SECONDS: Final = 86400
"""After which time untouched a temporary file is nobody's, whoever made it."""

_TAG: Final = """Signature: 8a477f597d28d172789f06886806bc55
# This folder is a cache of nodegraph: it may be removed, and need not be in backups. See https://bford.info/cachedir/
"""

_TEMPORARY = re.compile(r"(\d+)-[0-9a-f]{8}(\.[A-Za-z0-9]+)*")


@dataclass(frozen=True)
class Layout:
    """The paths of the cache directory `place`."""

    place: Path

    @property
    def index(self) -> Path:
        return self.place / "index.sqlite"

    @property
    def journal(self) -> Path:
        return self.place / "journal.jsonl"

    @property
    def tag(self) -> Path:
        return self.place / "CACHEDIR.TAG"

    def make(self) -> None:
        """Make the directory, and say in it what it is. Raises OSError."""
        (self.place / "tmp").mkdir(parents=True, exist_ok=True)
        if not self.tag.exists():
            self.tag.write_text(_TAG, encoding="ascii")

    def is_cache(self) -> bool:
        """Whether the directory is one of ours, so that nobody's own files are touched."""
        rooms = (self.place / room for room in ("records", "blobs"))
        return self.tag.exists() or (self.place / "numerics.json").is_file() or any(room.is_dir() for room in rooms)

    def blob(self, name: str) -> Path:
        return self.place.joinpath("blobs", name[:2], name)

    def record(self, key: str) -> Path:
        return self.place.joinpath("records", key[:2], f"{key}.json")

    def alias(self, static: str) -> Path:
        return self.place.joinpath("aliases", static[:2], static)

    def export(self, digest: str, extension: str) -> Path:
        return self.place / "exports" / digest[:2] / f"{digest}{extension}.json"

    def put_aside(self, blob: Path) -> None:
        """Take a blob that is not what its name says out of use; where it cannot be kept for a look, it is removed."""
        aside = self.place / "quarantine" / blob.name
        try:
            aside.parent.mkdir(exist_ok=True)
            blob.replace(aside)
            os.utime(aside)  # how long it stays there counts from now
        except OSError:
            remove(blob)

    def temporary(self, suffix: str = "") -> Path:
        """A new name for what is being written, in the same file system as its place."""
        return self.place / "tmp" / f"{os.getpid()}-{os.urandom(4).hex()}{suffix}"

    def blobs(self) -> Iterator[os.DirEntry[str]]:
        """Every blob, in no order."""
        return (entry for entry in self.files("blobs") if BLOB.fullmatch(entry.name))

    def blob_sizes(self) -> Iterator[tuple[str, int]]:
        """Every blob with its bytes."""
        for entry in self.blobs():
            with contextlib.suppress(OSError):  # removed meanwhile
                yield entry.name, entry.stat(follow_symlinks=False).st_size

    def records(self) -> Iterator[str]:
        """The key of every record, in no order."""
        names = (entry.name for entry in self.files("records"))
        return (name[:64] for name in names if name.endswith(".json") and KEY.fullmatch(name[:-5]))

    def files(self, room: str) -> Iterator[os.DirEntry[str]]:
        """The files in a room and in its folders, in no order; none where it is not there or cannot be read."""
        for entry in _scan(os.path.join(self.place, room)):  # noqa: PTH118
            if entry.is_dir(follow_symlinks=False):
                yield from (inner for inner in _scan(entry.path) if inner.is_file(follow_symlinks=False))
            elif entry.is_file(follow_symlinks=False):
                yield entry


def is_abandoned(entry: os.DirEntry[str], now: float) -> bool:
    """Whether a file in `tmp` is nobody's any more: its process is dead, or it has not been written to for a day."""
    match = _TEMPORARY.fullmatch(entry.name)
    try:
        age = now - entry.stat(follow_symlinks=False).st_mtime
    except OSError:
        return False
    return match is not None and (age > ABANDONED_SECONDS or (age > FORGOTTEN_SECONDS and _is_dead(int(match[1]))))


def remove(path: Path | str) -> bool:
    """Unlink a file; whether it is gone. One that is open elsewhere on Windows, or in a read-only directory, stays."""
    try:
        os.unlink(path)  # noqa: PTH108 (in loops over many)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _is_dead(process: int) -> bool:
    """Whether no process has this number; where that cannot be asked without harm, False."""
    if os.name != "posix":  # on Windows os.kill(process, 0) is no question
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _scan(folder: str) -> Iterator[os.DirEntry[str]]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        yield from entries
