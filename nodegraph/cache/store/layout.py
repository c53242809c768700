"""The files and folders of a cache directory.

    blobs/ab/<sha256 of the file><suffix>               values and exported files; never changed once written
    records/ab/<content key>.json                       a node's result: which blobs hold its values, and what computed it
    aliases/ab/<static key>                             the content key that a static key stands for, and on what that depends
    exports/ab/<digest of a value><extension>.json      the files that a value was exported to
    quarantine/                                         blobs whose content was found to be changed
    tmp/<process>-<random><suffix>                      files being written; renamed when they are complete
    work/ab/<key>/                                      a node's unfinished work
    models/                                             files that the process of a run has sent to its workers
    locks/<key>.lock                                    held by the process that computes a key, which then removes it
    verified.jsonl                                      the state of each large blob when its content was last checked
    journal.jsonl, index.sqlite                         use, size and order of the results; rebuilt from the records if lost

No file is changed in place: a new file is written under a temporary name and renamed, and an old one is unlinked. So a process that
has a file open or mapped can go on reading it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from nodegraph.files import create_inside, write_in_cache
from nodegraph.light_dataclass import dataclass

BLOB: Final = re.compile(r"[0-9a-f]{64}(\.[A-Za-z0-9]+)*")
KEY: Final = re.compile(r"[0-9a-f]{64}")

RESULT_FOLDERS: Final = ("aliases", "records", "exports", "blobs", "quarantine", "tmp")
"""The folders of results. If they are emptied in this order, no file ever refers to one that is already gone."""

MEMOS: Final = ("verified.jsonl", "files.jsonl", "numerics.json", "journal.jsonl", "index.sqlite")
"""What is remembered of files, devices and uses. All of it can be found out again."""

DEAD_PROCESS_SECONDS: Final = 60
"""How long a temporary file is kept if its process seems to be dead: the process may be alive in another container."""

ABANDONED_SECONDS: Final = 86400
"""A temporary file that was not written to for this long is abandoned, whether or not its process seems to be alive."""

_TAG: Final = """Signature: 8a477f597d28d172789f06886806bc55
# This folder is a cache of nodegraph: it may be removed, and need not be in backups. See https://bford.info/cachedir/
"""
_TAG_SIGN: Final = b"# This folder is a cache of nodegraph"  # no other program writes this line

_TEMPORARY_NAME: Final = r"(\d+)-[0-9a-f]{8}(\.[A-Za-z0-9]+)*"
_NAMES: Final = {  # of the files in each folder of results
    "aliases": r"[0-9a-f]{64}",
    "records": r"[0-9a-f]{64}\.json",
    "exports": r"[0-9a-f]{64}(\.[A-Za-z0-9]+)*\.json",
    "blobs": r"[0-9a-f]{64}(\.[A-Za-z0-9]+)*",
    "quarantine": r"[0-9a-f]{64}(\.[A-Za-z0-9]+)*|[0-9]{8}-[0-9a-f-]+\.json",
    "tmp": _TEMPORARY_NAME,
}
_FLAT: Final = frozenset({"quarantine", "tmp"})  # all other folders of results have a folder for each first two digits


@dataclass(frozen=True, eq=False)
class Layout:
    """The paths in the cache directory `directory`."""

    directory: Path

    @property
    def index(self) -> Path:
        return self.directory / "index.sqlite"

    @property
    def journal(self) -> Path:
        return self.directory / "journal.jsonl"

    @property
    def models(self) -> Path:
        return self.directory / "models"

    @property
    def tag(self) -> Path:
        return self.directory / "CACHEDIR.TAG"

    def create(self) -> None:
        """Create the directory, for its owner only, and the file in it that marks it as a cache. Raises OSError."""
        create_inside(self.directory, self.directory / "tmp")
        if not self.tag.exists():
            write_in_cache(self.tag, _TAG.encode("ascii"))

    def is_cache(self) -> bool:
        """Whether the directory is a cache of nodegraph. If it is not, nothing in it is removed."""
        try:
            with self.tag.open("rb") as file:
                return _TAG_SIGN in file.read(4096)
        except OSError:
            return False

    def is_open_to_others(self) -> bool:
        """Whether every user of the machine may write to the directory, and so change its results."""
        try:
            return os.name == "posix" and bool(self.directory.stat().st_mode & stat.S_IWOTH)
        except OSError:
            return False

    def blob(self, name: str) -> Path:
        return _path(self.directory, "blobs", name)

    def record(self, key: str) -> Path:
        return _path(self.directory, "records", key, ".json")

    def alias(self, static: str) -> Path:
        return _path(self.directory, "aliases", static)

    def export(self, digest: str, extension: str) -> Path:
        return self.directory / "exports" / digest[:2] / f"{digest}{extension}.json"

    def work(self, key: str) -> Path:
        return self.directory.joinpath("work", key[:2], key)

    def work_keys(self) -> Iterator[str]:
        """The key of every folder of unfinished work, in no particular order."""
        for parent in _scan(os.path.join(self.directory, "work")):  # noqa: PTH118
            if parent.is_dir(follow_symlinks=False):
                for entry in _scan(parent.path):
                    if KEY.fullmatch(entry.name) and entry.name[:2] == parent.name and entry.is_dir(follow_symlinks=False):
                        yield entry.name

    def quarantine(self, file: Path) -> None:
        """Move a damaged file to the quarantine folder. If that fails, remove it."""
        target = self.directory / "quarantine" / file.name
        try:
            create_inside(self.directory, target.parent)
            file.replace(target)
            os.utime(target)  # its time in quarantine starts now
        except OSError:
            remove(file)

    def copy_to_quarantine(self, file: Path) -> None:
        """Copy a file to the quarantine folder, if that can be written."""
        import shutil

        with contextlib.suppress(OSError):
            shutil.copyfile(file, self.directory / "quarantine" / file.name)

    def temporary(self, suffix: str = "") -> Path:
        """A new name for a file that is being written, in the file system that it will stay in."""
        return self.directory.joinpath("tmp", f"{os.getpid()}-{os.urandom(4).hex()}{suffix}")

    def blobs(self) -> Iterator[os.DirEntry[str]]:
        """Every blob, in no particular order."""
        return self.results("blobs")

    def blob_sizes(self) -> Iterator[tuple[str, int]]:
        """The name and the bytes of every blob."""
        for entry in self.blobs():
            with contextlib.suppress(OSError):  # removed meanwhile
                yield entry.name, entry.stat(follow_symlinks=False).st_size

    def records(self) -> Iterator[str]:
        """The key of every record, in no particular order."""
        return (entry.name[:64] for entry in self.results("records"))

    def results(self, folder: str) -> Iterator[os.DirEntry[str]]:
        """The files that nodegraph has written to one of `RESULT_FOLDERS`. Files of other programs are left out."""
        for entry in self.files(folder):
            parent = os.path.basename(os.path.dirname(entry.path))  # noqa: PTH119, PTH120 (in loops over many)
            if re.fullmatch(_NAMES[folder], entry.name) and parent == (folder if folder in _FLAT else entry.name[:2]):
                yield entry

    def files(self, folder: str) -> Iterator[os.DirEntry[str]]:
        """The files in a folder and its subfolders, in no particular order. None if the folder does not exist or cannot be read."""
        for entry in _scan(os.path.join(self.directory, folder)):  # noqa: PTH118
            if entry.is_dir(follow_symlinks=False):
                yield from (inner for inner in _scan(entry.path) if inner.is_file(follow_symlinks=False))
            elif entry.is_file(follow_symlinks=False):
                yield entry


@functools.lru_cache(maxsize=4096)
def _path(directory: Path, folder: str, name: str, suffix: str = "") -> Path:
    """A path in a folder of results. Each is asked for several times in a run, and making one takes as long as `os.stat`."""
    return directory.joinpath(folder, name[:2], name + suffix)


def is_abandoned(entry: os.DirEntry[str], now: float) -> bool:
    """Whether a file in `tmp` will not be finished: its process is dead, or has not written to it for a day."""
    match = re.fullmatch(_TEMPORARY_NAME, entry.name)
    try:
        age = now - entry.stat(follow_symlinks=False).st_mtime
    except OSError:
        return False
    return match is not None and (age > ABANDONED_SECONDS or (age > DEAD_PROCESS_SECONDS and _is_dead(int(match[1]))))


def remove(path: Path | str) -> bool:
    """Unlink a file. Returns whether it is gone.

    It stays if the directory is read-only or, on Windows, if a process has the file open.
    """
    try:
        os.unlink(path)  # noqa: PTH108 (in loops over many)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _is_dead(process: int) -> bool:
    """Whether no process has this number. False if that cannot be found out without harm."""
    if os.name != "posix":  # on Windows, os.kill(process, 0) sends Ctrl-C
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
