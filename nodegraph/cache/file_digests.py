"""The SHA-256 of files, remembered: a large file is read once, and again only if it may have changed.

What is remembered hangs on (device, inode, size, mtime, ctime). A file that changed within the granularity of its
timestamps could change again without showing it, so its digest is given but not remembered.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Iterable
from pathlib import Path

from nodegraph.files import FileState, write_whole

GRANULARITY_NS = 2_000_000_000
"""How coarse timestamps may be: FAT counts in steps of two seconds."""

KEPT = 4096
"""How many files are remembered; the memo is cut to the latest half of these when it is read and holds more."""

_CHUNK = 1 << 20


class Fingerprints:
    """Digests of files, remembered in the lines of `memo`; None: for the life of this object.

    A memo that cannot be read or written costs time, never correctness: files are then hashed again. `granularity_ns` is how
    coarse timestamps are taken to be: 0 for files that nobody changes, whose digest is a check against damage.
    """

    def __init__(self, memo: Path | None, granularity_ns: int = GRANULARITY_NS) -> None:
        self._memo = memo
        self._granularity_ns = granularity_ns
        self._known: dict[tuple[int, int], tuple[FileState, str]] | None = None
        self._lock = threading.Lock()

    def sha256(self, path: Path) -> str:
        """The SHA-256 of the file's content, in hex. Raises OSError if it cannot be read."""
        state = FileState.of(path)
        with self._lock:
            known = self._load().get(state[:2])
        if known and known[0] == state:
            return known[1]
        settled = state.settled(self._granularity_ns)  # before it is read, which may take longer than that
        digest = hash_file(path)
        if settled and FileState.of(path) == state:
            self._remember(state, digest)
        return digest

    def unchanged(self, path: Path, digest: str) -> bool:
        """Whether the file still has the content `digest`; one that is gone or cannot be read has not."""
        try:
            return self.sha256(path) == digest
        except OSError:
            return False

    def forget(self) -> None:
        """Drop what is remembered."""
        with self._lock:
            self._known = {}
            if self._memo is not None:
                with contextlib.suppress(OSError):  # in a read-only directory it stays, which costs nothing
                    self._memo.unlink(missing_ok=True)

    def _remember(self, state: FileState, digest: str) -> None:
        with self._lock:
            known = self._load()
            known.pop(state[:2], None)  # what is latest stands last
            known[state[:2]] = (state, digest)
            if self._memo is None:
                return
            try:
                self._memo.parent.mkdir(parents=True, exist_ok=True)
                with self._memo.open("a", encoding="ascii") as file:
                    file.write(_line(state, digest))
            except OSError:
                self._memo = None

    def _load(self) -> dict[tuple[int, int], tuple[FileState, str]]:
        if self._known is None:
            self._known = {}
            try:
                lines = self._memo.read_bytes().splitlines() if self._memo is not None else []
            except OSError:
                lines = []
            for line in lines:
                try:
                    *state, digest = json.loads(line)
                    self._known[state[0], state[1]] = (FileState(*state), str(digest))
                except (ValueError, TypeError, IndexError):
                    continue  # a line that another process was writing, or that was cut
            if self._memo is not None and len(lines) > KEPT:
                _shorten(self._memo, list(self._known.values())[-KEPT // 2 :])
        return self._known


def hash_file(path: Path) -> str:
    """The SHA-256 of a file's content, in hex, read in pieces. Raises OSError."""
    total = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        buffer = memoryview(bytearray(min(max(size + 1, 4096), _CHUNK)))  # to make a large one takes longer than to hash little
        while count := file.readinto(buffer):
            total.update(buffer[:count])
    return total.hexdigest()


def _shorten(memo: Path, latest: Iterable[tuple[FileState, str]]) -> None:
    """Write the memo anew with what is latest. A line that another process adds meanwhile is lost, which costs it one read."""
    with contextlib.suppress(OSError):
        write_whole(memo, "".join(_line(*entry) for entry in latest).encode())


def _line(state: FileState, digest: str) -> str:
    return json.dumps([*state, digest], separators=(",", ":")) + "\n"
