"""`nodegraph runs`: the records of earlier runs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import click

from nodegraph.cli.help import epilog
from nodegraph.cli.options import cache_dir_option, json_option
from nodegraph.cli.tables import aligned, print_table
from nodegraph.terminal import echo, echo_json


@click.group(epilog=epilog("nodegraph runs ls", "nodegraph runs show last"))
def runs() -> None:
    """Look at the records of earlier runs."""


@runs.command(epilog=epilog("nodegraph runs ls", "nodegraph runs ls -n 5 --json"))
@click.option("-n", "count", type=click.IntRange(min=1), default=20, show_default=True, help="List at most this many runs.")
@cache_dir_option
@json_option
def ls(count: int, cache_dir: Path | None, as_json: bool) -> None:
    """List the latest runs, the newest first."""
    records = list(islice(_records(cache_dir), count))
    if as_json:
        echo_json(json.dumps([_summary(record) for record in records]))
        return
    rows = [(r["run"], r["workflow"], r["status"], f"{r['seconds']:.2f} s", _counts(r)) for r in records]
    if rows:
        print_table(("run", "workflow", "status", "took", "nodes"), rows)


@runs.command(epilog=epilog("nodegraph runs show last", "nodegraph runs show last --json"))
@click.argument("run")
@cache_dir_option
@json_option
def show(run: str, cache_dir: Path | None, as_json: bool) -> None:
    """Show one run: params, nodes, outputs, versions.

    RUN is the name of a run or the beginning of one; 'last' is the latest run.
    """
    found = [r for r in _records(cache_dir) if run == "last" or r["run"].startswith(run)]
    if not found:
        raise click.UsageError(f"There is no run '{run}'. 'nodegraph runs ls' lists them.")
    if len(found) > 1 and run != "last":
        raise click.UsageError(f"'{run}' is the beginning of {len(found)} runs: {', '.join(r['run'] for r in found[:4])} ...")
    if as_json:
        echo_json(json.dumps(found[0]))
        return
    for line in _described(found[0]):
        echo(line)


def _records(cache_dir: Path | None) -> Iterator[dict[str, Any]]:
    from nodegraph.run.record import read_runs
    from nodegraph.settings import load_settings

    return read_runs(load_settings(cache_dir).cache_dir / "runs")


def _summary(record: dict[str, Any]) -> dict[str, Any]:
    return {key: record[key] for key in ("run", "workflow", "status", "started", "seconds", "params", "outputs")}


def _counts(record: dict[str, Any]) -> str:
    statuses = [node["status"] for node in record["nodes"].values()]
    return ", ".join(
        f"{statuses.count(s)} {s}" for s in ("ran", "verified", "differed", "cached", "failed", "skipped") if s in statuses
    )


def _described(record: dict[str, Any]) -> Iterator[str]:
    from nodegraph.workflow.scalars import as_yaml

    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record["started"]))
    yield f"{record['run']}: {record['workflow']}, {record['status']}, {began}, {record['seconds']:.2f} s"
    failures = [node["error"] for node in record["nodes"].values() if node.get("error")]
    for error in dict.fromkeys(filter(None, [record["error"], *failures])):
        yield f"error: {error}"
    for title, rows in (
        ("params", [(name, as_yaml(value)) for name, value in record["params"].items()]),
        ("nodes", [_node(name, node) for name, node in record["nodes"].items() if node["status"] != "pruned"]),
        ("outputs", [(name, path) for name, paths in record["outputs"].items() for path in paths]),
        ("versions", list(record["versions"].items())),
        ("numerics", list((record["numerics"] or {}).items())),
        ("machine", [("platform", record["platform"]), ("peak memory", _peak(record))]),
    ):
        if rows:
            yield f"\n{title}"
            yield from (f"  {line}" for line in aligned(rows))


def _peak(record: dict[str, Any]) -> str:
    return "unknown" if record["peak_memory"] is None else f"{record['peak_memory'] / (1 << 20):,.0f} MiB"


def _node(name: str, node: dict[str, Any]) -> tuple[str, ...]:
    seconds = f"{node['seconds']:.2f} s" if node["status"] in ("ran", "verified", "differed", "failed") else ""
    return (name, node["type"], node["status"], seconds, (node["key"] or "")[:16])
