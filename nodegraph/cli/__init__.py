"""The command line: one file for each command or group of commands.

The file of a command is imported when the command is called or listed, heavy modules inside its function.
"""

from __future__ import annotations

import click

from nodegraph.cli.group import Commands
from nodegraph.cli.help import epilog

__all__ = ["main"]

_COMMANDS = {
    "run": "workflows",
    "sweep": "workflows",
    "watch": "workflows",
    "check": "workflows",
    "explain": "workflows",
    "show": "workflows",
    "lock": "workflows",
    "verify": "workflows",
    "diff": "workflows",
    "examples": "workflows",
    "nodes": "plugins",
    "plugins": "plugins",
    "schema": "plugins",
    "cache": "storage",
    "runs": "storage",
    "init": "projects",
    "config": "projects",
    "doctor": "projects",
    "stubs": "projects",
}
"""The folder of each command, in the order in which --help lists them."""

_STATUS = (
    "0 done",
    "1 a node failed, an output could not be written, or `cache verify` found damage",
    "2 the workflow, a plugin or the command line is wrong",
    "130 interrupted",
)


@click.group(
    cls=Commands,
    modules={name: f"nodegraph.cli.{folder}.{name}" for name, folder in _COMMANDS.items()},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=epilog("nodegraph run workflow.yaml --set seed=7", "nodegraph run --help", status=_STATUS),
)
@click.version_option(package_name="nodegraph")
def main() -> None:
    """Run node graphs, and compute only what changed since the last run.

    Paths and data go to stdout; progress, notes and errors go to stderr. With --json, errors also go to stdout, as one object
    with a list of "problems".
    """
