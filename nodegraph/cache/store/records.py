"""What a store keeps for each result, as it is written: action records, and the lists of exported files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nodegraph.cache.store.layout import BLOB, KEY
from nodegraph.errors import NodegraphError

FORMAT: Final = 1


class LostResultError(NodegraphError):
    """A blob is gone, or its content is not what its name says."""


@dataclass(frozen=True)
class Stored:
    """A stored value: its digest, the blob that holds it, the codec that reads it, and the blob's bytes."""

    digest: str
    blob: str
    codec: str
    size: int


@dataclass(frozen=True)
class Record:
    """What is known of a node's result: its stored outputs, and what made it. `created` is in seconds since 1970.

    `machine` tells machines apart on which the same computation may round in another way.
    """

    key: str
    type: str
    workflow: str
    node: str
    created: float
    seconds: float
    outputs: Mapping[str, Stored]
    notices: tuple[str, ...] = ()
    machine: str = ""
    format: int = FORMAT

    def blobs(self) -> dict[str, int]:
        """The blobs that it refers to, with their bytes."""
        return {stored.blob: stored.size for stored in self.outputs.values()}


@dataclass(frozen=True)
class StoreInfo:
    """How much lies in a store: results (records), files (blobs), and their bytes."""

    place: Path
    records: int
    blobs: int
    bytes: int


def record_bytes(record: Record) -> bytes:
    """The file of a record."""
    return _json(vars(record))


def export_bytes(blobs: list[str]) -> bytes:
    """The file that lists what a value was exported to."""
    return _json({"format": FORMAT, "blobs": blobs})


def read_export(data: bytes) -> list[str] | None:
    """The blobs that such a file names; None for anything else."""
    try:
        blobs = json.loads(data)["blobs"]
    except (KeyError, TypeError, ValueError):
        return None
    return blobs if isinstance(blobs, list) and all(isinstance(blob, str) and BLOB.fullmatch(blob) for blob in blobs) else None


def read_record(data: bytes, key: str) -> Record:
    """The record of `key` from its file. Raises ValueError, TypeError, KeyError or AttributeError for anything else."""
    document: Mapping[str, Any] = json.loads(data)
    if document["format"] != FORMAT or document["key"] != key:
        raise ValueError("a record of another format")
    outputs = {port: Stored(**stored) for port, stored in document["outputs"].items()}
    if not all(KEY.fullmatch(stored.digest) and BLOB.fullmatch(stored.blob) and stored.size >= 0 for stored in outputs.values()):
        raise ValueError("a digest, a blob or a size that is none")
    record = Record(**{**document, "outputs": outputs, "notices": tuple(document["notices"])})
    if not all(isinstance(text, str) for text in (record.type, record.workflow, record.node, record.machine, *record.notices)):
        raise TypeError("a text that is none")
    if not math.isfinite(record.created + record.seconds):
        raise ValueError("a time that is none")
    return record


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, default=vars, separators=(",", ":")).encode("ascii")
