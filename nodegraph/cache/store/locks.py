"""One lock for each name, shared by all processes that use a folder, and by the threads of one.

A lock is held on an open file, so the kernel releases it when its holder dies, however that happens. Who holds a lock removes its
file before letting go; who then gets hold of a file that is gone from the folder tries again with a new one.

On a file system without such locks `hold` raises OSError: there is no falling back to locks that outlive their holder.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from nodegraph.errors import NodegraphError

FIRST_PAUSE_SECONDS: Final = 0.001
LONGEST_PAUSE_SECONDS: Final = 0.05

UNSUPPORTED: Final = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL})
"""How a file system says that it has no locks."""

_TAKEN: Final = frozenset({errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK})
_held: set[int] = set()  # descriptors, so that a forked child does not keep its parent's locks alive

if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # may lie behind the end of the file

    def share(descriptor: int, *, alone: bool) -> None:
        """Nothing to do: a file that somebody has open can be neither renamed nor removed."""

else:
    import fcntl

    def _try_lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def share(descriptor: int, *, alone: bool) -> None:
        """Share an open file with others who share it, or have it `alone`, until it is closed; waits until that can be.

        Where there are no locks it does not wait.
        """
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)

    def _let_go() -> None:
        for descriptor in _held:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        _held.clear()

    os.register_at_fork(after_in_child=_let_go)


class LockHeldError(NodegraphError):
    """Another process holds the lock."""


class Locks:
    """The locks in `folder`, which is made when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextlib.contextmanager
    def hold(self, name: str, waiting: Callable[[], None] = lambda: None) -> Iterator[bool]:
        """Hold the lock called `name`; gives whether somebody else had to be waited for.

        `waiting` is called again and again while that lasts, and ends it by raising. Raises OSError where there can be no lock.
        """
        path = self._folder / f"{name}.lock"
        waited, pause = False, FIRST_PAUSE_SECONDS
        while (descriptor := self._try(path)) is None:
            waited = True
            waiting()
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        try:
            yield waited
        finally:
            _release(descriptor, path)

    @contextlib.contextmanager
    def hold_now(self, name: str) -> Iterator[None]:
        """Hold the lock called `name` without waiting for it. Raises LockHeldError, and OSError where there can be no lock."""
        path = self._folder / f"{name}.lock"
        descriptor = self._try(path)
        if descriptor is None:
            raise LockHeldError(f"{path} is held by another process")
        try:
            yield
        finally:
            _release(descriptor, path)

    def _try(self, path: Path) -> int | None:
        """The locked file's descriptor, or None where somebody else has it."""
        while True:
            descriptor = self._open(path)
            try:
                _try_lock(descriptor)
                if is_at(descriptor, path):
                    _held.add(descriptor)
                    return descriptor
            except OSError as error:
                os.close(descriptor)
                if error.errno in _TAKEN:
                    return None
                raise
            os.close(descriptor)  # its last holder removed it after we had opened it

    def _open(self, path: Path) -> int:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
        try:
            return os.open(path, flags, 0o666)
        except FileNotFoundError:
            self._folder.mkdir(parents=True, exist_ok=True)
            return os.open(path, flags, 0o666)


def is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is the one that lies at `path` now."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _release(descriptor: int, path: Path) -> None:
    if sys.platform == "win32":  # nobody can remove a file that somebody has open
        _close(descriptor)
        with contextlib.suppress(OSError):
            path.unlink()
        return
    with contextlib.suppress(OSError):
        if is_at(descriptor, path):  # else the folder was emptied, and the name may be another's by now
            path.unlink()
    _close(descriptor)


def _close(descriptor: int) -> None:
    if descriptor in _held:  # not so in a child that was forked while it was held
        _held.remove(descriptor)
        os.close(descriptor)
