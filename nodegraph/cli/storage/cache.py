"""`nodegraph cache`: list, check and remove the results on disk."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from nodegraph.cli.counter import counter
from nodegraph.cli.failures import warn
from nodegraph.cli.help import DONE, WRONG_CALL, epilog
from nodegraph.cli.options import cache_dir_option, json_option, remote_option
from nodegraph.cli.storage import shared_store
from nodegraph.cli.storage.facts import AGES, KEY_DIGITS, ago, print_facts
from nodegraph.cli.tables import aligned, print_table
from nodegraph.settings import written_size
from nodegraph.terminal import echo, echo_json, is_terminal

if TYPE_CHECKING:
    from nodegraph.cache.store.store import Store

_SORT_WORDS = {"created": "newest", "used": "last used", "uses": "most used", "size": "largest"}


def _seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """A time span such as 30d, in seconds."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", value.strip().lower())
    if match is None or match[2] not in AGES:
        message = f"expected a time such as 30d, 12h or 90min (units: {', '.join(AGES)}), found '{value}'."
        raise click.BadParameter(message, ctx=ctx, param=param)
    return float(match[1]) * AGES[match[2]]


@click.group(epilog=epilog("nodegraph cache info", "nodegraph cache gc --older-than 30d"))
def cache() -> None:
    """Look at the cache, check it, or free space."""


@cache.command(epilog=epilog("nodegraph cache ls", "nodegraph cache ls --sort size --json"))
@click.option(
    "--sort",
    type=click.Choice(list(_SORT_WORDS)),
    default="created",
    show_default=True,
    help="Put the newest results first, the last used, the most used, or the largest.",
)
@remote_option
@cache_dir_option
@json_option
def ls(sort: str, remote: str | None, cache_dir: Path | None, as_json: bool) -> None:
    """List the results in the cache.

    Each row has the key, the node that made the result, its size, its age, how often it was used, and when it was last used. Work
    from which a node continues, such as that of a run that was killed, is "unfinished". Uses of a shared store are not counted.
    """
    if remote is not None:
        shared_store.print_results(remote, cache_dir, sort=sort, as_json=as_json)
        return
    store = _store(cache_dir)
    with counter() as progress:
        found = store.upkeep.entries(progress)
    entries = sorted(found, key=lambda entry: (getattr(entry, sort), entry.key), reverse=True)
    work = store.upkeep.work()
    if as_json:
        unfinished = [{**asdict(each), "unfinished": True} for each in work]
        echo_json(json.dumps([asdict(entry) for entry in entries] + unfinished))
        return
    rows = [
        (
            entry.key[:KEY_DIGITS],
            entry.type,
            f"{entry.workflow}/{entry.node}",
            written_size(entry.size),
            ago(entry.created),
            f"{entry.uses} uses" if entry.uses != 1 else "1 use",
            ago(entry.used) if entry.uses else "never",
        )
        for entry in entries
    ]
    rows += [
        (
            each.key[:KEY_DIGITS],
            each.type,
            f"{each.workflow}/{each.node}",
            written_size(each.size),
            "unfinished",
            "",
            ago(each.used),
        )
        for each in work
    ]
    print_table(("key", "type", "made by", "size", "made", "used", "last used"), rows)
    if stale := store.upkeep.stale():
        echo(f"not listed: {_stale(stale)}", err=True)


@cache.command(epilog=epilog("nodegraph cache info", "nodegraph cache info --json"))
@remote_option
@cache_dir_option
@json_option
def info(remote: str | None, cache_dir: Path | None, as_json: bool) -> None:
    """Show the cache folder, how much it holds, and its limit."""
    if remote is not None:
        shared_store.print_info(remote, cache_dir, as_json=as_json)
        return
    store = _store(cache_dir)
    with counter() as progress:
        found, stale = store.upkeep.info(progress), store.upkeep.stale(progress)
    facts = {"directory": str(found.directory), "results": found.records, "files": found.blobs, "bytes": found.bytes}
    if work := store.upkeep.work():
        facts["work"] = sum(each.size for each in work)
    if as_json:
        facts |= {"stale": stale} if stale else {}
    print_facts({**facts, "limit": store.limit}, as_json)
    if stale and not as_json:
        echo(f"stale      {_stale(stale)}")


@cache.command(epilog=epilog("nodegraph cache verify", status=(DONE, "1 a file is damaged or missing", WRONG_CALL)))
@remote_option
@cache_dir_option
@json_option
@click.pass_context
def verify(ctx: click.Context, remote: str | None, cache_dir: Path | None, as_json: bool) -> None:
    """Read every file in the cache and compare it with its digest.

    Damaged files are moved aside (in a shared store, removed), and the results that need them are computed again when a run needs
    them.
    """
    with counter() as progress:
        found = (
            _own_store(cache_dir).upkeep.verify(progress) if remote is None else shared_store.verify(remote, cache_dir, progress)
        )
    if as_json:
        lost = [{"key": record.key, "type": record.type, "workflow": record.workflow, "node": record.node} for record in found.lost]
        facts = {
            "files": found.blobs,
            "bytes": found.bytes,
            "wrong": found.wrong,
            "missing": found.missing,
            "lost": lost,
            "damaged": found.damaged,
            "stale": found.stale,
        }
        echo_json(json.dumps(facts))
    else:
        print_facts({"files": found.blobs, "bytes": found.bytes}, as_json)
        rows = [("wrong", blob) for blob in found.wrong] + [("missing", blob) for blob in found.missing]
        rows += [("damaged", path) for path in found.damaged]
        rows += [("lost", f"{record.key[:KEY_DIGITS]}  {record.type}  {record.workflow}/{record.node}") for record in found.lost]
        for line in aligned(rows) if rows else ["every file is as it was written"]:
            echo(line)
        if found.stale:
            echo(_stale(found.stale))
    if found.wrong or found.missing or found.damaged:
        ctx.exit(1)


@cache.command(
    epilog=epilog(
        'nodegraph cache gc --size "5 GB"',
        "nodegraph cache gc --older-than 30d",
        status=(DONE, "1 nothing could be removed", WRONG_CALL),
    )
)
@click.option(
    "--size",
    metavar="SIZE",
    show_default="the limit of the cache",
    help='Remove results until at most this much is left, such as "5 GB".',
)
@click.option(
    "--older-than", callback=_seconds, metavar="AGE", help="Remove results that were not used for this long, such as 30d or 12h."
)
@remote_option
@cache_dir_option
@json_option
@click.pass_context
def gc(
    ctx: click.Context,
    size: str | None,
    older_than: float | None,
    remote: str | None,
    cache_dir: Path | None,
    as_json: bool,
) -> None:
    """Remove unneeded files, then the least recently used results.

    Runs in other processes are not affected. Unfinished work is removed if it was not used for 30 days, or for AGE. In a shared
    store, the oldest results are removed, and nothing that was written within a day.
    """
    if remote is not None:
        shared_store.collect(remote, cache_dir, size=size, older_than=older_than, as_json=as_json)
        return
    store = _own_store(cache_dir, size)
    with counter() as progress:
        removed = store.upkeep.gc(store.limit, older_than, progress)
    if removed.stuck and not (removed.keys or removed.blobs):
        _refuse(ctx, store.directory)
    print_facts(
        {
            "results": len(removed.keys),
            "files": len(removed.blobs),
            "bytes": removed.bytes,
            "left": removed.remaining,
            **({"unfinished": removed.work} if removed.work else {}),
        },
        as_json,
        "removed:",
    )
    if store.limit is not None and removed.remaining > store.limit:
        warn(f"{written_size(removed.remaining)} remain: some files cannot be removed, or were written within the last hour")


@cache.command(epilog=epilog("nodegraph cache push --remote s3://bucket/prefix"))
@remote_option
@cache_dir_option
@json_option
def push(remote: str | None, cache_dir: Path | None, as_json: bool) -> None:
    """Copy the results that a shared store has not to it."""
    shared_store.push(remote or "", cache_dir, as_json=as_json)


@cache.command(epilog=epilog("nodegraph cache pull --remote s3://bucket/prefix"))
@remote_option
@cache_dir_option
@json_option
def pull(remote: str | None, cache_dir: Path | None, as_json: bool) -> None:
    """Copy the results of a shared store to the cache.

    The newest come first, as far as the limit of the cache allows.
    """
    shared_store.pull(remote or "", cache_dir, as_json=as_json)


@cache.command(
    epilog=epilog("nodegraph cache clear --yes", status=(DONE, "1 nothing could be removed, or you did not confirm", WRONG_CALL))
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@cache_dir_option
@json_option
@click.pass_context
def clear(ctx: click.Context, yes: bool, cache_dir: Path | None, as_json: bool) -> None:
    """Remove every result and unfinished work; run records stay.

    On a terminal, it asks first.
    """
    store = _own_store(cache_dir)
    with counter() as progress:
        before = store.upkeep.info(progress)
    if not yes and before.blobs and is_terminal(sys.stdin):
        question = f"Remove {before.records} results, {written_size(before.bytes)}, from {before.directory}?"
        if not click.confirm(question, err=True):
            echo("nothing was removed", err=True)
            ctx.exit(1)
    with counter() as progress:
        removed = store.upkeep.clear(progress)
    if before.blobs and not removed.blobs:
        _refuse(ctx, before.directory)
    facts = {"directory": str(removed.directory), "results": removed.records, "files": removed.blobs, "bytes": removed.bytes}
    print_facts(facts, as_json, "removed:")


def _refuse(ctx: click.Context, directory: Path) -> NoReturn:
    warn(f"nothing could be removed from {directory}: make it writable, or run this as the user who owns it")
    ctx.exit(1)


def _store(cache_dir: Path | None, size: str | None = None) -> Store:
    from nodegraph.cache.store.store import Store
    from nodegraph.settings import load_settings

    settings = load_settings(cache_dir, size)
    return Store(settings.cache_dir, warn=warn, limit=settings.cache_size)


def _own_store(cache_dir: Path | None, size: str | None = None) -> Store:
    """The store. Raises UsageError if the folder exists but is not a cache, so that nothing in it is changed."""
    store = _store(cache_dir, size)
    if store.directory.is_dir() and any(store.directory.iterdir()) and not store.layout.is_cache():
        raise click.UsageError(
            f"{store.directory} is not a cache of nodegraph, and nothing in it was changed. Name another folder with --cache-dir. "
            f"If an early version of nodegraph made it, run any workflow with it once, which marks it."
        )
    return store


def _stale(count: int) -> str:
    results, them = ("1 result", "it") if count == 1 else (f"{count} results", "them")
    return f"{results} of another version of nodegraph, which this one does not use; 'nodegraph cache gc' removes {them}"
