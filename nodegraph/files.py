"""The state of a file, and files that are written in one step: a reader sees the old file or the new one, never a part."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

P = TypeVar("P", Path, str)

CLOCK_NS: Final = 10_000_000
"""By how much the times of files may be behind the clock."""


class FileState(NamedTuple):
    """Which file this is, and when it last changed. If two states of a path differ, the file may have been changed in between."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, path: Path | str) -> FileState:
        """The current state of the file at `path`. Raises OSError if it does not exist or cannot be reached."""
        return cls.from_stat(os.stat(path))  # noqa: PTH116 (this may run for every node)

    @classmethod
    def from_stat(cls, stat: os.stat_result) -> FileState:
        """The state that `os.stat` returned."""
        return cls._make((stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))

    def changed_since(self, start_ns: int) -> bool:
        """Whether the file changed between `start_ns` and now, by its times. One that a person set to the future says nothing."""
        if self.mtime_ns < start_ns and self.ctime_ns < start_ns:
            return False
        return self.ctime_ns >= start_ns or self.mtime_ns <= time.time_ns()

    def settled(self, granularity_ns: int) -> bool:
        """Whether every later change to the file will show, if the file system rounds times to `granularity_ns`."""
        return max(self.mtime_ns, self.ctime_ns) <= time.time_ns() - granularity_ns


def file_states(paths: Iterable[P]) -> Mapping[P, FileState | None]:
    """The current state of each file; None for a file that does not exist or cannot be reached."""
    states: dict[P, FileState | None] = {}
    for path in paths:
        try:
            states[path] = FileState.of(path)
        except OSError:
            states[path] = None
    return states


@contextlib.contextmanager
def replacing(path: Path, suffix: str = ".tmp") -> Iterator[Path]:
    """Yields a temporary path beside `path`. The file written there replaces `path` when the block ends.

    If the block raises, the temporary file is removed and `path` is left as it was.
    """
    temporary = path.with_name(f".{path.name[:40]}.{os.getpid()}-{os.urandom(4).hex()}{suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def parse_json(data: bytes | str) -> Any:
    """The value that JSON text stands for. Raises ValueError if `data` is not JSON, or is nested too deeply to be read."""
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None


def create_whole(path: Path, data: bytes) -> bool:
    """Write `data` to a new file in one step. False if there is something at `path`, which is left as it is. Raises OSError.

    Of several processes that create the same file at once, one succeeds.
    """
    temporary = path.with_name(f".{path.name[:40]}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        temporary.write_bytes(data)
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links: the name is taken first, by an empty file
            try:
                path.touch(exist_ok=False)
            except FileExistsError:
                return False
            replaced = False
            try:
                temporary.replace(path)
                replaced = True
            finally:
                if not replaced:
                    path.unlink(missing_ok=True)
        return True
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def create_private(folder: Path) -> None:
    """Create a folder, and those above it that are missing, for their owner only, whatever the umask is. Raises OSError."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except FileNotFoundError:
        create_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def create_inside(directory: Path, folder: Path) -> None:
    """Create `folder`, which is below `directory`, for those users who may use `directory`. Raises OSError.

    If `directory` is missing, it is created for its owner only.
    """
    try:
        mode = directory.stat().st_mode & 0o777
    except FileNotFoundError:
        create_private(directory)
        mode = directory.stat().st_mode & 0o777
    try:
        folder.mkdir(mode=mode, exist_ok=True)
    except FileNotFoundError:
        for name in reversed(folder.relative_to(directory).parents[:-1]):
            (directory / name).mkdir(mode=mode, exist_ok=True)
        folder.mkdir(mode=mode, exist_ok=True)


def open_unchanging(path: str, flags: int) -> int:
    """Open a new file that only its owner may write to, for `open(..., opener=open_unchanging)`. Raises OSError."""
    return os.open(path, flags, 0o644)


def open_growing(path: str, flags: int) -> int:
    """Open a file to which all those append who may write to its folder, for `open(..., opener=open_growing)`. Raises OSError."""
    try:
        return os.open(path, flags & ~os.O_CREAT)
    except FileNotFoundError:
        return os.open(path, flags | os.O_CREAT, Path(path).parent.stat().st_mode & 0o666)


def write_in_cache(path: Path, data: bytes) -> None:
    """Write `data` in one step to a file in the cache directory, or in a folder of it. Raises OSError."""
    with replacing(path) as temporary, open(temporary, "wb", opener=open_unchanging) as file:
        file.write(data)


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` to `path` in one step, creating the folders above it. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(data)
