"""`nodegraph cache`: what is kept on disk, and how to be rid of it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nodegraph.cli.options import cache_dir_option, json_option
from nodegraph.cli.tables import print_table

if TYPE_CHECKING:
    from nodegraph.store import Record, Store, StoreInfo

_KEY_DIGITS = 16
_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
_AGES = ((86400, "d"), (3600, "h"), (60, "min"))


@click.group()
def cache() -> None:
    """Look at the cache, or empty it."""


@cache.command()
@cache_dir_option
@json_option
def ls(cache_dir: Path | None, as_json: bool) -> None:
    """List the results that are kept, the newest first."""
    records = sorted(_store(cache_dir).records(), key=lambda record: record.created, reverse=True)
    if as_json:
        click.echo(json.dumps([_summary(record) for record in records]))
        return
    rows = [
        (
            record.key[:_KEY_DIGITS],
            record.type,
            f"{record.workflow}/{record.node}",
            _size(_bytes(record)),
            f"{_age(time.time() - record.created)} ago",
        )
        for record in records
    ]
    print_table(("key", "type", "made by", "size", "when"), rows)


@cache.command()
@cache_dir_option
@json_option
def info(cache_dir: Path | None, as_json: bool) -> None:
    """Say where the cache lies and how much is in it."""
    _tell(_store(cache_dir).info(), as_json)


@cache.command()
@cache_dir_option
@json_option
def clear(cache_dir: Path | None, as_json: bool) -> None:
    """Remove every result; they are computed again when they are needed."""
    store = _store(cache_dir)
    if store.place.is_dir() and any(store.place.iterdir()) and not _is_cache(store.place):
        raise click.UsageError(f"{store.place} is not a cache of nodegraph, and nothing in it was removed.")
    removed = store.clear()
    if not as_json:
        click.echo("removed:")
    _tell(removed, as_json)


def _store(cache_dir: Path | None) -> Store:
    from nodegraph.store import Store, default_directory

    return Store(cache_dir or default_directory(), warn=lambda message: click.echo(message, err=True))


def _is_cache(place: Path) -> bool:
    return any((place / room).is_dir() for room in ("records", "blobs")) or (place / "numerics.json").is_file()


def _tell(info: StoreInfo, as_json: bool) -> None:
    said = {"directory": str(info.place), "results": info.records, "files": info.blobs, "bytes": info.bytes}
    if as_json:
        click.echo(json.dumps(said))
        return
    for name, value in said.items():
        click.echo(f"{name.ljust(9)}  {value}" + (f"  ({_size(info.bytes)})" if name == "bytes" else ""))


def _summary(record: Record) -> dict[str, Any]:
    return {
        "key": record.key,
        "type": record.type,
        "workflow": record.workflow,
        "node": record.node,
        "created": record.created,
        "seconds": record.seconds,
        "bytes": _bytes(record),
        "outputs": {name: stored.digest for name, stored in record.outputs.items()},
    }


def _bytes(record: Record) -> int:
    return sum(stored.size for stored in record.outputs.values())


def _size(count: int) -> str:
    return next((f"{count / unit:.1f} {name}" for unit, name in _UNITS if count >= unit), f"{count} B")


def _age(seconds: float) -> str:
    return next((f"{seconds // unit:.0f} {name}" for unit, name in _AGES if seconds >= unit), f"{max(seconds, 0):.0f} s")
