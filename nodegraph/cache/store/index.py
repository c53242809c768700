"""The index of a cache directory, in SQLite: what made each result, how large it is, and when and how often it was used.

The index only repeats what the records say. If it is deleted or damaged, it is rebuilt from them: the last use of a result is the
modification time of its record, which is set whenever uses are added to the index. Only the counts of uses are then lost.

If the index file cannot be used (the directory is read-only, the file system has no locks), an index without the counts is built in
memory for each query. `index_queries.py` says what happens while another process keeps the index locked.
"""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeVar

from nodegraph.cache.store.journal import Journal, Line
from nodegraph.cache.store.layout import KEY
from nodegraph.errors import NodegraphError
from nodegraph.light_dataclass import dataclass
from nodegraph.text import described

if TYPE_CHECKING:
    from nodegraph.cache.store.layout import Layout
    from nodegraph.cache.store.records import Record

T = TypeVar("T")

VERSION: Final = 2
BUSY_SECONDS: Final = 1.0
"""How long a query waits for other processes that have the index locked, in all."""

_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
_MEMORY: Final = ":memory:"
_MAX_INTEGER: Final = 1 << 62  # SQLite's integers have 64 bits

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


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A stored result. `size` is in bytes, of all its blobs; `created` and `used` (the last use) are in seconds since 1970."""

    key: str
    type: str
    workflow: str
    node: str
    size: int
    created: float
    used: float
    uses: int


class IndexBusyError(NodegraphError):
    """Another process keeps the index locked."""


def query_index(
    layout: Layout, read_record: Callable[[str], Record | None], query: Callable[[Index], T], *, exact: bool = False
) -> T:
    """Returns what `query` returns for the index, to which the journal was added first.

    With `exact`, the index is also compared with the files in the directory. A damaged index is rebuilt; `query` may then be
    called a second time. Raises IndexBusyError if another process keeps the index locked.
    """
    for _ in range(2):
        try:
            with contextlib.closing(Index(layout, read_record, str(layout.index))) as index:
                index.update(exact=exact)
                return query(index)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in _BUSY:
                raise IndexBusyError(f"another process keeps {layout.index} locked") from error
            if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:  # which means that the tables are not ours
                break  # the file cannot be opened or written; the index itself may be intact
            _remove_index(layout)
        except sqlite3.DatabaseError:
            _remove_index(layout)
    return query_in_memory(layout, read_record, query, exact=exact)


def query_in_memory(
    layout: Layout, read_record: Callable[[str], Record | None], query: Callable[[Index], T], *, exact: bool = False
) -> T:
    """Returns what `query` returns for an index that is built in memory, without the counts of uses."""
    with contextlib.closing(Index(layout, read_record, _MEMORY)) as index:
        index.update(exact=exact)
        return query(index)


class Index:
    """An open index; see `query_index`. Raises sqlite3.OperationalError if other processes keep it locked for too long."""

    def __init__(self, layout: Layout, read_record: Callable[[str], Record | None], database: str) -> None:
        self._layout, self._read_record = layout, read_record
        self._journal = Journal(layout.journal)
        self._in_memory = database == _MEMORY
        self._deadline = time.monotonic() + BUSY_SECONDS
        self._db = sqlite3.connect(database, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = OFF")  # it may be damaged by a power failure; it is then rebuilt
        except sqlite3.Error:
            self._db.close()
            raise

    def close(self) -> None:
        self._db.close()

    def update(self, *, exact: bool) -> None:
        """Add the journal to the index. A new index is first compared with the directory, with `exact` any index."""
        with self._transaction():
            new = self._version() != VERSION
            if new:
                for statement in _TABLES.split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {VERSION}")
            if new or exact:
                self._compare_with_directory()
            if self._in_memory:
                self._add_lines(self._journal.lines())
                return
            with self._journal.take(self._remaining()) as lines:
                self._set_record_times(self._add_lines(lines))

    def entries(self) -> list[Entry]:
        """Every entry. The least recently used one comes first."""
        columns = ("key", "type", "workflow", "node", "size", "created", "used", "uses")
        rows = self._db.execute(f"SELECT {', '.join(columns)} FROM entries ORDER BY used, created, key")
        return [Entry(**dict(zip(columns, row, strict=True))) for row in rows]

    def total(self) -> int:
        """The bytes of all blobs."""
        return int(self._db.execute("SELECT coalesce(sum(size), 0) FROM blobs").fetchone()[0])

    def forget(self, keys: Iterable[str], blobs: Iterable[str]) -> None:
        """Remove the entries of results and blobs that were removed from disk."""
        with self._transaction():
            self._db.executemany("DELETE FROM entries WHERE key = ?", [(key,) for key in keys])
            self._db.executemany("DELETE FROM blobs WHERE name = ?", [(blob,) for blob in blobs])

    # --- updating

    def _compare_with_directory(self) -> None:
        """Make the index list exactly the records and blobs in the directory."""
        on_disk = set(self._layout.records())
        known = {key for (key,) in self._db.execute("SELECT key FROM entries")}
        self._db.executemany("DELETE FROM entries WHERE key = ?", [(key,) for key in known - on_disk])
        for record in filter(None, map(self._read_record, on_disk - known)):
            self._put(
                Entry(
                    key=record.key,
                    type=record.type,
                    workflow=record.workflow,
                    node=record.node,
                    size=sum(record.blobs().values()),
                    created=record.created,
                    used=max(record.created, self._last_use(record.key)),
                    uses=0,
                )
            )
        sizes = dict(self._layout.blob_sizes())
        listed = dict(self._db.execute("SELECT name, size FROM blobs").fetchall())
        self._db.executemany("DELETE FROM blobs WHERE name = ?", [(name,) for name in listed.keys() - sizes.keys()])
        self._put_blobs((name, size) for name, size in sizes.items() if listed.get(name) != size)

    def _add_lines(self, lines: Iterable[Line]) -> dict[str, float]:
        """Add lines of the journal to the index. Returns the last use of each key that was used."""
        now = time.time()
        used: dict[str, float] = {}
        for line in lines:
            with contextlib.suppress(ValueError, sqlite3.IntegrityError):  # not a line that this program writes
                match line:
                    case ["made", str(key), str(node_type), str(workflow), str(node), float(created), blobs]:
                        sizes = _blob_sizes(blobs)
                        total = sum(sizes.values())
                        self._put(
                            Entry(
                                key=key,
                                type=node_type,
                                workflow=workflow,
                                node=node,
                                size=total,
                                created=created,
                                used=created,
                                uses=0,
                            )
                        )
                        self._put_blobs(sizes.items())
                    case ["kept", blobs]:
                        self._put_blobs(_blob_sizes(blobs).items())
                    case ["used", float(when), dict(uses)] if math.isfinite(when):
                        counted = {key: times for key, times in uses.items() if KEY.fullmatch(key) and type(times) is int}
                        values = [(min(when, now), times, key) for key, times in counted.items() if 0 < times < _MAX_INTEGER]
                        self._db.executemany("UPDATE entries SET used = max(used, ?), uses = uses + ? WHERE key = ?", values)
                        used |= {key: max(min(when, now), used.get(key, 0.0)) for key in counted}
        return used

    def _set_record_times(self, used: dict[str, float]) -> None:
        """Set the modification time of each record to its last use, so that a rebuilt index has the same order."""
        for key, when in used.items():
            with contextlib.suppress(OSError):  # it is gone, or belongs to another user
                os.utime(self._layout.record(key), (when, when))

    def _last_use(self, key: str) -> float:
        try:
            return min(self._layout.record(key).stat().st_mtime, time.time())
        except OSError:
            return 0.0

    def _put(self, entry: Entry) -> None:
        """Add an entry, or update it without changing its count of uses."""
        names = (entry.type, entry.workflow, entry.node)
        unicode_names = [name.encode("utf-8", "replace").decode() for name in names]  # the name of a file may be no valid Unicode
        self._db.execute(
            "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, 0) ON CONFLICT (key) DO UPDATE SET type = excluded.type, "
            "workflow = excluded.workflow, node = excluded.node, size = excluded.size, created = excluded.created, "
            "used = max(used, excluded.used)",
            (entry.key, *unicode_names, entry.size, entry.created, entry.used),
        )

    def _put_blobs(self, blobs: Iterable[tuple[str, int]]) -> None:
        self._db.executemany("INSERT OR REPLACE INTO blobs VALUES (?, ?)", blobs)

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """Run the block in a transaction. Only one process at a time can be in one."""
        self._db.execute(f"PRAGMA busy_timeout = {1000 * self._remaining():.0f}")
        self._db.execute("BEGIN EXCLUSIVE")  # so that COMMIT, after which no line is left in the journal, waits for no reader
        try:
            yield
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _remaining(self) -> float:
        """The seconds for which this index may still wait for other processes."""
        return max(0.0, self._deadline - time.monotonic())


def _blob_sizes(blobs: Any) -> dict[str, int]:
    """The bytes of each blob from the list in a line of the journal. Raises ValueError if it is not such a list."""
    match blobs:
        case [*pairs] if all(type(pair) is list and [type(part) for part in pair] == [str, int] for pair in pairs):
            sizes = {name: size for name, size in pairs if 0 <= size < _MAX_INTEGER}
            if len(sizes) == len({name for name, _ in pairs}):
                return sizes
    raise ValueError(f"not a list of blobs: {described(blobs)}")


def _remove_index(layout: Layout) -> None:
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(OSError):
            layout.index.with_name(layout.index.name + suffix).unlink()
