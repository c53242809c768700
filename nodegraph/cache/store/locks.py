"""Locks by name, shared by all threads and processes that use a folder.

A lock is a lock on an open file, so the operating system releases it when its holder ends, in whatever way. The holder removes the
file before it releases the lock. A process that then locks a file that is no longer in the folder tries again with a new file.

If the file system has no such locks, `hold` raises OSError. There is no fallback to lock files that outlive their holder.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from nodegraph.errors import NodegraphError
from nodegraph.files import create_inside

FIRST_PAUSE_SECONDS: Final = 0.001
LONGEST_PAUSE_SECONDS: Final = 0.05
LONG_WAIT_SECONDS: Final = 1.0

UNSUPPORTED: Final = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL})
"""The error numbers by which a file system reports that it has no locks."""

_TAKEN: Final = frozenset({errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK})
_held: set[int] = set()  # descriptors of locked files; a forked child closes them, or it would keep its parent's locks

if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # the locked byte may be behind the end of the file

    def lock_until_closed(descriptor: int, *, exclusive: bool) -> bool:
        """Returns True: on Windows, a file that a process has open can be neither renamed nor removed."""
        _held.add(descriptor)
        return True

else:
    import fcntl

    def _try_lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def lock_until_closed(descriptor: int, *, exclusive: bool) -> bool:
        """Lock an open file, exclusively or shared, until `close` closes it. False if another process's lock prevents that.

        Returns True without a lock if the file system has none.
        """
        _held.add(descriptor)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in _TAKEN
        return True

    def _close_all() -> None:
        for descriptor in _held:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        _held.clear()

    os.register_at_fork(after_in_child=_close_all)


class LockHeldError(NodegraphError):
    """Another process holds the lock."""


class Locks:
    """The locks in `folder`, which is created when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextlib.contextmanager
    def hold(
        self, name: str, waiting: Callable[[], None] = lambda: None, long_wait: Callable[[Path], None] = lambda lock: None
    ) -> Iterator[bool]:
        """Hold the lock `name` during the block. Yields whether another holder had to be waited for.

        `waiting` is called repeatedly while the lock is taken; it can stop the waiting by raising. `long_wait` is called once,
        with the lock file, if it takes longer than a second. Raises OSError if the lock cannot be created.
        """
        path = self._folder / f"{name}.lock"
        waited, pause, long_wait_at = False, FIRST_PAUSE_SECONDS, 0.0
        while (descriptor := self._try(path)) is None:
            waiting()
            if not waited:
                waited, long_wait_at = True, time.monotonic() + LONG_WAIT_SECONDS
            elif time.monotonic() >= long_wait_at:
                long_wait_at = math.inf
                long_wait(path)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        try:
            yield waited
        finally:
            _release(descriptor, path)

    @contextlib.contextmanager
    def hold_without_waiting(self, name: str) -> Iterator[None]:
        """Hold the lock `name` during the block. Raises LockHeldError if it is taken, OSError if it cannot be created."""
        path = self._folder / f"{name}.lock"
        descriptor = self._try(path)
        if descriptor is None:
            raise LockHeldError(f"{path} is held by another process")
        try:
            yield
        finally:
            _release(descriptor, path)

    def _try(self, path: Path) -> int | None:
        """The descriptor of the locked file, or None if the lock is taken."""
        while True:
            descriptor = self._open(path)
            try:
                _try_lock(descriptor)
                if is_file_at(descriptor, path):
                    _held.add(descriptor)
                    return descriptor
            except OSError as error:
                os.close(descriptor)
                if error.errno in _TAKEN:
                    return None
                raise
            os.close(descriptor)  # the last holder removed the file after this process had opened it

    def _open(self, path: Path) -> int:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
        try:
            return os.open(path, flags, 0o666)
        except FileNotFoundError:
            create_inside(self._folder.parent, self._folder)
            return os.open(path, flags, 0o666)


def is_file_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is the file that is now at `path`."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _release(descriptor: int, path: Path) -> None:
    if sys.platform == "win32":  # an open file cannot be removed
        close(descriptor)
        with contextlib.suppress(OSError):
            path.unlink()
        return
    with contextlib.suppress(OSError):
        if is_file_at(descriptor, path):  # if not, the folder was emptied, and the file there may be another holder's
            path.unlink()
    close(descriptor)


def close(descriptor: int) -> None:
    """Close a locked file, which releases the lock."""
    if descriptor in _held:  # a forked child has closed it already
        _held.remove(descriptor)
        os.close(descriptor)
