"""Files of code that belong to several plugins: all plugins of an engine are read together, so that each file is read once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from nodegraph.files import FileState
from nodegraph.plugins.code.import_scan import ImportScan

_GRANULARITY_NS: Final = 2_000_000_000  # how coarse the times of files may be


class CodeFile(NamedTuple):
    """What a file contained, its state when it was opened, and its SHA-256."""

    content: bytes
    state: FileState
    digest: str


class Scanned(NamedTuple):
    """What sources import, as `ImportScan` finds it."""

    names: Sequence[str]
    is_dynamic: bool


class CodeFiles:
    """Reads files of code, and remembers them for a short time, while plugins are loaded.

    A file is read again if its state is another one, or if it changed so recently that its state may not show the next change.
    """

    def __init__(self) -> None:
        self._files: dict[str, CodeFile] = {}
        self._scans: list[tuple[Sequence[tuple[CodeFile, str | None]], frozenset[str], Scanned]] = []

    def read(self, path: str) -> CodeFile:
        """The file at `path`. Raises OSError if it cannot be read."""
        known = self._files.get(path)
        if known is not None and known.state == FileState.of(path):
            return known
        content, state = read_file(path)
        file = CodeFile(content, state, hashlib.sha256(content).hexdigest())
        if state.settled(_GRANULARITY_NS):
            self._files[path] = file
        return file

    def scan(self, sources: Sequence[tuple[CodeFile, str | None]], skipped: Iterable[str]) -> Scanned:
        """What these sources, each with its package, import. It may include modules of the packages `skipped`."""
        skipped = frozenset(skipped)
        for known, skipped_then, scanned in self._scans:
            if skipped_then <= skipped and known == sources:
                return scanned
        scan = ImportScan(skipped)
        for file, package in sources:
            scan.add(file.content, package=package)
        scanned = Scanned(tuple(scan.names), scan.is_dynamic)
        self._scans.append((sources, skipped, scanned))
        return scanned


def read_file(path: str) -> tuple[bytes, FileState]:
    """The content of a file and its state. This runs for each file of code at every start: it makes no path and file objects."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        stat = os.fstat(descriptor)
        content = os.read(descriptor, stat.st_size + 1)
        while more := os.read(descriptor, 1 << 20) if len(content) > stat.st_size else b"":
            content += more
    finally:
        os.close(descriptor)
    return content, FileState.from_stat(stat)
