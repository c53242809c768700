"""Sending what is in a cache directory to a shared store: blobs first, then the record or export that names them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from nodegraph.cache.store.layout import Layout
from nodegraph.cache.store.records import StaleRecordError, read_export, read_record
from nodegraph.cache.store.remote import names
from nodegraph.cache.store.remote.objects import Objects
from nodegraph.cache.store.remote.seals import Seal

SMALL_BYTES: Final = 1 << 18
"""Up to this size, sending a blob is as fast as asking whether it is there."""

FRESH_SECONDS: Final = 12 * 3600
"""A blob that is older than this is sent again, so that `gc --remote` does not take it for one that nothing needs."""


class Sender:
    """Sends results of the cache directory `layout`. May be used from several threads. Its methods raise ObjectsError."""

    def __init__(self, objects: Objects, layout: Layout, seal: Seal) -> None:
        self._objects, self._layout, self._seal = objects, layout, seal
        self._damaged: set[str] = set()  # names of objects that are replaced although they are there
        self._sent: set[str] = set()  # blobs that this process has sent, or has seen there
        self._is_marked = False
        self._lock = threading.Lock()

    def replace(self, name: str) -> None:
        """The object called `name` is damaged: replace it."""
        with self._lock:
            self._damaged.add(name)

    def replace_blob(self, blob: str) -> None:
        """The same for a blob."""
        with self._lock:
            self._sent.discard(blob)
        self.replace(names.blob(blob))

    def send_record(self, key: str) -> bool:
        """Send the result of `key`. Returns whether it was not there before.

        Does nothing if it is in the cache directory no longer.
        """
        try:
            data = self._layout.record(key).read_bytes()
            blobs = read_record(data, key).blobs()
        except (OSError, KeyError, TypeError, ValueError, AttributeError, StaleRecordError):
            return False
        return self._send_blobs(blobs) and self._create(names.record(self._seal.space, key), data)

    def send_export(self, digest: str, extension: str) -> bool:
        """Send the exported files of a value, as `send_record` sends results."""
        try:
            data = self._layout.export(digest, extension).read_bytes()
        except OSError:
            return False
        blobs = read_export(data)
        return (
            blobs is not None and self._send_blobs(blobs) and self._create(names.export(self._seal.space, digest, extension), data)
        )

    def _send_blobs(self, blobs: Iterable[str]) -> bool:
        """Send blobs, as far as they are not there. Returns False if one is in the cache directory no longer."""
        if not self._is_marked:
            self._objects.create(names.MARK, names.MARK_CONTENT)
            self._is_marked = True
        for blob in blobs:
            if blob not in self._sent:
                path = self._layout.blob(blob)
                try:
                    if not self._is_there(blob, path):
                        self._objects.upload(names.blob(blob), path)
                except FileNotFoundError:
                    return False
                with self._lock:
                    self._sent.add(blob)
                    self._damaged.discard(names.blob(blob))
        return True

    def _is_there(self, blob: str, path: Path) -> bool:
        size = path.stat().st_size
        if size <= SMALL_BYTES or names.blob(blob) in self._damaged:
            return False
        found = self._objects.head(names.blob(blob))
        return found is not None and found.size == size and time.time() - found.modified < FRESH_SECONDS

    def _create(self, name: str, data: bytes) -> bool:
        """Create a sealed object, unless there is a sound one."""
        if name in self._damaged:
            self._objects.delete([name])
            with self._lock, contextlib.suppress(KeyError):
                self._damaged.remove(name)
        return self._objects.create(name, self._seal.close(name, data))
