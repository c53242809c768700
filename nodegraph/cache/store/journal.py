"""The journal of a cache directory: what happened since the index was last updated, one line of JSON for each event.

Thanks to the journal, a run can note what it used without opening a database. If lines are lost (the disk is full, a process is
killed while it writes), counts and the order of eviction become less exact, but no result is lost: an entry that is missing here is
found when the index is next compared with the records.

    ["made", key, type, workflow, node, created, [[blob, bytes], ...]]
    ["kept", [[blob, bytes], ...]]                      blobs without their own record: exported files
    ["used", when, {key: times, ...}]
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from nodegraph.cache.store.locks import close, is_file_at, lock_until_closed
from nodegraph.files import open_growing, parse_json

Line = list[Any]

_PAUSE_SECONDS: Final = 0.002
_write: Final = json.JSONEncoder(separators=(",", ":")).encode  # `json.dumps` would make an encoder each time


class Journal:
    """The lines in the file `path` that are not yet in the index."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, lines: Iterable[Line]) -> None:
        """Append `lines` in one write, so that lines of several processes do not mix. Raises OSError."""
        text = "".join(_write(line) + "\n" for line in lines)
        descriptor = self._open()
        try:
            os.write(descriptor, b"\n" + text.encode("ascii"))  # the line break ends a line that a killed process left incomplete
        finally:
            close(descriptor)

    def _open(self) -> int:
        """Open the file for appending. It is not taken away until the descriptor is closed."""
        while True:
            descriptor = open_growing(str(self._path), os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0))
            if lock_until_closed(descriptor, exclusive=False) and is_file_at(descriptor, self._path):
                return descriptor
            close(descriptor)  # another process took the file after this one had opened it

    def size(self) -> int:
        """The bytes of the waiting lines; 0 if no lines wait."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def lines(self) -> list[Line]:
        """The waiting lines, which stay in the journal."""
        return _read_lines([*self._taken_files(), self._path])

    @contextlib.contextmanager
    def take(self, seconds: float = 1.0) -> Iterator[list[Line]]:
        """Yields the waiting lines and removes them when the block ends. If the block raises, they stay.

        One process at a time may do this. It waits at most `seconds` for processes that are writing lines. The lines of a process
        that takes longer, because it was stopped for example, are left for the next time.
        """
        with contextlib.suppress(OSError):  # no lines wait; or, on Windows, a process has the file open, and the next call takes it
            self._path.replace(self._path.with_name(f"{self._path.stem}-{os.urandom(4).hex()}.taken"))
        deadline = time.monotonic() + seconds
        files = [file for file in self._taken_files() if _is_written(file, deadline)]
        yield _read_lines(files)
        for file in files:
            with contextlib.suppress(OSError):
                file.unlink()

    def _taken_files(self) -> list[Path]:
        """The files that were taken, now or by a process that was killed before it removed them."""
        return sorted(self._path.parent.glob(f"{self._path.stem}-*.taken"))


def _is_written(file: Path, deadline: float) -> bool:
    """Whether every process that opened a file before it was taken has written its lines. Waits for them until `deadline`."""
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except OSError:
        return True
    try:
        while not (free := lock_until_closed(descriptor, exclusive=True)) and time.monotonic() < deadline:
            time.sleep(_PAUSE_SECONDS)
        return free
    finally:
        close(descriptor)


def _read_lines(files: Iterable[Path]) -> list[Line]:
    lines: list[Line] = []
    for file in files:
        try:
            data = file.read_bytes()
        except OSError:
            continue
        for text in data.splitlines():
            with contextlib.suppress(ValueError):  # the line is empty or incomplete
                line = parse_json(text)
                if isinstance(line, list) and line:
                    lines.append(line)
    return lines
