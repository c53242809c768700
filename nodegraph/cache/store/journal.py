"""What happened in a cache directory since its index was last brought up to date: one line of JSON each, at the end of one file.

So that a run notes what it used without opening a database. What is lost here (a disk that is full, a line that was cut) costs
counts and the order of eviction, never a result; entries that nobody noted are found when the index is next compared with the
records.

    ["made", key, type, workflow, node, created, [[blob, bytes], ...]]
    ["kept", [[blob, bytes], ...]]                      blobs without a record of their own: exported files
    ["used", when, {key: times, ...}]
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from nodegraph.cache.store.locks import is_at, share

Line = list[Any]


class Journal:
    """The lines that wait in `path` to be folded into the index."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, lines: Iterable[Line]) -> None:
        """Append `lines` in one write, so that those of several processes do not mix. Raises OSError."""
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
        descriptor = self._open()
        try:
            os.write(descriptor, b"\n" + text.encode("ascii"))  # the line break ends what a killed process may have left
        finally:
            os.close(descriptor)

    def _open(self) -> int:
        """The file's descriptor, to append to; it is not taken away before that is closed."""
        while True:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
            share(descriptor, alone=False)
            if is_at(descriptor, self._path):
                return descriptor
            os.close(descriptor)  # another process has taken it since it was opened

    def size(self) -> int:
        """The bytes that wait; 0 where there are none."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def lines(self) -> list[Line]:
        """What waits, left where it is."""
        return _lines([*self._set_aside(), self._path])

    @contextlib.contextmanager
    def taken(self) -> Iterator[list[Line]]:
        """What waits; it is gone when the block ends, and still there if it raises. One process at a time may take it."""
        with contextlib.suppress(OSError):  # none waits, or another process has the file open (Windows): next time
            self._path.replace(self._path.with_name(f"{self._path.stem}-{os.urandom(4).hex()}.taken"))
        files = self._set_aside()
        for file in files:
            _wait_for_writers(file)
        yield _lines(files)
        for file in files:
            with contextlib.suppress(OSError):
                file.unlink()

    def _set_aside(self) -> list[Path]:
        """What was taken, now or by a process that was killed over it."""
        return sorted(self._path.parent.glob(f"{self._path.stem}-*.taken"))


def _wait_for_writers(file: Path) -> None:
    """Wait until those who had the file open to append to it, when it was taken, have done so."""
    with contextlib.suppress(OSError), file.open("rb") as taken:
        share(taken.fileno(), alone=True)


def _lines(files: Iterable[Path]) -> list[Line]:
    lines: list[Line] = []
    for file in files:
        try:
            data = file.read_bytes()
        except OSError:
            continue
        for text in data.splitlines():
            with contextlib.suppress(ValueError):  # an empty one, or one that was cut
                line = json.loads(text)
                if isinstance(line, list) and line:
                    lines.append(line)
    return lines
