"""What is in a shared store: its objects by kind, and its records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from typing import Final

from nodegraph.cache.store.maintenance.progress import Progress, no_progress, steps
from nodegraph.cache.store.records import Record, StaleRecordError, read_record
from nodegraph.cache.store.remote import names
from nodegraph.cache.store.remote.names import ObjectName
from nodegraph.cache.store.remote.objects import ObjectInfo, Objects
from nodegraph.cache.store.remote.seals import Seal
from nodegraph.light_dataclass import dataclass

REQUESTS_AT_ONCE: Final = 16
_LISTED_AT_ONCE: Final = 512


@dataclass(frozen=True, kw_only=True)
class Found:
    """An object of nodegraph in a shared store."""

    what: ObjectName
    info: ObjectInfo


@dataclass(frozen=True)
class Contents:
    """The objects of nodegraph in a shared store, by kind: "blobs", "records", "exports", "models", "claims", "leases"."""

    by_kind: dict[str, list[Found]] = field(default_factory=dict)

    def of(self, kind: str) -> Sequence[Found]:
        return self.by_kind.get(kind, ())

    def blob_bytes(self) -> int:
        """Those of values, exported files, and models."""
        return sum(found.info.size for kind in ("blobs", "models") for found in self.of(kind))


def list_contents(objects: Objects, progress: Progress = no_progress) -> Contents:
    """What is in the store. Raises ObjectsError."""
    contents = Contents()
    for info in steps(progress, "listed")(objects.list()):
        what = names.parse(info.name)
        if what is not None:
            contents.by_kind.setdefault(what.kind, []).append(Found(what=what, info=info))
    return contents


def read_all(objects: Objects, wanted: Sequence[Found], progress: Progress = no_progress) -> Iterator[tuple[Found, bytes | None]]:
    """These objects with their content, None for one that is gone. Several are read at once. Raises ObjectsError."""

    def read(found: Found) -> bytes | None:
        content = objects.get(found.info.name)
        return None if content is None else content[0]

    step = steps(progress, "read", len(wanted))
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as threads:
        for start in range(0, len(wanted), _LISTED_AT_ONCE):  # so that Ctrl-C waits for few
            some = wanted[start : start + _LISTED_AT_ONCE]
            yield from step(zip(some, threads.map(read, some), strict=True))


def parsed_record(found: Found, content: bytes, seal: Seal) -> Record | None:
    """The record in an object; None if it is damaged, or has no seal of this key. Raises StaleRecordError."""
    body = seal.open(found.info.name, content)
    try:
        return None if body is None else read_record(body, found.what.name)
    except StaleRecordError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
