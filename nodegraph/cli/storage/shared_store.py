"""`nodegraph cache` on a shared store: what `--remote` makes of its commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nodegraph.cli.counter import counter
from nodegraph.cli.failures import warn
from nodegraph.cli.storage.facts import KEY_DIGITS, ago, print_facts
from nodegraph.cli.tables import print_table
from nodegraph.errors import CacheError
from nodegraph.settings import REMOTE_VARIABLE, load_remote, load_settings, parse_size, written_size
from nodegraph.terminal import echo, echo_json

if TYPE_CHECKING:
    from nodegraph.cache.store.maintenance.progress import Progress
    from nodegraph.cache.store.maintenance.verify import VerifyResult
    from nodegraph.cache.store.records import Record
    from nodegraph.cache.store.remote.tiered_store import TieredStore
    from nodegraph.cache.store.remote.transfer import Transferred


def print_results(url: str, cache_dir: Path | None, *, sort: str, as_json: bool) -> None:
    """List the results in a shared store."""
    from nodegraph.cache.store.records import StaleRecordError
    from nodegraph.cache.store.remote.contents import list_contents, parsed_record, read_all

    remote = _store(url, cache_dir).remote
    found: list[Record] = []
    others = 0
    with counter() as progress, _reaching(remote.objects.url):
        wanted = list_contents(remote.objects, progress).of("records")
        own = [each for each in wanted if each.what.space == remote.seal.space]
        for each, content in read_all(remote.objects, own, progress):
            try:
                record = None if content is None else parsed_record(each, content, remote.seal)
            except StaleRecordError:
                record = None
            if record is None:
                others += 1
            else:
                found.append(record)
    by_size = sort == "size"
    found.sort(key=lambda record: (sum(record.blobs().values()) if by_size else record.created, record.key), reverse=True)
    if as_json:
        names = ("key", "type", "workflow", "node", "created")
        echo_json(json.dumps([{**{name: getattr(each, name) for name in names}, "size": _size(each)} for each in found]))
        return
    rows = [
        (each.key[:KEY_DIGITS], each.type, f"{each.workflow}/{each.node}", written_size(_size(each)), ago(each.created))
        for each in found
    ]
    print_table(("key", "type", "made by", "size", "made"), rows)
    others += len(wanted) - len(own)
    if others:
        echo(f"not listed: {others} that are damaged, of another version, or signed with another key or none", err=True)


def print_info(url: str, cache_dir: Path | None, *, as_json: bool) -> None:
    """Show how much is in a shared store, and how this machine may use it."""
    from nodegraph.cache.store.remote.contents import list_contents

    remote = _store(url, cache_dir).remote
    with counter() as progress, _reaching(remote.objects.url):
        contents = list_contents(remote.objects, progress)
    facts = {
        "store": remote.objects.url,
        "access": "read" if remote.read_only else "write",
        "signed": "yes" if remote.seal.is_signed else "no",
        "results": sum(found.what.space == remote.seal.space for found in contents.of("records")),
        "files": len(contents.of("blobs")),
        "bytes": contents.blob_bytes(),
    }
    print_facts(facts, as_json)


def verify(url: str, cache_dir: Path | None, progress: Progress) -> VerifyResult:
    """Check every object of a shared store."""
    from nodegraph.cache.store.remote.care import verify_contents

    remote = _store(url, cache_dir).remote
    with _reaching(remote.objects.url):
        return verify_contents(remote.objects, remote.seal, read_only=remote.read_only, progress=progress)


def collect(url: str, cache_dir: Path | None, *, size: str | None, older_than: float | None, as_json: bool) -> None:
    """Remove what nothing needs from a shared store, and the oldest results."""
    from nodegraph.cache.store.remote.care import collect_contents

    remote = _store(url, cache_dir).remote
    _require_writable(remote.read_only)
    try:
        limit = None if size is None else parse_size(size)
    except ValueError as error:
        raise click.UsageError(f"--size: {error}.") from None
    with counter() as progress, _reaching(remote.objects.url):
        removed = collect_contents(remote.objects, limit=limit, older_than=older_than, progress=progress)
    facts = {"results": len(removed.keys), "files": len(removed.blobs), "bytes": removed.bytes, "left": removed.remaining}
    print_facts(facts, as_json, "removed:")
    if limit is not None and removed.remaining > limit:
        warn(f"{written_size(removed.remaining)} remain: what was written within a day is not removed")


def push(url: str, cache_dir: Path | None, *, as_json: bool) -> None:
    """Copy the results of the cache to a shared store."""
    from nodegraph.cache.store.remote import transfer

    store = _store(url, cache_dir)
    remote = store.remote
    _require_writable(remote.read_only)
    with counter() as progress, _reaching(remote.objects.url):
        done = transfer.push(store, progress)
    _print_transferred(done, as_json)


def pull(url: str, cache_dir: Path | None, *, as_json: bool) -> None:
    """Copy the results of a shared store to the cache."""
    from nodegraph.cache.store.remote import transfer

    store = _store(url, cache_dir)
    remote = store.remote
    with counter() as progress, _reaching(remote.objects.url):
        done = transfer.pull(store, progress)
    store.flush()  # warns of what could not be read
    _print_transferred(done, as_json)
    if done.is_full:
        warn("the cache has reached its limit, so older results were left out. Allow more with NODEGRAPH_CACHE_SIZE")


def _print_transferred(done: Transferred, as_json: bool) -> None:
    print_facts({"copied": done.copied, "there": done.there}, as_json)


def _require_writable(read_only: bool) -> None:
    if read_only:
        raise click.UsageError("the shared store is only read: your settings have remote_access = 'read', so nothing was changed.")


@contextmanager
def _reaching(url: str) -> Iterator[None]:
    """Name the store in the error if it cannot be reached during the block, or refuses."""
    from nodegraph.cache.store.remote.objects import ObjectsError

    try:
        yield
    except ObjectsError as error:
        raise CacheError(
            f"the shared store {url} cannot be used: {error}. Check the address, the network and your permissions"
        ) from error


def _size(record: Record) -> int:
    return sum(record.blobs().values())


def _store(url: str, cache_dir: Path | None) -> TieredStore:
    """The cache with the shared store at `url`; "": the one that is set. Raises UsageError if there is none."""
    from nodegraph.cache.store.remote.tiered_store import TieredStore, open_remote

    remote = load_remote(url or None, "--remote")
    if remote is None:
        raise click.UsageError(f"no shared store is set. Name one: --remote s3://BUCKET/PREFIX, or set {REMOTE_VARIABLE}.")
    settings = load_settings(cache_dir)
    store = open_remote(remote, settings.cache_dir)
    return TieredStore(settings.cache_dir, warn=warn, limit=settings.cache_size, remote=store)
