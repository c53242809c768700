"""The command line: one file for each command or group of commands.

The file of a command is imported when the command is called or listed, heavy modules inside its function.
"""

from __future__ import annotations

import click

from nodegraph.cli.group import Commands
from nodegraph.cli.help import epilog

__all__ = ["main"]

_COMMANDS = {
    "workflows": "run sweep watch check explain show lock verify diff examples",
    "exchange": "import_graph export_graph",
    "plugins": "nodes plugins schema",
    "storage": "cache runs",
    "projects": "init config doctor stubs",
}
"""The commands by the folder of their modules, in the order in which --help lists them."""


def _modules() -> dict[str, str]:
    """The module of each command, by the name of the command. Words that Python reserves have more in the module's name."""
    found = [(folder, module) for folder, modules in _COMMANDS.items() for module in modules.split()]
    return {module.removesuffix("_graph"): f"nodegraph.cli.{folder}.{module}" for folder, module in found}


_STATUS = (
    "0 done",
    "1 a node failed, an output could not be written, or `cache verify` found damage",
    "2 the workflow, a plugin or the command line is wrong",
    "130 interrupted",
)


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from nodegraph import terminal
        from nodegraph.plugins.distributions import engine_version

        terminal.echo(f"nodegraph, version {engine_version()}")
        ctx.exit()


@click.group(
    cls=Commands,
    modules=_modules(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=epilog("nodegraph run workflow.yaml --set seed=7", "nodegraph run --help", status=_STATUS),
)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version, help="Show the version and exit."
)
def main() -> None:
    """Run node graphs, and compute only what changed since the last run.

    Paths and data go to stdout; progress, notes and errors go to stderr. With --json, errors also go to stdout, as one object
    with a list of "problems".
    """
