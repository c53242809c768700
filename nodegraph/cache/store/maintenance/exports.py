"""The lists of exported files, with the blobs that they refer to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from nodegraph.cache.store.layout import Layout
from nodegraph.cache.store.records import read_export
from nodegraph.light_dataclass import dataclass


@dataclass(frozen=True)
class Export:
    """A file in `exports`: the blobs of the files that the value with `digest` was exported to."""

    path: Path
    digest: str
    blobs: tuple[str, ...]


def exports_in(layout: Layout) -> Iterator[Export]:
    for entry in layout.results("exports"):
        with contextlib.suppress(OSError):
            blobs = read_export(Path(entry.path).read_bytes())
            yield Export(Path(entry.path), entry.name[:64], tuple(blobs or ()))
