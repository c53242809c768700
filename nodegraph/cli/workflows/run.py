"""`nodegraph run`: run a workflow and print where each output went."""

from __future__ import annotations

from pathlib import Path

import click

from nodegraph.cli.help import DONE, WRONG_WORKFLOW, epilog
from nodegraph.cli.options import file_argument
from nodegraph.cli.run_options import ALL, OptionValues, RunCommand, run_options


@click.command(
    cls=RunCommand,
    epilog=epilog(
        "nodegraph run workflow.yaml",
        "nodegraph run workflow.yaml --set seed=8 --out results",
        "nodegraph run workflow.yaml --no-cache --json",
        status=(
            DONE,
            "1 a node failed or an output could not be written",
            WRONG_WORKFLOW,
            "3 done, but --verify-cache found wrong results",
            "130 interrupted",
            "143 terminated",
        ),
    ),
)
@file_argument
@run_options(ALL, as_json="Print one JSON object about the run instead of paths.")
@click.pass_context
def run(ctx: click.Context, file: Path, options: OptionValues) -> None:
    """Run the workflow FILE and print the paths of its outputs.

    FILE may be '-' for standard input, or an output that a run wrote, which is then made again. A node whose inputs have not
    changed is not run again: its result comes from the cache.
    Ctrl-C, or SIGTERM, stops at the next step and keeps every finished result; a second one stops at once.
    """
    from nodegraph.cli.running import run_and_print
    from nodegraph.graph.load import load_workflow

    plugins, changes = options.plugins(ctx), options.changes
    run_and_print(
        lambda: load_workflow(file, plugins, changes, options.bases),
        plugins,
        options.display,
        engine_options=options.engine_options,
        run_options={"overrides": changes, **options.run_options},
    )
