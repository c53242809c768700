"""`nodegraph verify`: run a workflow again and compare it with its lock file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nodegraph.cli.help import WRONG_WORKFLOW, epilog
from nodegraph.cli.options import file_argument
from nodegraph.cli.plugin_options import ExtensibleCommand
from nodegraph.cli.run_options import ON_A_MACHINE, OptionValues, run_options
from nodegraph.terminal import echo, echo_json

if TYPE_CHECKING:
    from nodegraph.engine import Engine
    from nodegraph.reproduce.lock import Verified
    from nodegraph.workflow.workflow import Workflow


@click.command(
    cls=ExtensibleCommand,
    epilog=epilog(
        "nodegraph lock workflow.yaml",
        "nodegraph verify workflow.yaml",
        "nodegraph verify workflow.yaml --json",
        status=(
            "0 the outputs are the same",
            "1 an output differs, or a node failed",
            WRONG_WORKFLOW,
        ),
    ),
)
@file_argument
@run_options((*ON_A_MACHINE, "as_json"))
@click.pass_context
def verify(ctx: click.Context, file: Path, options: OptionValues) -> None:
    """Run the workflow FILE again, and compare it with its lock file.

    Every node computes its result again, with the seeds that were drawn when FILE was locked. Prints what changed since then, by
    name, and whether the outputs are the same. What changed without a change of the outputs is no failure.
    """
    from nodegraph.cli.running import run_in_engine
    from nodegraph.graph.load import load_workflow
    from nodegraph.reproduce.lock import verify as compare_with_lock

    def work(engine: Engine, workflow: Workflow) -> None:
        verified = compare_with_lock(workflow, engine=engine)
        if options.as_json:
            found = {"changes": [asdict(c) for c in verified.changes], "outputs": [asdict(c) for c in verified.outputs]}
            echo_json(json.dumps({"same": bool(verified), **found}))
        else:
            _print(verified)
        if not verified:
            ctx.exit(1)

    plugins = options.plugins(ctx)
    run_in_engine(
        lambda: load_workflow(file, plugins),
        work,
        plugins,
        options.display,
        engine_options=options.engine_options,
    )


def _print(verified: Verified) -> None:
    for change in (*verified.changes, *verified.outputs):
        echo(str(change))
    if verified:
        echo("the outputs are the same" if verified.changes else "nothing changed, and the outputs are the same")
    else:
        echo(f"the outputs differ: {', '.join(change.name for change in verified.outputs)}")
