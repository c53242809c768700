"""Reading, writing and locking in a cache directory, where a failure disables the cache but never stops the run.

Examples are a full disk, a directory that is read-only or was removed during the run, and a file system without locks. Each kind of
failure is reported once in a run.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from nodegraph.cache.store.layout import Layout, remove
from nodegraph.cache.store.locks import UNSUPPORTED, Locks
from nodegraph.errors import NodegraphError
from nodegraph.files import create_inside, open_unchanging

T = TypeVar("T")

_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_FULL_BYTES: Final = 1 << 16  # less than this is free on a disk where something could not be written because it was full
_DISK: Final = _NO_SPACE | {errno.EFBIG, errno.EIO, errno.EROFS}


class SafeFiles:
    """The files of a cache directory. `warn` receives at most one message about each of reading, writing and locking in a run."""

    def __init__(self, layout: Layout, warn: Callable[[str], None]) -> None:
        self._layout = layout
        self._locks = Locks(layout.directory / "locks")
        self._warn = warn
        self.start()

    def start(self) -> None:
        """Begin a run: what failed in an earlier run is tried again and, if it fails again, reported again."""
        self.writable = True
        self._lockable = True
        self._readable = True

    # --- files

    def read(self, path: Path) -> bytes | None:
        """The content of a file; None if it does not exist or cannot be read."""
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self.warn_unreadable(
                f"the cache directory {self._layout.directory} cannot be read: {reason(error)}. Results that cannot be read are "
                f"computed again. Check the permissions of the directory, or choose another one with --cache-dir"
            )
            return None

    def write(self, path: Path, data: bytes) -> bool:
        """Write a file in one step. Returns whether that succeeded."""

        def write_and_move() -> bool:
            temporary = self._layout.temporary()
            try:
                try:
                    write_bytes(temporary, data)
                except FileNotFoundError:  # the first file, mostly
                    self._layout.create()
                    write_bytes(temporary, data)
                move(temporary, path)
            except BaseException:
                remove(temporary)
                raise
            return True

        return self.attempt(write_and_move) is True

    def attempt(self, write: Callable[[], T]) -> T | None:
        """Returns what `write` returns, or None if the directory cannot be written. Exceptions other than OSError are passed on."""
        if not self.writable:
            return None
        try:
            try:
                return write()
            except FileNotFoundError:  # another process has emptied the directory meanwhile
                return write()
        except OSError as error:
            self._warn_unwritable(error)
            return None

    @contextlib.contextmanager
    def temporary_file(self, suffix: str = "") -> Iterator[Path]:
        """Yields a path to write a new file at. If the file is still there when the block ends, it is removed. Raises OSError."""
        temporary = self._layout.temporary(suffix)
        if not temporary.parent.is_dir():
            self._layout.create()
        try:
            yield temporary
        finally:
            remove(temporary)

    # --- locks

    @contextlib.contextmanager
    def lock(self, name: str, waiting: Callable[[], None], long_wait: Callable[[Path], None]) -> Iterator[bool]:
        """Hold a lock as `Locks.hold` does; if there can be no lock, run the block without it."""
        with contextlib.ExitStack() as held:
            waited = False
            if self.writable and self._lockable:
                try:
                    waited = held.enter_context(self._locks.hold(name, waiting, long_wait))
                except OSError as error:
                    self._warn_unlockable(error)
            yield waited

    @contextlib.contextmanager
    def lock_without_waiting(self, name: str) -> Iterator[None]:
        """Hold a lock; if there can be no lock, run the block without it. Raises LockHeldError if another process holds it."""
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(self._locks.hold_without_waiting(name))
            except OSError as error:
                self._warn_unlockable(error)
            yield

    def can_lock(self) -> bool:
        """Whether locks in the directory have worked in this run, so far as they were tried."""
        return self.writable and self._lockable

    # --- warnings

    def warn_unreadable(self, message: str) -> None:
        """Report, once in a run, that something cannot be read."""
        if self._readable:
            self._readable = False
            self._warn(message)

    def _warn_unwritable(self, error: OSError) -> None:
        if not self.writable:
            return
        self.writable = False
        if error.errno in _NO_SPACE:
            remedy = "Free some disk space, for example with 'nodegraph cache gc --older-than 30d'"
        else:
            remedy = "Make the directory writable"
        self._warn(
            f"the cache directory {self._layout.directory} cannot be written: {reason(error)}. The run goes on, but stores no more "
            f"results. {remedy}, or choose another directory with --cache-dir"
        )

    def _warn_unlockable(self, error: OSError) -> None:
        if error.errno not in UNSUPPORTED:
            self._warn_unwritable(error)
        elif self._lockable:
            self._lockable = False
            self._warn(
                f"files in the cache directory {self._layout.directory} cannot be locked: {reason(error)}. Results stay "
                f"correct, but two processes may compute the same one at the same time. To prevent this, choose a directory on a "
                f"local disk with --cache-dir"
            )


class WriterError(NodegraphError):
    """What writes a file has failed, and not the disk. The cause is the exception that it raised."""


def write_by(write: Callable[[Path], object], path: Path) -> None:
    """Call `write(path)`. Raises OSError if the disk failed, and WriterError if `write` itself did."""
    try:
        write(path)
    except Exception as error:
        failure = disk_failure(error, path.parent)
        if failure is error:
            raise
        if failure is None:
            raise WriterError from error
        raise failure from error


def disk_failure(error: BaseException, folder: Path) -> OSError | None:
    """The failure to write to `folder` that is the reason for `error`; None if the reason is another one.

    A library may raise its own exception, with the OSError as its cause, with its text, or with neither.
    """
    pending, seen = [error], set[int]()
    while pending:
        reason = pending.pop()
        if id(reason) in seen:
            continue
        seen.add(id(reason))
        if isinstance(reason, OSError) and _is_about(reason, folder) and (reason is error or reason.errno in _DISK):
            return reason
        pending += [found for found in (reason.__context__, reason.__cause__) if found is not None]
    number = next((number for number in _NO_SPACE if os.strerror(number) in str(error)), None)
    if number is None and _free_bytes(folder) < _FULL_BYTES:
        number = errno.ENOSPC
    return None if number is None else OSError(number, os.strerror(number))


def _free_bytes(folder: Path) -> int:
    import shutil

    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return _FULL_BYTES


def _is_about(error: OSError, folder: Path) -> bool:
    if error.errno is None:  # raised by a library about a value that it cannot write
        return False
    return not isinstance(error.filename, str) or Path(error.filename).parent == folder


def write_bytes(path: Path, data: bytes) -> None:
    """Write a new file. Raises OSError."""
    with open(path, "xb", buffering=0, opener=open_unchanging) as file:
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]


def move(temporary: Path, path: Path) -> None:
    """Rename a complete file to `path`, replacing the file there. Raises OSError."""
    try:
        os.replace(temporary, path)  # noqa: PTH105
    except FileNotFoundError:
        create_inside(temporary.parent.parent, path.parent)  # temporary files are in a folder of the cache directory
        temporary.replace(path)
    except PermissionError:
        if not path.exists():  # if it does: on Windows, another process has just written this file, and a third one is reading it
            raise


def reason(error: OSError) -> str:
    """The operating system's message, without the path."""
    return error.strerror or str(error)
