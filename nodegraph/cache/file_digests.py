"""SHA-256 digests of files, remembered so that a large file is read again only if it may have changed.

A digest is remembered for one state of a file (see `nodegraph.files.FileState`). If a file changed so recently that another change
could leave its timestamps the same, its digest is returned but not remembered.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from nodegraph.files import FileState, create_private, open_growing, parse_json, write_in_cache

GRANULARITY_NS: Final = 2_000_000_000
"""How coarse timestamps may be: FAT counts in steps of two seconds."""

MAX_REMEMBERED: Final = 4096
"""How many files are remembered. A memo that holds more is cut to the latest half of these when it is read."""

_CHUNK_BYTES: Final = 1 << 20


class FileDigests:
    """Digests of files, remembered in the file `memo`; if that is None, for the life of this object.

    If the memo cannot be read or written, files are hashed again; the digests are right either way. `granularity_ns` is how coarse
    timestamps may be. Pass 0 for files that are never changed on purpose, where the digest only checks for damage.
    """

    def __init__(self, memo: Path | None, granularity_ns: int = GRANULARITY_NS) -> None:
        self._memo = memo
        self._granularity_ns = granularity_ns
        self._known: dict[tuple[int, int], tuple[FileState, str]] | None = None
        self._lock = threading.Lock()

    def sha256(self, path: Path | str) -> str:
        """The SHA-256 of the file's content, in hex. Raises OSError if the file cannot be read."""
        state = FileState.of(path)
        with self._lock:
            known = self._load().get(state[:2])
        if known and known[0] == state:
            return known[1]
        settled = state.settled(self._granularity_ns)  # asked before reading, which may take longer than the granularity
        digest = hash_file(path)
        if settled and FileState.of(path) == state:
            self._remember(state, digest)
        return digest

    def unchanged(self, path: Path | str, digest: str) -> bool:
        """Whether the file still has the digest `digest`. False if it is gone or cannot be read."""
        try:
            return self.sha256(path) == digest
        except OSError:
            return False

    def forget(self) -> None:
        """Forget all digests, and remove the memo."""
        with self._lock:
            self._known = {}
            if self._memo is not None:
                with contextlib.suppress(OSError):  # in a read-only directory it stays, which does no harm
                    self._memo.unlink(missing_ok=True)

    def _remember(self, state: FileState, digest: str) -> None:
        with self._lock:
            known = self._load()
            known.pop(state[:2], None)  # the latest entry is the last
            known[state[:2]] = (state, digest)
            if self._memo is None:
                return
            try:
                create_private(self._memo.parent)
                with open(self._memo, "a", encoding="ascii", opener=open_growing) as file:
                    file.write(_memo_line(state, digest))
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
                    *state, digest = parse_json(line)
                    self._known[state[0], state[1]] = (FileState(*state), str(digest))
                except (ValueError, TypeError, IndexError):
                    continue  # an incomplete line: another process is writing it, or was killed
            if self._memo is not None and len(lines) > MAX_REMEMBERED:
                _rewrite_memo(self._memo, list(self._known.values())[-MAX_REMEMBERED // 2 :])
        return self._known


def hash_file(path: Path | str) -> str:
    """The SHA-256 of a file's content, in hex. The file is read in chunks. Raises OSError."""
    total = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 (it may be text)
        size = os.fstat(file.fileno()).st_size
        buffer = memoryview(bytearray(min(max(size + 1, 4096), _CHUNK_BYTES)))  # allocating much takes longer than hashing little
        while count := file.readinto(buffer):
            total.update(buffer[:count])
    return total.hexdigest()


def _rewrite_memo(memo: Path, entries: Iterable[tuple[FileState, str]]) -> None:
    """Replace the memo's lines. A line that another process adds meanwhile is lost; that file is then hashed once more."""
    with contextlib.suppress(OSError):
        write_in_cache(memo, "".join(_memo_line(*entry) for entry in entries).encode())


def _memo_line(state: FileState, digest: str) -> str:
    return json.dumps([*state, digest], separators=(",", ":")) + "\n"
