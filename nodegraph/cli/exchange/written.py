"""How commands write what they made: to a file, or to standard output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nodegraph.cli.options import Option
from nodegraph.errors import OutputError
from nodegraph.terminal import echo


def output_option(metavar: str) -> Option:
    """The option -o, which names the file to write."""
    help = "Write to this file.  [default: standard output]"
    return click.option("-o", "--output", type=click.Path(path_type=Path), metavar=metavar, help=help)


overwrite_file_option: Option = click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")


def refuse_to_replace(path: Path | None, *, overwrite: bool) -> None:
    """Raise UsageError if there is a file at `path` that must stay."""
    if path is not None and path.exists() and not overwrite:
        raise click.UsageError(f"{path} exists already and stays as it is. Give another name, or --overwrite.")


def write_text(path: Path, text: str) -> None:
    """Write a file in one step. Raises OutputError."""
    from nodegraph.files import write_whole

    try:
        write_whole(path, text.encode())
    except OSError as error:
        raise OutputError(f"[E211] cannot write {path}: {error.strerror or error}. Name another file") from error


def print_notes(notes: Any) -> None:
    """Print notes on stderr."""
    for note in notes:
        echo(f"note: {note}", err=True)
