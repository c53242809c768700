"""Copying all results of a cache directory to its shared store, or the other way round."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final

from nodegraph.cache.store.maintenance.exports import exports_in
from nodegraph.cache.store.maintenance.progress import Progress, no_progress, steps
from nodegraph.cache.store.remote import names
from nodegraph.cache.store.remote.contents import list_contents
from nodegraph.cache.store.remote.sending import Sender
from nodegraph.cache.store.remote.tiered_store import TieredStore
from nodegraph.cache.store.store import Store
from nodegraph.light_dataclass import dataclass

REQUESTS_AT_ONCE: Final = 8


@dataclass(frozen=True, kw_only=True)
class Transferred:
    """How many results were copied, and how many were there already. `is_full`: the limit of the directory stopped it."""

    copied: int
    there: int
    is_full: bool = False


def push(store: TieredStore, progress: Progress = no_progress) -> Transferred:
    """Copy the results of the directory that the shared store has not. Raises ObjectsError."""
    remote = store.remote
    space, sender = remote.seal.space, Sender(remote.objects, store.layout, remote.seal)
    there = {found.info.name for kind in ("records", "exports") for found in list_contents(remote.objects, progress).of(kind)}
    keys = [key for key in store.layout.records() if names.record(space, key) not in there]

    def send(key: str) -> bool:
        record = Store.record(store, key)
        return record is not None and all(Store.has(store, blob) for blob in record.blobs()) and sender.send_record(key)

    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as threads:
        copied = sum(steps(progress, "copied", len(keys))(threads.map(send, keys)))
        exports = [(export.digest, export.path.name.removesuffix(".json")[64:]) for export in exports_in(store.layout)]
        new = [export for export in exports if names.export(space, *export) not in there]
        list(steps(progress, "copied")(threads.map(lambda export: sender.send_export(*export), new)))
    return Transferred(copied=copied, there=sum(name.startswith(f"{space}records/") for name in there))


def pull(store: TieredStore, progress: Progress = no_progress) -> Transferred:
    """Copy the results of the shared store that the directory has not, the newest first, as far as its limit allows.

    Raises ObjectsError.
    """
    remote = store.remote
    contents = list_contents(remote.objects, progress)
    own = [found for found in contents.of("records") if found.what.space == remote.seal.space]
    new = [found for found in own if not store.layout.record(found.what.name).exists()]
    new.sort(key=lambda found: found.info.modified, reverse=True)
    total, copied, is_full = store.upkeep.info().bytes, 0, False
    for found in steps(progress, "copied", len(new))(new):
        record = remote.record(found.what.name)
        if record is None:
            continue
        sizes = {blob: size for blob, size in record.blobs().items() if not store.layout.blob(blob).exists()}
        if store.limit is not None and total + sum(sizes.values()) > store.limit:
            is_full = True
            break
        if not store.fetch(record.blobs()):
            if not store.layout.record(record.key).exists():
                Store.put_record(store, record)
            total, copied = total + sum(sizes.values()), copied + 1
    digests = {value.digest for record in store.records() for value in record.outputs.values()}
    for found in contents.of("exports"):
        digest, extension = found.what.name[:64], found.what.name[64:]
        if digest in digests and found.what.space == remote.seal.space and not is_full:
            store.exported(digest, extension)
    return Transferred(copied=copied, there=len(own) - len(new), is_full=is_full)
