"""Records as they are on disk: one for each stored result, each list of exported files, and each static key."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import field, fields
from pathlib import Path
from typing import Any, Final, NamedTuple

from nodegraph.cache.store.layout import BLOB, KEY
from nodegraph.errors import NodegraphError
from nodegraph.files import parse_json
from nodegraph.light_dataclass import dataclass

FORMAT: Final = 1

_CODEC: Final = r"(?s:.+) [0-9a-f]{16}"  # its name, and a digest of its code

_NO_IMPORTS: Final[Mapping[str, str]] = {}


class StaleRecordError(NodegraphError):
    """A record in another format: another version of nodegraph wrote it."""


class LostResultError(NodegraphError):
    """A stored result is gone, or its content has changed."""


class StoredBlob(NamedTuple):
    """A blob on disk: its name and its bytes."""

    name: str
    size: int


@dataclass(frozen=True)
class StoredValue:
    """A value on disk: its digest, the blob that holds it, the name of the codec that reads it, and the bytes of the blob."""

    digest: str
    blob: str
    codec: str
    size: int


class Computation(NamedTuple):
    """What computed a result: node type, workflow, node, kind of machine, how long it took, and the notices that it gave.

    On another kind of `machine`, the same computation may round in another way. `imports` holds the SHA-256 of modules, by path,
    that were imported while nodes ran and that no key covers, and codecs: the result is found only as long as they stay the same.
    """

    type: str
    workflow: str
    node: str
    seconds: float
    notices: tuple[str, ...] = ()
    machine: str = ""
    imports: Mapping[str, str] = _NO_IMPORTS


class Alias(NamedTuple):
    """What a static key stands for: a content key, as long as what it `depends` on stays the same.

    These are modules and codecs that the nodes above used (see `dependencies.py`).
    """

    content: str
    depends: Mapping[str, str] = _NO_IMPORTS


@dataclass(frozen=True, kw_only=True)
class Record:
    """A stored result: its key, its values by output port, and what computed it. `created` is in seconds since 1970."""

    key: str
    type: str
    workflow: str
    node: str
    created: float
    seconds: float
    outputs: Mapping[str, StoredValue]
    notices: tuple[str, ...] = ()
    machine: str = ""
    imports: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def computation(self) -> Computation:
        return Computation(
            type=self.type,
            workflow=self.workflow,
            node=self.node,
            seconds=self.seconds,
            notices=self.notices,
            machine=self.machine,
            imports=self.imports,
        )

    def blobs(self) -> dict[str, int]:
        """The bytes of each blob that the record refers to."""
        return {value.blob: value.size for value in self.outputs.values()}


ReadRecord = Callable[[str], Record | None]
"""Returns the record of a key, or None if it does not exist or cannot be read."""


_FIELDS: Final = frozenset(field.name for field in fields(Record))


@dataclass(frozen=True)
class StoreInfo:
    """How much is in a cache directory: results (records), files (blobs), and the bytes of these files."""

    directory: Path
    records: int
    blobs: int
    bytes: int


def record_bytes(record: Record) -> bytes:
    """The content of the file for a record."""
    fields = dict(vars(record))
    del fields["imports"]
    data = _json(fields)
    if not record.imports:
        return data  # so that earlier versions can read it
    return data[:-1] + b',"imports":' + _imports_json(record.imports) + b"}"


def alias_bytes(alias: Alias) -> bytes:
    """The content of the file for an alias: its content key, and on a second line what it depends on."""
    return alias.content.encode("ascii") + (b"\n" + _imports_json(alias.depends) if alias.depends else b"")


def read_alias(data: bytes) -> Alias | None:
    """The alias from the content of its file; None if `data` is not an alias."""
    first, line_end, second = data.partition(b"\n")
    content = first.decode("ascii", errors="replace")
    if not KEY.fullmatch(content):
        return None
    if not line_end:
        return Alias(content)
    try:
        depends = parse_json(second)
    except ValueError:
        return None
    if not isinstance(depends, dict) or not all(isinstance(digest, str) for digest in depends.values()):
        return None
    return Alias(content, depends)


def export_bytes(blobs: list[str]) -> bytes:
    """The content of the file that lists the exported files of a value."""
    return _json({"format": FORMAT, "blobs": blobs})


def read_export(data: bytes) -> list[str] | None:
    """The blobs that a list of exported files names; None if `data` is not such a list."""
    try:
        blobs = parse_json(data)["blobs"]
    except (KeyError, TypeError, ValueError):
        return None
    return blobs if isinstance(blobs, list) and all(isinstance(blob, str) and BLOB.fullmatch(blob) for blob in blobs) else None


def read_record(data: bytes, key: str) -> Record:
    """The record of `key` from the content of its file.

    Raises StaleRecordError for a record of another version that this one does not read; ValueError, TypeError, KeyError or
    AttributeError if `data` is not the record of `key`.
    """
    document: Mapping[str, Any] = parse_json(data)
    if document["key"] != key:
        raise ValueError("a record of another key")
    if document["format"] != FORMAT:
        raise StaleRecordError(f"a record in format {document['format']}")
    if unknown := document.keys() - _FIELDS:
        raise StaleRecordError(f"a record with {', '.join(sorted(unknown))}, of a later version")
    outputs = {port: StoredValue(**value) for port, value in document["outputs"].items()}
    if not all(value.codec == "json" or re.fullmatch(_CODEC, value.codec) for value in outputs.values()):
        raise StaleRecordError("a record without the code of its codec, as earlier versions wrote it")
    if not all(KEY.fullmatch(value.digest) and BLOB.fullmatch(value.blob) and value.size >= 0 for value in outputs.values()):
        raise ValueError("an invalid digest, blob or size")
    record = Record(**{**document, "outputs": outputs, "notices": tuple(document["notices"])})
    if not all(isinstance(text, str) for text in (record.type, record.workflow, record.node, record.machine, *record.notices)):
        raise TypeError("expected text")
    if not all(isinstance(text, str) for pair in record.imports.items() for text in pair):
        raise TypeError("expected paths and digests")
    if not math.isfinite(record.created + record.seconds):
        raise ValueError("an invalid time")
    return record


_write: Final = json.JSONEncoder(default=vars, separators=(",", ":")).encode  # `json.dumps` would make an encoder each time


_written: tuple[Mapping[str, str], bytes] = ({}, b"{}")  # the last of these mappings, and its text


def _imports_json(imports: Mapping[str, str]) -> bytes:
    """What a result depends on, as JSON. It may be hundreds of modules, and is mostly the same object for all nodes of a run."""
    global _written
    known = _written
    if known[0] is not imports:
        known = _written = imports, _json(imports)
    return known[1]


def _json(document: Mapping[str, Any]) -> bytes:
    return _write(document).encode("ascii")
