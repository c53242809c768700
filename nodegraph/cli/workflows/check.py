"""`nodegraph check`: every mistake in a workflow, without running it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from nodegraph.cli.failures import located, problems, verbose_option, warn, warn_of_broken
from nodegraph.cli.help import WRONG_WORKFLOW, epilog
from nodegraph.cli.options import base_option, file_argument, json_option, overrides, plugin_dir_option, preset_option, set_option
from nodegraph.cli.plugin_options import ExtensibleCommand, plugins_of
from nodegraph.cli.tables import plain_json
from nodegraph.cli.workflows.notes import print_file_notes, print_import_notes, print_not_fetched
from nodegraph.errors import WorkflowError
from nodegraph.terminal import echo, echo_json


@click.command(
    cls=ExtensibleCommand,
    with_code=False,
    epilog=epilog(
        "nodegraph check workflow.yaml",
        "nodegraph check workflow.yaml --set seed=7 -v",
        "nodegraph check workflow.yaml --json",
        status=("0 no mistakes", WRONG_WORKFLOW),
    ),
)
@file_argument
@set_option
@preset_option
@base_option
@plugin_dir_option
@json_option
@verbose_option("Show the values of the params, and a traceback if nodegraph itself fails.")
@click.pass_context
def check(
    ctx: click.Context,
    file: Path,
    settings: Sequence[tuple[str, str]],
    presets: Sequence[Path],
    bases: Sequence[Path],
    plugin_dirs: Sequence[Path],
    as_json: bool,
    verbose: bool,
) -> None:
    """Report every mistake in the workflow FILE.

    FILE may be '-' for standard input. No node runs, no weights are read, and the network is not used: there is a note for each
    file that a run has to download first, and for what is ignored in a file. Params and nodes that are not used, and similar
    oversights, are warnings.
    """
    from nodegraph.engine import Engine
    from nodegraph.graph.load import load_workflow
    from nodegraph.graph.remarks import remarks
    from nodegraph.workflow.scalars import as_yaml

    engine = Engine(cache_dir=None, plugins=plugins_of(ctx, plugin_dirs, with_code=False))
    warn_of_broken(engine.plugins, fatal=False)
    try:
        changes = overrides(settings, presets)
        workflow = load_workflow(file, engine.plugins, changes, bases)
        graph = engine.check(workflow, overrides=changes)
    except WorkflowError as error:
        if as_json:
            echo_json(json.dumps({"file": _named(file), "problems": problems(error), "warnings": []}))
        raise
    found = remarks(workflow)
    if as_json:
        summary = {"file": _named(file), "problems": [], "warnings": [located(remark.message, remark.where) for remark in found]}
        sizes = {"nodes": len(graph.nodes), "outputs": len(graph.outputs)}
        params = {name: plain_json(value) for name, value in graph.params.items()}
        not_fetched = [asdict(missing) for missing in graph.not_fetched]
        notes = [asdict(note) for note in graph.notes]
        echo_json(json.dumps({**summary, **sizes, "params": params, "not_fetched": not_fetched, "notes": notes}))
        return
    for remark in found:
        warn(str(remark))
    print_import_notes(workflow)
    print_not_fetched(graph)
    print_file_notes(graph)
    echo(f"{_named(file)}: {_count(len(graph.nodes), 'node')}, {_count(len(graph.outputs), 'output')}, no mistakes")
    if verbose:
        for name, value in graph.params.items():
            echo(f"  {name} = {as_yaml(value)}")


def _named(file: Path) -> str:
    return "<stdin>" if str(file) == "-" else str(file)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
