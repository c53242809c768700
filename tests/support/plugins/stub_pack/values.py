"""Value types with and without a codec, and the variables that the nodes share with the tests."""

from __future__ import annotations

import hashlib
import json
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path

CALLS: list[str] = []
"""The node types that ran, in order; `Wait` adds its text instead."""

ALIVE: weakref.WeakValueDictionary[int, Blob] = weakref.WeakValueDictionary()
"""Every blob that is still in memory."""

MODELS: weakref.WeakSet[Model] = weakref.WeakSet()
"""Every model that is still in memory."""

MOST_ALIVE: list[int] = []
"""How many blobs were in memory each time `Grow` ran."""

EDITED: list[Path] = []
"""The folder of the files that `EditWorkflow` writes."""

STARTED = threading.Event()
"""Set when `Steps` or `Endless` takes a step."""

GO = threading.Event()
"""`Wait` and `WaitForGo` return after a test sets it."""


class Blob:
    """Bytes in several items. It has a codec; each item is exported as one file."""

    def __init__(self, *items: bytes) -> None:
        self.items = items
        ALIVE[id(self)] = self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Blob) and self.items == other.items

    def __hash__(self) -> int:
        return hash(self.items)


class BlobCodec:
    """The codec of `Blob`. It counts how often it reads and exports a blob."""

    name = "blob"
    suffix = ".blob"
    extension = ".bin"
    decoded = 0
    exported = 0

    def digest(self, value: Blob) -> str:
        return hashlib.sha256(repr(value.items).encode()).hexdigest()

    def save(self, value: Blob, path: Path) -> None:
        path.write_text(json.dumps([item.hex() for item in value.items]))

    def load(self, path: Path) -> Blob:
        type(self).decoded += 1
        return Blob(*map(bytes.fromhex, json.loads(path.read_text())))

    def export(self, value: Blob) -> list[bytes]:
        type(self).exported += 1
        return list(value.items)

    def embed(self, data: bytes, metadata: Mapping[str, str]) -> bytes:
        return data + b"\n" + json.dumps(dict(metadata)).encode()

    def extract(self, data: bytes) -> tuple[bytes, Mapping[str, str]]:
        bare, _, metadata = data.partition(b"\n")
        return bare, json.loads(metadata or "{}")

    def check(self, value: Blob) -> str | None:
        return "it holds NaN" if b"nan" in value.items else None

    def size(self, value: Blob) -> int:
        return sum(map(len, value.items))


class Model:
    """A type without a codec: it stays in memory."""

    def __init__(self, weights: str = "") -> None:
        self.weights = weights
        MODELS.add(self)
