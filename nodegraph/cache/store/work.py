"""Folders for the unfinished work of nodes, from which they continue after a kill: see `Run.work_folder`.

`work/ab/<key>/` holds `node.json`, which says whose it is and on what the work depends besides its key, and `files/`, which is the
node's. Who holds the lock of a key may use its folder. A folder without a readable `node.json` counts as empty.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from nodegraph.cache.store.layout import Layout
from nodegraph.cache.store.locks import LockHeldError, Locks
from nodegraph.files import create_inside, parse_json, write_in_cache
from nodegraph.light_dataclass import dataclass

UNUSED_SECONDS: Final = 30 * 86400
"""How long unfinished work is kept after it was last used."""

_NOTE: Final = "node.json"


class WorkNote(NamedTuple):
    """Whose work it is, and what it depends on besides its key: see `cache/dependencies.py`."""

    type: str
    workflow: str
    node: str
    depends: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Work:
    """Unfinished work in the cache. `size` is in bytes, `used` the time of the last use, in seconds since 1970."""

    key: str
    type: str
    workflow: str
    node: str
    size: int
    used: float


@dataclass(frozen=True, eq=False)
class WorkFolder:
    """A folder of unfinished work, whose lock is held. `files` is the node's own folder in it."""

    directory: Path
    folder: Path

    @property
    def files(self) -> Path:
        return self.folder / "files"

    def create(self) -> None:
        """Create the folder if it is missing. Raises OSError."""
        create_inside(self.directory, self.files)

    def note(self) -> WorkNote | None:
        """Whose the work is; None if there is none."""
        return _read_note(self.folder)

    def write_note(self, note: WorkNote) -> None:
        """Say whose the work is, and that it was used now. Raises OSError."""
        write_in_cache(self.folder / _NOTE, json.dumps(note._asdict()).encode())

    def forget(self) -> None:
        """Remove the note, so that the work is not continued. The files stay until the folder is used again."""
        with contextlib.suppress(OSError):
            (self.folder / _NOTE).unlink()

    def discard(self) -> None:
        """Remove the work, first its note."""
        self.forget()
        shutil.rmtree(self.folder, ignore_errors=True)


def lock_name(key: str) -> str:
    """The name of the lock of a folder."""
    return f"work-{key}"


def all_work(layout: Layout) -> Iterator[Work]:
    """All unfinished work, in no particular order. Folders that cannot be read are left out."""
    for key in layout.work_keys():
        folder = layout.work(key)
        note = _read_note(folder)
        if note is not None:
            with contextlib.suppress(OSError):
                size = sum(path.stat().st_size for path in (folder / "files").rglob("*") if path.is_file())
                used = (folder / _NOTE).stat().st_mtime
                yield Work(key=key, type=note.type, workflow=note.workflow, node=note.node, size=size, used=used)


def remove_work(layout: Layout, unused_seconds: float = 0.0) -> int:
    """Remove the work that was not used for this long, except what a process uses now. Returns how many folders were removed."""
    locks, now, removed = Locks(layout.directory / "locks"), time.time(), 0
    for key in list(layout.work_keys()):
        folder = layout.work(key)
        with contextlib.suppress(LockHeldError, OSError), locks.hold_without_waiting(lock_name(key)):
            if now - _last_use(folder) >= unused_seconds:
                WorkFolder(layout.directory, folder).discard()
                removed += not folder.exists()
    return removed


def _last_use(folder: Path) -> float:
    """When work was last used. Raises OSError."""
    note = folder / _NOTE
    return (note if note.exists() else folder).stat().st_mtime


def _read_note(folder: Path) -> WorkNote | None:
    try:
        fields = parse_json((folder / _NOTE).read_bytes())
        kind, workflow, node = (str(fields[name]) for name in ("type", "workflow", "node"))
        depends = {str(name): str(value) for name, value in fields["depends"].items()}
    except (OSError, KeyError, TypeError, ValueError, AttributeError):
        return None
    return WorkNote(kind, workflow, node, depends)
