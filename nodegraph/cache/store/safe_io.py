"""Reading and writing in a cache directory whose failures cost the cache, never the run.

A full disk, a directory that is read-only, missing or removed in the middle, a file system without locks: each is told once in a
run, and the run goes on without.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from nodegraph.cache.store.layout import Layout, remove
from nodegraph.cache.store.locks import UNSUPPORTED, Locks

T = TypeVar("T")


class Shelf:
    """The files of a cache directory. `warn` hears at most one message each about reading, writing and locking a run."""

    def __init__(self, layout: Layout, warn: Callable[[str], None]) -> None:
        self._layout = layout
        self._locks = Locks(layout.place / "locks")
        self._warn = warn
        self.start()

    def start(self) -> None:
        """Forget the troubles of an earlier run: what failed then is tried again, and told again."""
        self.writable = True
        self._lockable = True
        self._readable = True

    # --- files

    def read(self, path: Path) -> bytes | None:
        """What is in a file; None where it is not there, or cannot be read."""
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            place = self._layout.place
            self.trouble_reading(f"the cache directory {place} cannot be read: {reason(error)}. Nothing is taken from it")
            return None

    def write(self, path: Path, data: bytes) -> bool:
        """Write a file whole; whether the directory took it."""

        def put() -> bool:
            with self.new_file() as temporary:
                write_bytes(temporary, data)
                move(temporary, path)
            return True

        return self.attempt(put) is True

    def attempt(self, put: Callable[[], T]) -> T | None:
        """What `put` gives, which writes; None where the directory takes nothing. Anything but OSError goes through."""
        if not self.writable:
            return None
        try:
            try:
                return put()
            except FileNotFoundError:  # somebody emptied the directory in the middle
                return put()
        except OSError as error:
            self._trouble_writing(error)
            return None

    @contextlib.contextmanager
    def new_file(self, suffix: str = "") -> Iterator[Path]:
        """A name for what is being written; what the block leaves there is removed. Raises OSError."""
        temporary = self._layout.temporary(suffix)
        if not temporary.parent.is_dir():
            self._layout.make()
        try:
            yield temporary
        finally:
            remove(temporary)

    # --- locks

    @contextlib.contextmanager
    def lock(self, name: str, waiting: Callable[[], None]) -> Iterator[bool]:
        """Hold a lock, as `Locks.hold`; where there can be none, go on without."""
        with contextlib.ExitStack() as held:
            waited = False
            if self.writable and self._lockable:
                try:
                    waited = held.enter_context(self._locks.hold(name, waiting))
                except OSError as error:
                    self._trouble_locking(error)
            yield waited

    @contextlib.contextmanager
    def lock_now(self, name: str) -> Iterator[None]:
        """Hold a lock without waiting. Raises LockHeldError; where there can be none, the block runs without."""
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(self._locks.hold_now(name))
            except OSError as error:
                self._trouble_locking(error)
            yield

    # --- troubles

    def trouble_reading(self, message: str) -> None:
        """Tell, once in a run, that something cannot be read."""
        if self._readable:
            self._readable = False
            self._warn(message)

    def _trouble_writing(self, error: OSError) -> None:
        if self.writable:
            self.writable = False
            self._warn(
                f"the cache directory {self._layout.place} takes nothing: {reason(error)}. The run goes on and keeps no more "
                f"results; free or fix the directory, or name another with --cache-dir"
            )

    def _trouble_locking(self, error: OSError) -> None:
        if error.errno not in UNSUPPORTED:
            self._trouble_writing(error)
        elif self._lockable:
            self._lockable = False
            self._warn(
                f"files in the cache directory {self._layout.place} cannot be locked: {reason(error)}. Processes that want the "
                f"same result at the same time may each compute it; results stay right"
            )


def write_bytes(path: Path, data: bytes) -> None:
    """Write a new file."""
    with path.open("xb", buffering=0) as file:
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]


def move(temporary: Path, path: Path) -> None:
    """Give a file that is whole its name, over an earlier one. Raises OSError."""
    try:
        os.replace(temporary, path)  # noqa: PTH105
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.replace(path)
    except PermissionError:
        if not path.exists():  # else, on Windows: somebody reads what another process has just written under this name
            raise


def reason(error: OSError) -> str:
    """What the system says, without the path."""
    return error.strerror or str(error)
