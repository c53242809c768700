"""Removing every result."""

from __future__ import annotations

import contextlib
from pathlib import Path

from nodegraph.cache.store.layout import MEMOS, RESULT_FOLDERS, Layout, remove
from nodegraph.cache.store.maintenance.progress import Progress, no_progress, steps


def clear(layout: Layout, progress: Progress = no_progress) -> None:
    """Remove every result, and what is remembered of files and devices. Files of other programs stay."""
    paths = [Path(entry.path) for folder in RESULT_FOLDERS for entry in layout.results(folder)]
    memos = [path for name in (*MEMOS, "journal-*.taken", "index.sqlite-*") for path in layout.directory.glob(name)]
    for path in steps(progress, len(paths) + len(memos))([*paths, *memos]):
        remove(path)
    for folder in RESULT_FOLDERS:
        _remove_empty(layout.directory / folder)


def _remove_empty(folder: Path) -> None:
    """Remove the folders in `folder` that are empty, and then `folder` itself if it is."""
    with contextlib.suppress(OSError):
        for inner in (path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()):
            with contextlib.suppress(OSError):
                inner.rmdir()
        folder.rmdir()
