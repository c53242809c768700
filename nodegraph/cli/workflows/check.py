"""`nodegraph check`: every mistake in a workflow, without running it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nodegraph.cli.failures import verbose_option, warn_of_broken
from nodegraph.cli.help import WRONG_WORKFLOW, epilog
from nodegraph.cli.options import file_argument, json_option, overrides, plugin_dir_option, set_option
from nodegraph.cli.plugin_options import ExtensibleCommand, plugins_of
from nodegraph.cli.workflows.notes import print_not_fetched
from nodegraph.errors import WorkflowError
from nodegraph.terminal import echo, echo_json

if TYPE_CHECKING:
    from nodegraph.errors import Problem
    from nodegraph.graph.graph import Graph


@click.command(
    cls=ExtensibleCommand,
    epilog=epilog(
        "nodegraph check workflow.yaml",
        "nodegraph check workflow.yaml --set seed=7 -v",
        "nodegraph check workflow.yaml --json",
        status=("0 no mistakes", WRONG_WORKFLOW),
    ),
)
@file_argument
@set_option
@plugin_dir_option
@json_option
@verbose_option("Show the values of the params, and a traceback if nodegraph itself fails.")
@click.pass_context
def check(
    ctx: click.Context,
    file: Path,
    settings: Sequence[tuple[str, str]],
    plugin_dirs: Sequence[Path],
    as_json: bool,
    verbose: bool,
) -> None:
    """Report every mistake in the workflow FILE.

    No node runs, no weights are read, and the network is not used. There is a note for each file that a run has to download first.
    """
    from nodegraph.engine import Engine
    from nodegraph.workflow.scalars import as_yaml
    from nodegraph.workflow.workflow import Workflow

    engine = Engine(cache_dir=None, plugins=plugins_of(ctx, plugin_dirs))
    warn_of_broken(engine.plugins, fatal=False)
    try:
        graph = engine.check(Workflow.load(file), overrides=overrides(settings))
    except WorkflowError as error:
        if as_json:
            echo_json(json.dumps(_summary(error.problems, None)))
        raise
    if as_json:
        echo_json(json.dumps(_summary((), graph)))
        return
    print_not_fetched(graph)
    echo(f"{file}: {_count(len(graph.nodes), 'node')}, {_count(len(graph.outputs), 'output')}, no mistakes")
    if verbose:
        for name, value in graph.params.items():
            echo(f"  {name} = {as_yaml(value)}")


def _summary(problems: Iterable[Problem], graph: Graph | None) -> dict[str, Any]:
    """The object that `--json` prints."""
    return {
        "problems": [asdict(problem) for problem in problems],
        "not_fetched": [asdict(missing) for missing in graph.not_fetched] if graph is not None else [],
    }


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
