"""Removing every result."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from nodegraph.cache.store.layout import MEMOS, RESULT_FOLDERS, Layout, remove
from nodegraph.cache.store.maintenance.progress import Progress, no_progress, steps
from nodegraph.cache.store.records import StoreInfo
from nodegraph.cache.store.work import remove_work


def clear(layout: Layout, progress: Progress = no_progress) -> StoreInfo:
    """Remove every result, unfinished work, models that were sent here, and what is remembered of files and devices.

    Files of other programs stay. Returns how much was removed. If `progress` raises, the files that are still there are whole, and
    can be used.
    """
    listed = steps(progress, "listed")
    files = {folder: list(listed(layout.results(folder))) for folder in RESULT_FOLDERS}
    memos = [path for name in (*MEMOS, "journal-*.taken", "index.sqlite-*") for path in layout.directory.glob(name)]
    step = steps(progress, "removed", sum(map(len, files.values())) + len(memos))
    removed: dict[str, int] = {}
    size = 0
    for folder, entries in files.items():
        for entry in step(entries):
            bytes_there = _size(entry) if folder == "blobs" else 0
            if remove(entry.path):
                removed[folder] = removed.get(folder, 0) + 1
                size += bytes_there
    for path in step(memos):
        remove(path)
    remove_work(layout)
    shutil.rmtree(layout.models, ignore_errors=True)
    for folder in (*RESULT_FOLDERS, "work"):
        _remove_empty(layout.directory / folder)
    return StoreInfo(layout.directory, removed.get("records", 0), removed.get("blobs", 0), size)


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except OSError:
        return 0


def _remove_empty(folder: Path) -> None:
    """Remove the folders in `folder` that are empty, and then `folder` itself if it is."""
    with contextlib.suppress(OSError):
        for inner in (path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()):
            with contextlib.suppress(OSError):
                inner.rmdir()
        folder.rmdir()
