"""`nodegraph check`: every mistake of a workflow at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from nodegraph.cli.failures import verbose_option, warn_of_broken
from nodegraph.cli.options import file_argument, overrides, pickles_option, plugin_dir_option, set_option


@click.command()
@file_argument
@set_option
@pickles_option
@plugin_dir_option
@verbose_option("With an unexpected failure, show where it came from.")
def check(file: Path, settings: Sequence[tuple[str, str]], plugin_dirs: Sequence[Path], verbose: bool) -> None:
    """Report every mistake in the workflow FILE.

    Nothing is run, and no weight is read.
    """
    from nodegraph.engine import Engine
    from nodegraph.workflow.workflow import Workflow

    engine = Engine(cache_dir=None, plugin_dirs=plugin_dirs)
    warn_of_broken(engine.plugins, fatal=False)
    graph = engine.check(Workflow.load(file), overrides=overrides(settings))
    click.echo(f"{file}: {_count(len(graph.nodes), 'node')}, {_count(len(graph.outputs), 'output')}, no mistake")
    if verbose:
        for name, value in graph.params.items():
            click.echo(f"  {name} = {value}")


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
