"""The files of records: one for each key, which says what its result is."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Final

from nodegraph.cache.store.layout import Layout
from nodegraph.cache.store.records import Record, StaleRecordError, read_record, record_bytes
from nodegraph.cache.store.safe_io import SafeFiles
from nodegraph.files import FileState

MAX_RECORDS_IN_MEMORY: Final = 1 << 14


class RecordFiles:
    """The records of a cache directory. A file is read once for each of its states."""

    def __init__(self, layout: Layout, files: SafeFiles) -> None:
        self._layout = layout
        self._files = files
        self._known: dict[str, tuple[FileState, Record]] = {}  # each with the state of the file that it was read from

    def for_run(self, files: SafeFiles) -> RecordFiles:
        """The same records, read and written through the `files` of one run. What is known of them is shared."""
        records = copy.copy(self)
        records._files = files
        return records

    def get(self, key: str) -> Record | None:
        """The record of `key`; None if it does not exist or cannot be read."""
        path = self._layout.record(key)
        try:
            state = FileState.of(path)
        except FileNotFoundError:
            return None
        except OSError:
            state = None  # reading reports it
        known = self._known.get(key)
        if known is not None and known[0] == state:
            return known[1]
        data = self._files.read(path)
        try:
            record = read_record(data, key) if data is not None else None
        except (KeyError, TypeError, ValueError, AttributeError, StaleRecordError):
            return None  # of another version, or damaged; the result is computed and written again
        if record is not None and state is not None:
            self._remember(state, record)
        return record

    def put(self, record: Record) -> bool:
        """Write a record, whose blobs must be stored already. Returns whether that succeeded."""
        path = self._layout.record(record.key)
        if not self._files.write(path, record_bytes(record)):
            return False
        with contextlib.suppress(OSError):
            self._remember(FileState.of(path), record)
        return True

    def keys(self) -> Iterator[str]:
        """The key of every record, in no particular order."""
        return self._layout.records()

    def quarantine(self, record: Record) -> None:
        """Move a record to quarantine, with copies of its blobs: these are as they were written, and others may refer to them."""
        self._layout.quarantine(self._layout.record(record.key))
        for blob in record.blobs():
            self._layout.copy_to_quarantine(self._layout.blob(blob))

    def read_again(self) -> None:
        """Read each record again when it is next needed."""
        self._known.clear()

    def _remember(self, state: FileState, record: Record) -> None:
        if len(self._known) >= MAX_RECORDS_IN_MEMORY:
            self._known.clear()
        self._known[record.key] = state, record
