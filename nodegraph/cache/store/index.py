"""The index of a cache directory: who made each entry, how large it is, and when and how often it was used. In SQLite.

The record files are the truth. The index can be deleted or damaged at any time: it is made anew from them, the last use of an entry
being the modification time of its record, which is set when uses are folded in. Only counts of uses are lost.

Where the file cannot be used (a directory that is read-only, a file system without locks) an index is made in memory for the one
question, without the counts.
"""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from nodegraph.cache.store.journal import Journal, Line
from nodegraph.cache.store.layout import KEY

if TYPE_CHECKING:
    from nodegraph.cache.store.layout import Layout
    from nodegraph.cache.store.records import Record

T = TypeVar("T")

VERSION: Final = 1
BUSY_SECONDS: Final = 10.0
_MEMORY: Final = ":memory:"
_MOST: Final = 1 << 62  # that SQLite can count

_TABLES: Final = """
    DROP TABLE IF EXISTS entries;
    DROP TABLE IF EXISTS blobs;
    CREATE TABLE entries (
        key TEXT PRIMARY KEY, type TEXT NOT NULL, workflow TEXT NOT NULL, node TEXT NOT NULL,
        size INTEGER NOT NULL, created REAL NOT NULL, used REAL NOT NULL, uses INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX entries_by_use ON entries (used);
    CREATE TABLE blobs (name TEXT PRIMARY KEY, size INTEGER NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Entry:
    """A stored result. `size` is the bytes of its blobs, `created` and `used` are in seconds since 1970."""

    key: str
    type: str
    workflow: str
    node: str
    size: int
    created: float
    used: float
    uses: int


def ask(layout: Layout, read: Callable[[str], Record | None], question: Callable[[Index], T], *, exact: bool = False) -> T:
    """What `question` answers, of an index that knows all that was noted; with `exact`, all that lies there.

    `read` gives the record of a key. A damaged index is made anew. `question` may be asked twice.
    """
    for _ in range(2):
        try:
            with contextlib.closing(Index(layout, read, str(layout.index))) as index:
                index.update(exact=exact)
                return question(index)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:  # that one means tables that are not ours
                break  # it is busy, or cannot be opened or written: it may be sound
            _remove(layout)
        except sqlite3.DatabaseError:
            _remove(layout)
    with contextlib.closing(Index(layout, read, _MEMORY)) as index:
        index.update(exact=exact)
        return question(index)


class Index:
    """An open index; `ask` opens one."""

    def __init__(self, layout: Layout, read: Callable[[str], Record | None], place: str) -> None:
        self._layout, self._read = layout, read
        self._journal = Journal(layout.journal)
        self._in_memory = place == _MEMORY
        self._db = sqlite3.connect(place, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = OFF")  # after a power failure it may be damaged, and is made anew
        except sqlite3.Error:
            self._db.close()
            raise

    def close(self) -> None:
        self._db.close()

    def update(self, *, exact: bool) -> None:
        """Fold in what was noted; a new index, and one that is to be exact, is compared with the directory."""
        with self._writing():
            new = self._version() != VERSION
            if new:
                for statement in _TABLES.split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {VERSION}")
            if new or exact:
                self._compare()
            if self._in_memory:
                self._fold(self._journal.lines())
                return
            with self._journal.taken() as lines:
                self._remember_in_records(self._fold(lines))

    def entries(self) -> list[Entry]:
        """Every entry, the one that was not used for longest first."""
        columns = "key, type, workflow, node, size, created, used, uses"
        return [Entry(*row) for row in self._db.execute(f"SELECT {columns} FROM entries ORDER BY used, created, key")]

    def total(self) -> int:
        """The bytes of all blobs."""
        return int(self._db.execute("SELECT coalesce(sum(size), 0) FROM blobs").fetchone()[0])

    def forget(self, keys: Iterable[str], blobs: Iterable[str]) -> None:
        """Drop entries and blobs that were removed."""
        with self._writing():
            self._db.executemany("DELETE FROM entries WHERE key = ?", [(key,) for key in keys])
            self._db.executemany("DELETE FROM blobs WHERE name = ?", [(blob,) for blob in blobs])

    # --- bringing it up to date

    def _compare(self) -> None:
        """Make entries and blobs those that lie in the directory."""
        there = set(self._layout.records())
        known = {key for (key,) in self._db.execute("SELECT key FROM entries")}
        self._db.executemany("DELETE FROM entries WHERE key = ?", [(key,) for key in known - there])
        for record in filter(None, map(self._read, there - known)):
            size = sum(record.blobs().values())
            used = max(record.created, self._last_use(record.key))
            self._put(record.key, record.type, record.workflow, record.node, size, record.created, used)
        self._db.execute("DELETE FROM blobs")
        self._put_blobs(self._layout.blob_sizes())

    def _fold(self, lines: Iterable[Line]) -> dict[str, float]:
        """Take noted lines in; gives the keys that were used, with the time."""
        now = time.time()
        used: dict[str, float] = {}
        for line in lines:
            with contextlib.suppress(ValueError, sqlite3.IntegrityError):  # not a line that we write
                match line:
                    case ["made", str(key), str(kind), str(workflow), str(node), float(created), blobs]:
                        noted = _noted(blobs)
                        self._put(key, kind, workflow, node, sum(noted.values()), created, created)
                        self._put_blobs(noted.items())
                    case ["kept", blobs]:
                        self._put_blobs(_noted(blobs).items())
                    case ["used", float(when), dict(uses)] if math.isfinite(when):
                        counted = {key: times for key, times in uses.items() if KEY.fullmatch(key) and type(times) is int}
                        values = [(min(when, now), times, key) for key, times in counted.items() if 0 < times < _MOST]
                        self._db.executemany("UPDATE entries SET used = max(used, ?), uses = uses + ? WHERE key = ?", values)
                        used |= {key: max(min(when, now), used.get(key, 0.0)) for key in counted}
        return used

    def _remember_in_records(self, used: dict[str, float]) -> None:
        """Set the times of records to their last use, from which the order comes back when the index is lost."""
        for key, when in used.items():
            with contextlib.suppress(OSError):  # it is gone, or another user's
                os.utime(self._layout.record(key), (when, when))

    def _last_use(self, key: str) -> float:
        try:
            return min(self._layout.record(key).stat().st_mtime, time.time())
        except OSError:
            return 0.0

    def _put(self, key: str, kind: str, workflow: str, node: str, size: int, created: float, used: float) -> None:
        names = [name.encode("utf-8", "replace").decode() for name in (kind, workflow, node)]  # of a file, not always Unicode
        self._db.execute(
            "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, 0) ON CONFLICT (key) DO UPDATE SET type = excluded.type, "
            "workflow = excluded.workflow, node = excluded.node, size = excluded.size, created = excluded.created, "
            "used = max(used, excluded.used)",
            (key, *names, size, created, used),
        )

    def _put_blobs(self, blobs: Iterable[tuple[str, int]]) -> None:
        self._db.executemany("INSERT OR REPLACE INTO blobs VALUES (?, ?)", blobs)

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """A transaction; one process at a time is in one."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def _noted(blobs: Any) -> dict[str, int]:
    """Blobs and their bytes, as a line of the journal gives them. Raises ValueError for anything else."""
    match blobs:
        case [*pairs] if all(type(pair) is list and [type(part) for part in pair] == [str, int] for pair in pairs):
            noted = {name: size for name, size in pairs if 0 <= size < _MOST}
            if len(noted) == len({name for name, _ in pairs}):
                return noted
    raise ValueError(f"no list of blobs: {blobs!r}")


def _remove(layout: Layout) -> None:
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(OSError):
            layout.index.with_name(layout.index.name + suffix).unlink()
