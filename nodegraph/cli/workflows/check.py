"""`nodegraph check`: every mistake in a workflow, without running it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from nodegraph.cli.failures import verbose_option, warn_of_broken
from nodegraph.cli.help import WRONG_WORKFLOW, epilog
from nodegraph.cli.options import file_argument, overrides, plugin_dir_option, set_option
from nodegraph.cli.plugin_options import ExtensibleCommand, plugins_of


@click.command(
    cls=ExtensibleCommand,
    epilog=epilog(
        "nodegraph check workflow.yaml",
        "nodegraph check workflow.yaml --set seed=7 -v",
        status=("0 no mistakes", WRONG_WORKFLOW),
    ),
)
@file_argument
@set_option
@plugin_dir_option
@verbose_option("Show the values of the params, and a traceback if nodegraph itself fails.")
@click.pass_context
def check(ctx: click.Context, file: Path, settings: Sequence[tuple[str, str]], plugin_dirs: Sequence[Path], verbose: bool) -> None:
    """Report every mistake in the workflow FILE.

    No node runs, and no weights are read.
    """
    from nodegraph.engine import Engine
    from nodegraph.workflow.scalars import as_yaml
    from nodegraph.workflow.workflow import Workflow

    engine = Engine(cache_dir=None, plugins=plugins_of(ctx, plugin_dirs))
    warn_of_broken(engine.plugins, fatal=False)
    graph = engine.check(Workflow.load(file), overrides=overrides(settings))
    click.echo(f"{file}: {_count(len(graph.nodes), 'node')}, {_count(len(graph.outputs), 'output')}, no mistakes")
    if verbose:
        for name, value in graph.params.items():
            click.echo(f"  {name} = {as_yaml(value)}")


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
