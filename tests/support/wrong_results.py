"""Wrong results in a cache, for tests: as if a node had computed another value under its key."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from nodegraph.cache.store.store import Record, Store, StoredValue
from nodegraph.plugins.codecs import JSONCodec


def spoil(cache: Path, node: str, value: Any, *, port: str = "output", **changes: Any) -> Record:
    """Replace the stored value of a node by other JSON; `changes` are other fields of its record. Returns the new record."""
    store, codec = Store(cache), JSONCodec()
    (record,) = [record for record in store.records() if record.node == node]
    blob = store.put_bytes(codec.encode(value), codec.suffix)
    assert blob is not None
    wrong = StoredValue(codec.digest(value), blob.name, codec.name, blob.size)
    spoilt = replace(record, outputs={**record.outputs, port: wrong}, **changes)
    store.put_record(spoilt)
    return spoilt
