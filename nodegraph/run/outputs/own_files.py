"""Files that belong to one writer, such as a sweep or a watched workflow, which may replace them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path


class OwnFiles:
    """Files that were written before, by their absolute path with the SHA-256 of their content.

    They may be replaced as long as they still have this content: one that a person has edited since is kept, as any other file.
    `prefix` is put before the name of each file. `folders` are those in which files were written before.
    """

    def __init__(self, known: Mapping[Path, str] | Iterable[tuple[Path, str]] = (), *, prefix: str = "") -> None:
        self.digests, self.prefix = dict(known), prefix
        self.folders: set[Path] = set()

    def note(self, path: Path, content: bytes) -> None:
        """Remember that the file at `path` has this content."""
        self.digests[path] = hashlib.sha256(content).hexdigest()

    def is_own(self, path: Path) -> bool:
        """Whether the file at `path` was written here and not changed since."""
        try:
            return path in self.digests and hashlib.sha256(path.read_bytes()).hexdigest() == self.digests[path]
        except OSError:
            return False
