"""`nodegraph lock`: write down what the results of a workflow depend on, and what they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nodegraph.cli.help import DONE, WRONG_WORKFLOW, epilog
from nodegraph.cli.options import file_argument
from nodegraph.cli.plugin_options import ExtensibleCommand
from nodegraph.cli.run_options import ON_A_MACHINE, OptionValues, run_options
from nodegraph.terminal import echo

if TYPE_CHECKING:
    from nodegraph.engine import Engine
    from nodegraph.workflow.workflow import Workflow


@click.command(
    cls=ExtensibleCommand,
    epilog=epilog(
        "nodegraph lock workflow.yaml",
        "nodegraph verify workflow.yaml",
        "nodegraph run workflow.yaml --locked",
        status=(DONE, "1 a node failed", WRONG_WORKFLOW),
    ),
)
@file_argument
@run_options(ON_A_MACHINE)
@click.pass_context
def lock(ctx: click.Context, file: Path, options: OptionValues) -> None:
    """Run the workflow FILE and write its lock file.

    FILE.yaml has the lock file FILE.lock.yaml beside it; that of an example is in the current folder. It holds the SHA-256 of every
    model and input file, the versions of plugins and libraries, the numeric class, and the digest of every output. Results in the
    cache are not computed again. If the run fails, an earlier lock file stays as it is.
    """
    from nodegraph.cli.running import run_in_engine
    from nodegraph.graph.load import load_workflow
    from nodegraph.reproduce import lock as locks
    from nodegraph.run.lock.lock_file import lock_path
    from nodegraph.text import relative_path

    def work(engine: Engine, workflow: Workflow) -> None:
        locks.lock(workflow, engine=engine)
        assert workflow.file is not None  # otherwise it cannot be locked
        echo(relative_path(lock_path(workflow.file)))

    plugins = options.plugins(ctx)
    run_in_engine(
        lambda: load_workflow(file, plugins),
        work,
        plugins,
        options.display,
        engine_options=options.engine_options,
    )
