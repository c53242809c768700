"""Checking a shared store, and removing what is old from it."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from nodegraph.cache.store.maintenance.collect import GcResult
from nodegraph.cache.store.maintenance.progress import Progress, no_progress, steps
from nodegraph.cache.store.maintenance.verify import VerifyResult
from nodegraph.cache.store.records import Record, StaleRecordError, read_export
from nodegraph.cache.store.remote import names
from nodegraph.cache.store.remote.contents import REQUESTS_AT_ONCE, Found, list_contents, parsed_record, read_all
from nodegraph.cache.store.remote.objects import Objects
from nodegraph.cache.store.remote.seals import Seal, body_of
from nodegraph.errors import CacheError

SPARED_SECONDS: Final = 86400
"""Nothing that was written within a day is removed: another machine may be about to use it, or to write what refers to it."""

_NAME: Final = re.compile(rb"[0-9a-f]{64}(?:\.[A-Za-z0-9]+)*")


def verify_contents(objects: Objects, seal: Seal, *, read_only: bool, progress: Progress = no_progress) -> VerifyResult:
    """Read every object and compare it with its digest or seal. Raises ObjectsError.

    Unless the store is read-only, damaged objects are removed, and records and exports that need one of them or a missing one.
    Records with the seals of other keys are left out.
    """
    contents = list_contents(objects, progress)
    blobs = [*contents.of("blobs"), *contents.of("models")]
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as threads:
        digests = threads.map(lambda found: objects.digest(found.info.name), blobs)
        damaged_blobs = [
            found
            for found, digest in steps(progress, "checked", len(blobs))(zip(blobs, digests, strict=True))
            if digest is not None and not found.what.name.startswith(digest)
        ]
    wrong = [found.what.name for found in damaged_blobs]
    sound = {found.what.name for found in blobs} - set(wrong)
    missing, lost, removed, damaged, stale = set[str](), list[Record](), list[str](), list[str](), 0
    for found, content in read_all(objects, _own(contents.of("records"), seal), progress):
        if content is None:
            continue
        try:
            record = parsed_record(found, content, seal)
        except StaleRecordError:
            stale += 1
            continue
        if record is None:
            damaged.append(found.info.name)
        elif gone := record.blobs().keys() - sound:
            missing |= gone
            lost.append(record)
            removed.append(found.info.name)
    for found, content in read_all(objects, _own(contents.of("exports"), seal), progress):
        body = None if content is None else seal.open(found.info.name, content)
        needed = None if body is None else read_export(body)
        if content is not None and needed is None:
            damaged.append(found.info.name)
        elif needed is not None and not sound.issuperset(needed):
            removed.append(found.info.name)
    if not read_only:
        objects.delete([*removed, *damaged, *(found.info.name for found in damaged_blobs)])
    return VerifyResult(
        blobs=len(blobs),
        bytes=contents.blob_bytes(),
        wrong=tuple(sorted(wrong)),
        missing=tuple(sorted(missing - set(wrong))),
        lost=tuple(lost),
        damaged=tuple(sorted(damaged)),
        stale=stale,
    )


def collect_contents(
    objects: Objects, *, limit: int | None = None, older_than: float | None = None, progress: Progress = no_progress
) -> GcResult:
    """Remove blobs that no record needs, then the oldest results: until `limit` bytes remain, and those older than `older_than`.

    Results of all signing keys count. Models that were sent to workers go only if they are older than `older_than`. What was
    written within a day stays. Raises ObjectsError; CacheError if it is no store of nodegraph.
    """
    contents, now = list_contents(objects, progress), time.time()
    if contents.by_kind and objects.get(names.MARK) is None:
        raise CacheError(
            f"{objects.url} has no object '{names.MARK}', with which nodegraph marks its stores, so nothing was removed. Check "
            f"the address"
        )
    records = sorted(contents.of("records"), key=lambda found: found.info.modified)
    needs = {found: _names_in(content) for found, content in read_all(objects, records, progress) if content is not None}
    export_needs = {found: _names_in(content) for found, content in read_all(objects, contents.of("exports"), progress) if content}
    exports_of: dict[str, list[Found]] = {}
    for export in export_needs:
        exports_of.setdefault(export.what.name[:64], []).append(export)
    references = Counter(name for needed in needs.values() for name in needed)
    for digest in [name for name in references if name in exports_of]:
        references.update(name for export in exports_of[digest] for name in export_needs[export])
    sizes = {found.what.name: found.info.size for found in contents.of("blobs")}
    total = sum(size for name, size in sizes.items() if references[name])

    def is_old(found: Found) -> bool:
        return now - found.info.modified > SPARED_SECONDS

    dropped: list[Found] = []
    for record, needed in needs.items():
        is_wanted = (limit is None or total <= limit) and (older_than is None or now - record.info.modified <= older_than)
        if is_wanted or not is_old(record):
            continue
        dropped.append(record)
        released = list(needed)
        while released:
            name = released.pop()
            references[name] -= 1
            if not references[name]:
                total -= sizes.get(name, 0)
                for export in exports_of.get(name, ()):
                    released += export_needs[export]
    exports = [export for export in export_needs if not references[export.what.name[:64]] and is_old(export)]
    blobs = [found for found in contents.of("blobs") if not references[found.what.name] and is_old(found)]
    leftovers = [found for kind in ("claims", "leases") for found in contents.of(kind) if is_old(found)]
    models = [found for found in contents.of("models") if older_than is not None and now - found.info.modified > older_than]
    blobs += filter(is_old, models)
    in_order = [*dropped, *exports, *blobs, *leftovers]
    for found in steps(progress, "removed", len(in_order))(in_order):
        objects.delete([found.info.name])
    freed = sum(found.info.size for found in blobs)
    return GcResult(
        keys=tuple(found.what.name for found in dropped),
        blobs=tuple(found.what.name for found in blobs),
        bytes=freed,
        remaining=contents.blob_bytes() - freed,
    )


def _own(found: Sequence[Found], seal: Seal) -> list[Found]:
    return [each for each in found if each.what.space == seal.space]


def _names_in(content: bytes) -> set[str]:
    """The blobs and digests that a record or an export names, whichever version wrote it, and with whichever key."""
    return {name.decode("ascii") for name in _NAME.findall(body_of(content))}
