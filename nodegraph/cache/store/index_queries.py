"""What a run or a command asks the index of a cache directory, and what it does while another process keeps the index locked.

It waits for at most a second in all. Then a command builds an index in memory, and a run leaves the work to a later run. Nothing is
lost: what happened stays in the journal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from nodegraph.cache.store.layout import Layout

if TYPE_CHECKING:
    from nodegraph.cache.store.index import Entry
    from nodegraph.cache.store.records import Record


class IndexQueries:
    """The queries of one run or command. `read_record` returns the record of a key.

    The index imports sqlite3, which a fully cached run does not need, so each method imports it.
    """

    def __init__(self, layout: Layout, read_record: Callable[[str], Record | None]) -> None:
        self._layout, self._read_record = layout, read_record
        self._is_busy = False  # so that a run or command waits only once

    def entries(self, read_record: Callable[[str], Record | None] | None = None) -> list[Entry]:
        """Every stored result with its size and use. The least recently used one comes first.

        `read_record` reads the records that are not in the index yet.
        """
        from nodegraph.cache.store.index import IndexBusyError, query_in_memory, query_index

        read_record = read_record or self._read_record
        if not self._is_busy:
            try:
                return query_index(self._layout, read_record, lambda index: index.entries(), exact=True)
            except IndexBusyError:
                self._is_busy = True
        return query_in_memory(self._layout, read_record, lambda index: index.entries(), exact=True)

    def total(self) -> int | None:
        """The bytes of all blobs; None if another process keeps the index locked."""
        from nodegraph.cache.store.index import IndexBusyError, query_index

        if not self._is_busy:
            try:
                return query_index(self._layout, self._read_record, lambda index: index.total())
            except IndexBusyError:
                self._is_busy = True
        return None

    def forget(self, keys: Collection[str], blobs: Collection[str]) -> None:
        """Remove results that were collected. A locked index is compared with the directory when it is next needed."""
        from nodegraph.cache.store.index import IndexBusyError, query_index

        if not self._is_busy:
            with contextlib.suppress(IndexBusyError):
                query_index(self._layout, self._read_record, lambda index: index.forget(keys, blobs))
