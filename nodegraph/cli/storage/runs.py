"""`nodegraph runs`: the records of earlier runs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nodegraph.cli.failures import verbose_option
from nodegraph.cli.help import epilog
from nodegraph.cli.options import (
    cache_dir_option,
    cache_remote_option,
    cache_size_option,
    force_option,
    inline_option,
    json_option,
    open_option,
    overwrite_option,
    plugin_dir_option,
)
from nodegraph.cli.tables import aligned, print_table
from nodegraph.terminal import echo, echo_json

if TYPE_CHECKING:
    from nodegraph.graph.overrides import Override
    from nodegraph.workflow.workflow import Workflow


@click.group(epilog=epilog("nodegraph runs ls", "nodegraph runs show last", "nodegraph runs rerun last"))
def runs() -> None:
    """Look at the records of earlier runs, and run them again."""


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
    record = _record(run, cache_dir)
    if as_json:
        echo_json(json.dumps(record))
        return
    for line in _described(record):
        echo(line)


@runs.command(epilog=epilog("nodegraph runs rerun last", "nodegraph runs rerun last --out again"))
@click.argument("run")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Write outputs here.  [default: where that run did]")
@overwrite_option
@force_option
@cache_dir_option
@cache_size_option
@cache_remote_option
@click.option("--device", metavar="NAME", help="Compute on this device.  [default: that of the run]")
@click.option("--dtype", metavar="NAME", help="Compute in this dtype.  [default: that of the run]")
@plugin_dir_option
@inline_option
@open_option
@json_option
@click.option("-q", "--quiet", is_flag=True, help="Show no progress and no notes on stderr.")
@verbose_option("Show the keys of nodes, and a traceback of every failure.")
@click.pass_context
def rerun(
    ctx: click.Context,
    run: str,
    out: Path | None,
    overwrite: bool,
    force: Sequence[str],
    cache_dir: Path | None,
    cache_size: str | None,
    device: str | None,
    dtype: str | None,
    plugin_dirs: Sequence[Path],
    inline: str | None,
    opened: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Run again what an earlier run ran.

    The workflow is as it was then, with its overrides and the seeds that were drawn. RUN is the name of a run or the beginning of
    one; 'last' is the latest run. What is in the cache is not computed again, unless --force names it. The workflow file is not
    read, but the files that its nodes read are.
    """
    from nodegraph.cli.plugin_options import plugins_of
    from nodegraph.cli.running import Display, cache_options, run_and_print
    from nodegraph.cli.viewer import find_viewer
    from nodegraph.settings import load_inline

    viewer = find_viewer() if opened else None
    record = _record(run, cache_dir)
    numerics = record["numerics"] or {}
    workflow, overrides = _recorded_workflow(record)
    folder = out or record["out"] or Path("out")
    run_and_print(
        lambda: workflow,
        plugins_of(ctx, plugin_dirs),
        Display(quiet=quiet, verbose=verbose, as_json=as_json, inline=load_inline(inline), viewer=viewer),
        engine_options={
            "device": device or numerics.get("device", "auto"),
            "dtype": dtype or numerics.get("dtype", "auto"),
            **cache_options(cache_dir, cache_size),
        },
        run_options={
            "overrides": overrides,
            "targets": record["targets"] or None,
            "force": force,
            "out": folder,
            "overwrite": overwrite,
        },
    )


def _recorded_workflow(record: dict[str, Any]) -> tuple[Workflow, list[Override]]:
    """The workflow of a run as it ran, and its overrides with the values that they had in it."""
    from nodegraph.graph.overrides import Override
    from nodegraph.workflow.scalars import not_written
    from nodegraph.workflow.workflow import Workflow

    if "base" not in record:
        raise click.UsageError(f"Run {record['run']} was recorded by an earlier version of nodegraph. Run its workflow file again.")
    base = Path(record["base"])
    workflow = Workflow.parse(record["document"], file=f"run {record['run']}", base=base)
    values = {name: param.default for name, param in workflow.params.items()}
    values |= {f"{node.name}.{input}": value for node in workflow.nodes.values() for input, value in node.inputs.items()}
    values |= workflow.values
    for name, value in values.items():
        if kind := not_written(value):
            message = f"Run {record['run']} cannot be run again from here: '{name}' was a value of type {kind} given in Python."
            raise click.UsageError(f"{message} Run it again in Python.")
    return workflow, [Override(name, values[name], base=base) for name in record["overrides"] if name in values]


def _record(run: str, cache_dir: Path | None) -> dict[str, Any]:
    """The record of a run by its name or the beginning of it, or of the "last" run. Raises UsageError if there is not one."""
    found = [record for record in _records(cache_dir) if run == "last" or record["run"].startswith(run)]
    if not found:
        raise click.UsageError(f"There is no run '{run}'. 'nodegraph runs ls' lists them.")
    if len(found) > 1 and run != "last":
        names = ", ".join(record["run"] for record in found[:4])
        raise click.UsageError(f"'{run}' is the beginning of {len(found)} runs: {names} ...")
    return found[0]


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
        ("overrides", [(name, value if isinstance(value, str) else as_yaml(value)) for name, value in _overrides(record)]),
        ("nodes", [_node(name, node) for name, node in record["nodes"].items() if node["status"] != "pruned"]),
        ("outputs", [(name, path) for name, paths in record["outputs"].items() for path in paths]),
        ("versions", list(record["versions"].items())),
        ("numerics", list((record["numerics"] or {}).items())),
        ("machine", [("platform", record["platform"]), ("peak memory", _peak(record))]),
    ):
        if rows:
            yield f"\n{title}"
            yield from (f"  {line}" for line in aligned(rows))


def _overrides(record: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    """The overrides of a run as they were given; earlier versions did not record them."""
    overrides: dict[str, Any] = record.get("overrides", {})
    return overrides.items()


def _peak(record: dict[str, Any]) -> str:
    return "unknown" if record["peak_memory"] is None else f"{record['peak_memory'] / (1 << 20):,.0f} MiB"


def _node(name: str, node: dict[str, Any]) -> tuple[str, ...]:
    seconds = f"{node['seconds']:.2f} s" if node["status"] in ("ran", "verified", "differed", "failed") else ""
    return (name, node["type"], node["status"], seconds, (node["key"] or "")[:16])
