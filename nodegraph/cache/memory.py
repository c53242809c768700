"""Results whose values stay in memory, within limits."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from nodegraph.cache.least_recently_used import LeastRecentlyUsed
from nodegraph.cache.results import ResultInMemory
from nodegraph.cache.snapshots import Snapshot
from nodegraph.cache.store.records import Computation
from nodegraph.files import file_states

MEMORY_BYTES: Final = 1 << 30
"""How much of values with a codec is kept in memory if they cannot be stored. The least recently used ones are removed first."""

MAX_RESULTS_WITHOUT_CODEC: Final = 8
"""How many results with a value without a codec are kept in memory; how large such values are is not known."""


class Memory:
    """The results in memory, by content key. May be used from several threads."""

    def __init__(self, limit: int = MEMORY_BYTES) -> None:
        self._with_codec: LeastRecentlyUsed[ResultInMemory] = LeastRecentlyUsed(limit)
        self._without_codec: LeastRecentlyUsed[ResultInMemory] = LeastRecentlyUsed(MAX_RESULTS_WITHOUT_CODEC)
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Memory of {len(self._with_codec)} results with codecs and {len(self._without_codec)} without>"

    def get(self, key: str) -> ResultInMemory | None:
        """The result of `key`, whether or not it can still be used."""
        with self._lock:
            return self._without_codec.get(key) or self._with_codec.get(key)

    def put(
        self,
        key: str,
        values: Mapping[str, Snapshot],
        digests: Mapping[str, str],
        computation: Computation,
        *,
        files: Iterable[Path],
    ) -> None:
        """Keep values by port. One without a codec may read `files` later, so their state is noted."""
        all_have_codecs = all(snapshot.digest is not None for snapshot in values.values())
        states = {} if all_have_codecs else file_states(files)
        result = ResultInMemory(values=values, digests=digests, computation=computation, files=states)
        with self._lock:
            if all_have_codecs:
                self._with_codec.put(key, result, sum(snapshot.size for snapshot in values.values()))
            else:
                self._without_codec.put(key, result, 1)

    def remove(self, key: str) -> None:
        with self._lock:
            self._with_codec.remove(key)
            self._without_codec.remove(key)

    def clear(self) -> None:
        with self._lock:
            self._with_codec.clear()
            self._without_codec.clear()
