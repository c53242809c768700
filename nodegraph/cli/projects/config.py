"""`nodegraph config`: the settings that hold, and where each comes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from nodegraph.cli.failures import verbose_option
from nodegraph.cli.help import epilog
from nodegraph.cli.options import json_option, nearest_file_argument
from nodegraph.cli.tables import plain_json, print_table
from nodegraph.terminal import echo, echo_json


@click.command(epilog=epilog("nodegraph config", "nodegraph config workflows/portrait.yaml", "nodegraph config --json"))
@nearest_file_argument
@json_option
@verbose_option("Show a traceback if nodegraph itself fails.")
def config(file: Path | None, as_json: bool, verbose: bool) -> None:
    """Show every setting, its value, and where it comes from.

    A setting comes from the environment, else from the project's nodegraph.toml, else from your own file, else it has its default;
    an option of a command, such as --cache-dir, comes before all of these. The project's file is the nearest one at or above the
    folder of the workflow FILE, or the current directory.
    """
    from nodegraph.settings import SETTINGS, effective, files

    found = [(setting, effective(setting.name)) for setting in SETTINGS.values()]
    user, project = files.user_file(), files.project_file()
    if as_json:
        settings = {
            setting.name: {
                "value": plain_json(value.value),
                "from": value.origin,
                "variable": setting.variable,
                "in_project": setting.in_project,
                "help": setting.help,
            }
            for setting, value in found
        }
        paths = {"project": project and str(project), "user": user and str(user)}
        echo_json(json.dumps({"settings": settings, "files": paths}))
        return
    rows = [(setting.name, _text(value.value), value.origin, setting.variable) for setting, value in found]
    print_table(("setting", "value", "from", "variable"), rows)
    echo()
    echo(f"project's file: {project or 'none'}")
    echo(f"your own file: {'none, because there is no home folder' if user is None else f'{user}{_missing(user)}'}")


def _text(value: Any) -> str:
    """A value as people write it."""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


def _missing(file: Path) -> str:
    return "" if file.exists() else " (not there)"
