"""What one run used and stored in a cache directory, as it is noted in the journal."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterable

from nodegraph.cache.store.journal import Journal, Line
from nodegraph.cache.store.records import Record, StoredBlob


class RunUsage:
    """What one run used and stored. `keys` are the keys of these results.

    A line that cannot be written is dropped: counts and the order of eviction become less exact, but no result is lost.
    """

    def __init__(self, journal: Journal) -> None:
        self.keys: set[str] = set()
        self._journal = journal
        self._used: Counter[str] = Counter()
        self._lock = threading.Lock()

    def used(self, key: str) -> None:
        """Count a use of a result. It is written with the next result that is stored, or at the end of the run."""
        with self._lock:
            self._used[key] += 1
            self.keys.add(key)

    def stored(self, record: Record) -> None:
        """Note a new result."""
        self.keys.add(record.key)
        blobs = list(record.blobs().items())
        self.write([["made", record.key, record.type, record.workflow, record.node, record.created, blobs]])

    def exported(self, blobs: list[StoredBlob]) -> None:
        """Note the blobs of exported files."""
        self.write([["kept", blobs]])

    def forget(self) -> None:
        """Forget what was used and stored: the directory was cleared."""
        with self._lock:
            self._used.clear()
            self.keys.clear()

    def write(self, lines: Iterable[Line] = ()) -> None:
        """Write `lines`, and the uses that were counted so far."""
        with self._lock:
            used, self._used = self._used, Counter()
        pending = [*lines, ["used", time.time(), used]] if used else list(lines)
        if pending:
            with contextlib.suppress(OSError):
                self._journal.add(pending)


class Growth:
    """The bytes added to a directory since the index last gave its size, and how many may be added before it is asked again."""

    def __init__(self) -> None:
        self.added = self.allowed = 0
        self._lock = threading.Lock()

    def add(self, size: int) -> None:
        with self._lock:
            self.added += size

    def start_again(self, allowed: int) -> None:
        with self._lock:
            self.added, self.allowed = 0, allowed
