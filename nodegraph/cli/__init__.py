"""The command line: a file for each command or group of commands. What is heavy is imported inside the functions."""

from __future__ import annotations

import click

from nodegraph.cli.group import Commands
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


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="nodegraph")
def main() -> None:
    """Run node graphs: only what changed since the last time is computed again.

    Exit status: 0 done, 1 a node failed or an output could not be written, 2 the workflow or the call is wrong,
    130 interrupted.
    """


for _command in (run, check, explain, show, nodes, plugins, schema, cache, runs):
    main.add_command(_command)
