"""A cache directory with a shared store behind it.

What is not in the directory is looked up in the shared store, and comes into the directory when it is used. What is stored in the
directory is written to the shared store in the background.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from pathlib import Path
from typing import ClassVar, Final, TypeVar

from nodegraph.cache.store.layout import Layout
from nodegraph.cache.store.records import LostResultError, Record, export_bytes
from nodegraph.cache.store.remote.objects import Objects, require_library
from nodegraph.cache.store.remote.remote_store import RemoteStore
from nodegraph.cache.store.remote.seals import Seal
from nodegraph.cache.store.safe_io import move
from nodegraph.cache.store.store import Store
from nodegraph.light_dataclass import dataclass
from nodegraph.settings import Remote

T = TypeVar("T")

DOWNLOADS_AT_ONCE: Final = 8


def open_remote(remote: Remote, directory: Path) -> RemoteStore:
    """The shared store behind the cache directory. Raises SettingsError if the library for it is not installed."""
    require_library()
    return RemoteStore(Objects(remote.url), Layout(directory), seal=Seal(remote.key), read_only=remote.read_only)


@dataclass(eq=False)
class TieredStore(Store):
    """A cache directory before the shared store `remote`."""

    has_shared_store: ClassVar[bool] = True

    remote: RemoteStore = field(kw_only=True)

    def finish(self) -> None:
        super().finish()
        self._report()

    def flush(self, show: Callable[[int], None] = lambda left: None) -> None:
        self.remote.wait(show)
        self._report()

    # --- records

    def record(self, key: str) -> Record | None:
        """The record of `key`, from the directory or else from the shared store; None if none can be used."""
        found = super().record(key)
        if found is None:
            found = self.remote.record(key)
            self._report()
        return found

    def put_record(self, record: Record) -> None:
        super().put_record(record)
        if self._files.writable:
            self.remote.send_record(record.key)

    def quarantine(self, record: Record) -> None:
        super().quarantine(record)
        self.remote.reject(record.key)

    # --- blobs

    def has(self, blob: str) -> bool:
        return super().has(blob) or self.remote.promises(blob)

    def blob(self, blob: str) -> Path:
        self._fetch(blob)
        return super().blob(blob)

    def read_blob(self, blob: str, read: Callable[[Path], T]) -> T:
        self._fetch(blob)
        return super().read_blob(blob, read)

    def fetch(self, blobs: Collection[str]) -> set[str]:
        far = [blob for blob in blobs if self.remote.promises(blob) and not super(TieredStore, self).has(blob)]
        if len(far) > 1:
            with ThreadPoolExecutor(min(len(far), DOWNLOADS_AT_ONCE)) as threads:
                list(threads.map(self._fetch, far))
        else:
            for blob in far:
                self._fetch(blob)
        return {blob for blob in far if not super(TieredStore, self).has(blob)}

    def _fetch(self, blob: str) -> None:
        """Bring a blob of the shared store into the directory, unless it is there. If that fails, reading it does."""
        if not self.remote.promises(blob) or super().has(blob):
            return

        def download() -> bool:
            with self._files.temporary_file() as temporary:
                if not self.remote.download(blob, temporary):
                    return False
                move(temporary, self.layout.blob(blob))
            return True

        if self._files.attempt(download):
            self._growth.add(self.layout.blob(blob).stat().st_size)
            for record in self.remote.records_of(blob):
                if all(self.layout.blob(other).exists() for other in record.blobs()):
                    super().put_record(record)
        self._report()

    # --- the exported files of a value

    def exported(self, digest: str, extension: str) -> list[bytes] | None:
        found = super().exported(digest, extension)
        if found is not None:
            return found
        blobs = self.remote.export(digest, extension)
        self._report()
        if blobs is None:
            return None
        try:
            files = [self.read_blob(blob, Path.read_bytes) for blob in blobs]
        except (LostResultError, OSError):
            return None
        self._files.write(self.layout.export(digest, extension), export_bytes(blobs))
        return files

    def put_exported(self, digest: str, extension: str, files: list[bytes]) -> None:
        super().put_exported(digest, extension, files)
        if self._files.writable:
            self.remote.send_export(digest, extension)

    # --- locks

    @contextlib.contextmanager
    def lock(
        self, key: str, waiting: Callable[[], None] = lambda: None, long_wait: Callable[[Path | None], None] = lambda lock: None
    ) -> Iterator[bool]:
        """Keep other threads, processes and machines from computing `key`; see `Store.lock`."""
        with (
            super().lock(key, waiting, long_wait) as waited,
            self.remote.claim(key, waiting, lambda: long_wait(None)) as waited_far,
        ):
            self._report()
            yield waited or waited_far

    def _report(self) -> None:
        for message in self.remote.take_messages():
            self.warn(message)
