"""Taking snapshots of the values that a node returned: each is written once, and its digest is taken from what was written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from nodegraph.cache.anonymous_files import TemporaryFolderError
from nodegraph.cache.snapshots import Anonymous, Blob, Copied, Encoded, Listed, Live, Parts, Snapshot, Text
from nodegraph.cache.store.records import StoredValue
from nodegraph.cache.store.safe_io import WriterError
from nodegraph.cache.store.store import Store
from nodegraph.plugins.codec import Codec
from nodegraph.plugins.codecs import Codecs, is_scalar
from nodegraph.plugins.list_codec import ListCodec, digests_bytes, list_digest

ENCODED_BYTES: Final = 1 << 20
"""A value up to this size passes between nodes as bytes if its codec can make them: copying them is faster than mapping a file."""


class Taker:
    """Takes snapshots, in `store` if there is one.

    `version` returns what differs once a value without a codec is changed in place; None if nothing tells. `warn` receives a
    message if the folder for temporary files cannot be written.
    """

    def __init__(
        self,
        codecs: Codecs,
        store: Store | None,
        version: Callable[[Any], Any] = lambda value: None,
        warn: Callable[[str], None] = lambda message: None,
    ) -> None:
        self._codecs, self._store, self._version, self._warn = codecs, store, version, warn

    def take(self, value: Any, codec: Codec | None) -> tuple[Snapshot, str | None]:
        """A snapshot of `value`, and what went wrong while it was stored, if anything, with {} for its name."""
        if codec is None:
            return self._take_parts(value)
        if codec is self._codecs.json:
            return self._take_json(value, codec), None
        if isinstance(codec, ListCodec):
            return self._take_list(value, codec)
        state = self._codecs.known_state
        with state:  # for all calls of the codec at once
            before = state.generators()
            snapshot, message = self._take_written(value, codec)
            snapshot.drew = state.drew_since(before)
        snapshot.codecs = frozenset((self._codecs.stored_name(codec),))
        return snapshot, message

    def _take_written(self, value: Any, codec: Codec) -> tuple[Snapshot, str | None]:
        """A snapshot of a value that its codec writes; of a copy if it fails to."""
        try:
            if hasattr(codec, "encode") and hasattr(codec, "decode") and codec.size(value) <= ENCODED_BYTES:
                return self._take_encoded(value, codec)
            return self._take_file(value, codec)
        except TemporaryFolderError as error:
            self._warn(
                f"the folder for temporary files cannot be written: {error}. The run goes on with the values in memory. Free "
                f"some disk space, or set TMPDIR to another folder"
            )
            message = None
        except WriterError as error:
            message = f"codec '{codec.name}' failed to store {{}}: {type(error.__cause__).__name__}: {error.__cause__}"
        except Exception as error:
            message = f"codec '{codec.name}' failed to store {{}}: {type(error).__name__}: {error}"
        return self._copy(value, codec), message

    def _copy(self, value: Any, codec: Codec) -> Snapshot:
        """A snapshot of a value that cannot be written; the object itself if it cannot be copied either."""
        try:
            copied: Snapshot = Copied(value)
        except Exception:
            copied = Live(value, self._version)
        opened = copied.open()
        copied.digest, copied.size = self._codecs.digest(codec, opened), codec.size(opened)
        return copied

    def _take_parts(self, value: Any) -> tuple[Snapshot, str | None]:
        """A snapshot of a value without a codec: of each item, if it is a list, tuple or mapping."""
        inner = Taker(self._codecs, None, self._version, self._warn)
        if type(value) in (list, tuple):
            make: Callable[[Iterable[Any]], Any] = type(value)
            taken = [inner.take(item, self._codecs.for_value(item))[0] for item in value]
            return Parts(lambda: make(part.open() for part in taken), taken, items=taken), None
        if type(value) is dict:
            items = {name: inner.take(item, self._codecs.for_value(item))[0] for name, item in value.items()}
            return Parts(lambda: {name: part.open() for name, part in items.items()}, items.values()), None
        return Live(value, self._version), None

    def _take_list(self, value: list[Any], codec: ListCodec) -> tuple[Snapshot, str | None]:
        """A snapshot of a list whose items are stored one by one, so that an item that did not change is stored once."""
        taken = [self.take(item, self._codecs.for_value(item)) for item in value]
        items, stored = [snapshot for snapshot, _ in taken], None
        data = digests_bytes(snapshot.digest or "" for snapshot in items)
        if self._store is not None and all(snapshot.stored is not None for snapshot in items):
            blob = self._store.put_bytes(data, codec.suffix)
            name = self._codecs.stored_name(codec)
            stored = StoredValue(list_digest(data), blob.name, name, blob.size) if blob is not None else None
        return Listed(items, digest=list_digest(data), stored=stored), next((message for _, message in taken if message), None)

    def _take_json(self, value: Any, codec: Codec) -> Snapshot:
        data = self._codecs.json.encode(value)
        digest = self._codecs.json.digest_of(data)
        stored = None
        if self._store is not None:
            blob = self._store.put_bytes(data, codec.suffix)
            stored = StoredValue(digest, blob.name, codec.name, blob.size) if blob is not None else None
        return Text(value if is_scalar(value) else None, data, digest, stored)

    def _take_encoded(self, value: Any, codec: Codec) -> tuple[Snapshot, str | None]:
        data = codec.encode(value)
        loaded, stored = codec.decode(data), None
        digest = self._codecs.digest(codec, loaded)
        if self._store is not None:
            blob = self._store.put_bytes(data, codec.suffix)
            stored = StoredValue(digest, blob.name, self._codecs.stored_name(codec), blob.size) if blob is not None else None
        return Encoded(codec, data, loaded, digest=digest, stored=stored), _lost(value, loaded)

    def _take_file(self, value: Any, codec: Codec) -> tuple[Snapshot, str | None]:
        blob = None
        if self._store is not None:
            blob = self._store.put_file(lambda path: codec.save(value, path), codec.suffix)
        if blob is None or self._store is None:
            anonymous = Anonymous(value, codec)
            loaded = anonymous.open()
            anonymous.digest, anonymous.size = self._codecs.digest(codec, loaded), codec.size(loaded)
            return anonymous, _lost(value, loaded)
        loaded = self._store.read_blob(blob.name, codec.load)
        name = self._codecs.stored_name(codec)
        stored = StoredValue(self._codecs.digest(codec, loaded), blob.name, name, blob.size)
        return Blob(codec, self._store, stored), _lost(value, loaded)


def _lost(value: Any, loaded: Any) -> str | None:
    """A message if `loaded`, which was stored and read, has not all fields of `value`; None if it has."""
    if type(value) is type(loaded):
        return None
    lost = sorted(getattr(value, "__dict__", {}).keys() - getattr(loaded, "__dict__", {}).keys())
    if not lost:
        return None
    return f"{{}} is stored as {type(loaded).__name__}, without {', '.join(lost)} of {type(value).__name__}"
