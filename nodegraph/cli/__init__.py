"""The command line: one file for each command or group of commands. Heavy modules are imported inside the functions."""

from __future__ import annotations

import click

from nodegraph.cli.group import Commands
from nodegraph.cli.help import epilog
from nodegraph.cli.plugins.nodes import nodes
from nodegraph.cli.plugins.plugins import plugins
from nodegraph.cli.plugins.schema import schema
from nodegraph.cli.storage.cache import cache
from nodegraph.cli.storage.runs import runs
from nodegraph.cli.workflows.check import check
from nodegraph.cli.workflows.explain import explain
from nodegraph.cli.workflows.run import run
from nodegraph.cli.workflows.show import show

__all__ = ["main"]

_STATUS = (
    "0 done",
    "1 a node failed, an output could not be written, or `cache verify` found damage",
    "2 the workflow, a plugin or the command line is wrong",
    "130 interrupted",
)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=epilog("nodegraph run workflow.yaml --set seed=7", "nodegraph run --help", status=_STATUS),
)
@click.version_option(package_name="nodegraph")
def main() -> None:
    """Run node graphs, and compute only what changed since the last run.

    Paths and data go to stdout; progress, notes and errors go to stderr.
    """


for _command in (run, check, explain, show, nodes, plugins, schema, cache, runs):
    main.add_command(_command)
