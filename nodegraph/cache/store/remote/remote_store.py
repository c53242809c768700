"""The shared store as one process uses it: reading records and blobs, writing results in the background, and claims.

Nothing here raises if the store is away or refuses: it is then as if the store held nothing, and `take_messages` says so once.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from nodegraph.cache.store.layout import Layout
from nodegraph.cache.store.records import Record, StaleRecordError, read_export, read_record
from nodegraph.cache.store.remote import names
from nodegraph.cache.store.remote.claims import Claims, Timing
from nodegraph.cache.store.remote.health import Health
from nodegraph.cache.store.remote.objects import Objects, ObjectsError
from nodegraph.cache.store.remote.seals import Seal
from nodegraph.cache.store.remote.sending import Sender
from nodegraph.cache.store.remote.uploads import Uploads

T = TypeVar("T")

MOST_RECORDS: Final = 1 << 15
"""How many records of the store are remembered."""

MISS_SECONDS: Final = 2.0
"""How long a key that was not there is not looked up again: a run asks for it several times before it computes it."""

PAUSES_SECONDS: Final = (1.0, 4.0)
"""How long a thread of the background waits before it tries again what has failed; the library tries a few times itself."""


class RemoteStore:
    """The shared store behind the cache directory `layout`. May be used from several threads."""

    def __init__(
        self, objects: Objects, layout: Layout, *, seal: Seal, read_only: bool = False, timing: Timing | None = None
    ) -> None:
        self.objects, self.seal, self.read_only = objects, seal, read_only
        self._reading, self._writing = Health(), Health()
        timing = timing or Timing()
        self._claims, self._sleep, self._clock = Claims(objects, timing), timing.sleep, timing.clock
        self._sender = Sender(objects, layout, seal)
        self._uploads = Uploads()
        self._lock = threading.Lock()
        self._records: dict[str, Record] = {}
        self._sizes: dict[str, int | None] = {}  # of the blobs that records and exports name
        self._keys: dict[str, set[str]] = {}  # of the records that name a blob
        self._export_names: dict[str, str] = {}  # the object that says that a blob is an exported file
        self._missed: dict[str, float] = {}  # when keys were looked up that were not there
        self._absent: set[str] = set()  # keys that no other machine stores now, as this process has their claims
        self._rejected: set[str] = set()  # keys whose record is wrong
        self._stored: set[str] = set()  # keys of claims in whose block a result was stored
        self._notes: dict[str, str | None] = {}  # messages by their subject; None: it was shown

    # --- reading

    def record(self, key: str) -> Record | None:
        """The record of `key`; None if the store has none that can be used."""
        known = self._records.get(key)
        if known is not None or key in self._absent or key in self._rejected:
            return known
        if self._clock() - self._missed.get(key, -math.inf) < MISS_SECONDS:
            return None
        record = self._read(names.record(self.seal.space, key), partial(_parsed, key))
        with self._lock:
            if record is not None:
                self._remember(record)
            elif self._claims.holds(key):
                self._absent.add(key)
            else:
                if len(self._missed) >= MOST_RECORDS:
                    self._missed.clear()
                self._missed[key] = self._clock()
        return record

    def export(self, digest: str, extension: str) -> list[str] | None:
        """The blobs that the value with `digest` was exported to; None if the store does not say that."""
        blobs = self._read(names.export(self.seal.space, digest, extension), read_export)
        with self._lock:
            for blob in blobs or ():
                self._sizes.setdefault(blob, None)
                self._export_names[blob] = names.export(self.seal.space, digest, extension)
        return blobs

    def promises(self, blob: str) -> bool:
        """Whether a record or an export that was read names this blob, so that the store should have it."""
        return blob in self._sizes

    def download(self, blob: str, path: Path) -> bool:
        """Write a blob to the new file `path`. Returns False if the store has it not, or a damaged one. Raises OSError."""
        try:
            if not self._reading.is_usable():
                return False
            digest = self.objects.download(names.blob(blob), path, self._sizes.get(blob))
        except ObjectsError as error:
            self._cannot_read(error)
            return False
        self._reading.worked()
        if digest is not None and blob.startswith(digest):
            return True
        self._note_damage(names.blob(blob))
        self._sender.replace_blob(blob)
        with self._lock:
            for key in [*self._keys.get(blob, ())]:
                self._reject(key)
            self._sizes.pop(blob, None)
            export = self._export_names.pop(blob, None)
        if export is not None:
            self._sender.replace(export)
        return False

    def records_of(self, blob: str) -> list[Record]:
        """The records that were read and that name this blob."""
        with self._lock:
            return [self._records[key] for key in self._keys.get(blob, ()) if key in self._records]

    def reject(self, key: str) -> None:
        """Do not use the record of `key`: it is wrong. The next result of this key replaces it."""
        with self._lock:
            self._reject(key)

    def _reject(self, key: str) -> None:
        self._forget(key)
        self._rejected.add(key)

    def _forget(self, key: str) -> None:
        record = self._records.pop(key, None)
        for blob in () if record is None else record.blobs():
            keys = self._keys[blob]
            keys.discard(key)
            if not keys:
                del self._keys[blob]
                self._sizes.pop(blob, None)

    def _remember(self, record: Record) -> None:
        if len(self._records) >= MOST_RECORDS:
            self._forget(next(iter(self._records)))
        self._records[record.key] = record
        for blob, size in record.blobs().items():
            self._sizes[blob] = size
            self._keys.setdefault(blob, set()).add(record.key)

    def _read(self, name: str, parse: Callable[[bytes], T | None]) -> T | None:
        """What `parse` makes of a sealed object; None if there is none. It is replaced by the next result if it is damaged."""
        if not self._reading.is_usable():
            return None
        try:
            found = self.objects.get(name)
        except ObjectsError as error:
            self._cannot_read(error)
            return None
        self._reading.worked()
        if found is None:
            return None
        body = self.seal.open(name, found[0])
        try:
            parsed = parse(body) if body is not None else None
        except StaleRecordError:
            return None
        if parsed is None:
            self._note_damage(name)
            self._sender.replace(name)
        return parsed

    # --- writing

    def is_writable(self) -> bool:
        return not self.read_only and self._writing.is_usable() and self._reading.is_usable()

    def send_record(self, key: str) -> None:
        """Write the result of `key`, which is in the cache directory, in the background.

        In the block of a claim, this begins when the block ends.
        """
        with self._lock:
            is_wrong = key in self._rejected
            self._rejected.discard(key)
        if is_wrong:
            self._sender.replace(names.record(self.seal.space, key))
        if self._claims.holds(key):
            self._stored.add(key)
        else:
            self._send(partial(self._sender.send_record, key))

    def send_export(self, digest: str, extension: str) -> None:
        """Write the exported files of a value, which are in the cache directory, in the background."""
        self._send(partial(self._sender.send_export, digest, extension))

    def wait(self, show: Callable[[int], None] = lambda left: None) -> None:
        """Wait until everything is written, or the store has refused."""
        self._uploads.wait(show)
        self._claims.end()

    def _send(self, send: Callable[[], object]) -> None:
        if self.is_writable() and not self._uploads.add(partial(self._try_to, send)):
            self._note_overflow()

    def _try_to(self, send: Callable[[], object]) -> None:
        """Send something, in a thread of the background, and again after a failure."""
        pauses = iter(PAUSES_SECONDS)
        while self.is_writable():
            try:
                send()
            except ObjectsError as error:
                pause = next(pauses, None)
                if pause is None:
                    self._cannot_write(error)
                    break
                self._sleep(pause)
            else:
                self._writing.worked()
                break

    # --- claims

    @contextlib.contextmanager
    def claim(self, key: str, waiting: Callable[[], None], long_wait: Callable[[], None]) -> Iterator[bool]:
        """Keep other machines from computing `key` during the block. Yields whether one of them had to be waited for.

        The claim is kept until what the block stores is in the shared store. If there can be no claims, the block runs without one.
        """
        waited = False
        if self.is_writable():
            try:
                waited = self._claims.acquire(key, waiting, long_wait)
                self._missed.pop(key, None)  # it may have been stored meanwhile
            except ObjectsError as error:
                self._cannot_write(error)
        try:
            yield waited
        finally:
            self._absent.discard(key)
            if self._claims.holds(key):
                is_stored = key in self._stored
                self._stored.discard(key)
                if not self._uploads.add(partial(self._end_claim, key, is_stored=is_stored)):
                    self._note_overflow()
                    self._claims.forget(key)

    def _end_claim(self, key: str, *, is_stored: bool) -> None:
        if is_stored:
            self._try_to(partial(self._sender.send_record, key))
        try:
            self._claims.release(key)
        except ObjectsError as error:
            self._cannot_write(error)

    # --- messages

    def take_messages(self) -> list[str]:
        """What a person should know, once: that the store cannot be read or written, and that something in it is damaged."""
        found = [self._reading.take_message(), self._writing.take_message()]
        if self._notes:
            with self._lock:
                found += self._notes.values()
                self._notes = dict.fromkeys(self._notes)
        return [message for message in found if message is not None]

    def _cannot_read(self, error: ObjectsError) -> None:
        is_known = not self._writing.is_usable()  # it is away, and a message said so
        self._reading.failed(
            None
            if is_known
            else f"the shared store {self.objects.url} cannot be read: {error}. The run goes on without it. Check the address, the "
            f"network and your permissions, or run with --cache-remote none"
        )

    def _cannot_write(self, error: ObjectsError) -> None:
        self._writing.failed(
            f"the shared store {self.objects.url} cannot be written: {error}. The run goes on, and its results stay in the cache "
            f"directory. 'nodegraph cache push' writes them later"
        )

    def _note_damage(self, name: str) -> None:
        self._notes.setdefault(
            "damage",
            f"{name} in the shared store {self.objects.url} is missing, damaged, or not signed with your key, so its result is "
            f"computed again. 'nodegraph cache verify --remote' checks every object",
        )

    def _note_overflow(self) -> None:
        self._notes.setdefault(
            "overflow",
            f"the shared store {self.objects.url} is slower than the results come, so some are not written to it. 'nodegraph cache "
            f"push' writes them later",
        )


def _parsed(key: str, body: bytes) -> Record | None:
    """The record of `key`; None if `body` is another one, or none. Raises StaleRecordError."""
    try:
        return read_record(body, key)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
