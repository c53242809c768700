"""`nodegraph diff`: what differs between two workflows, runs or outputs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from nodegraph.cli.failures import verbose_option, warn_of_broken
from nodegraph.cli.help import epilog
from nodegraph.cli.options import cache_dir_option, json_option, plugin_dir_option
from nodegraph.cli.plugin_options import ExtensibleCommand, plugins_of
from nodegraph.errors import NodegraphError
from nodegraph.terminal import echo, echo_json

_OTHERS = ("same", "amplified")


@click.command(
    cls=ExtensibleCommand,
    with_code=False,
    epilog=epilog(
        "nodegraph diff workflow.yaml workflow.yaml",
        "nodegraph diff last last --json",
        status=("0 nothing differs", "1 something differs", "2 one of them cannot be read or compared"),
    ),
)
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option(
    "-o",
    "--output",
    "path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write both outputs and their difference, amplified, beside each other to this file.",
)
@cache_dir_option
@plugin_dir_option
@json_option
@verbose_option("Show a traceback if nodegraph itself fails.")
@click.pass_context
def diff(
    ctx: click.Context,
    a: str,
    b: str,
    path: Path | None,
    cache_dir: Path | None,
    plugin_dirs: Sequence[Path],
    as_json: bool,
    verbose: bool,
) -> None:
    """Say what differs between A and B.

    Each is a workflow, the id of a run ('last' is the latest), or an output. Compares nodes, params, files and versions by name,
    and for two outputs also how much their content differs. No node runs.
    """
    from nodegraph.engine import Engine
    from nodegraph.reproduce.diff import diff as compare

    cache: dict[str, Any] = {} if cache_dir is None else {"cache_dir": cache_dir}
    engine = Engine(plugins=plugins_of(ctx, plugin_dirs, with_code=False), **cache)
    warn_of_broken(engine.plugins, fatal=False)
    try:
        found = compare(a, b, engine=engine, path=path)
    except NodegraphError as error:
        error.exit_status = 2
        raise
    if as_json:
        changes = [asdict(change) for change in found.changes]
        echo_json(json.dumps({"same": not found, "changes": changes, "measured": found.measured}))
    else:
        for change in found.changes:
            echo(str(change))
        measured = {} if found.measured is None else {k: v for k, v in found.measured.items() if k not in _OTHERS}
        if measured:
            echo("content: " + ", ".join(f"{name} {value}" for name, value in measured.items()))
        if not found:
            echo("nothing differs")
    if found:
        ctx.exit(1)
