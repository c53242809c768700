"""`nodegraph import`: a graph of another program as a workflow file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from nodegraph.cli.exchange.written import output_option, overwrite_file_option, print_notes, refuse_to_replace, write_text
from nodegraph.cli.failures import verbose_option, warn_of_broken
from nodegraph.cli.help import WRONG_WORKFLOW, epilog
from nodegraph.cli.options import json_option, plugin_dir_option
from nodegraph.cli.plugin_options import plugins_of
from nodegraph.errors import Problem, WorkflowError
from nodegraph.terminal import echo, echo_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nodegraph.workflow.exchange import Imported

_PART: Final = 1  # exit status


@click.command(
    name="import",
    epilog=epilog(
        "nodegraph import graph.json -o workflow.yaml",
        "nodegraph import graph.json",
        "nodegraph import graph.json --partial -o workflow.yaml",
        status=("0 every node was imported", "1 a part was imported, or the file could not be written", WRONG_WORKFLOW),
    ),
)
@click.argument("file", type=click.Path(path_type=Path), metavar="GRAPH")
@output_option("FILE.yaml")
@click.option("--partial", is_flag=True, help="Import the nodes that can be imported, and list the others.")
@overwrite_file_option
@plugin_dir_option
@json_option
@verbose_option("Show a traceback if nodegraph itself fails.")
@click.pass_context
def import_graph(
    ctx: click.Context,
    file: Path,
    output: Path | None,
    partial: bool,
    overwrite: bool,
    plugin_dirs: Sequence[Path],
    as_json: bool,
    verbose: bool,
) -> None:
    """Write the graph of another program as a workflow.

    GRAPH is a file of that program, or an output of it with its graph inside; 'nodegraph importers' lists the programs. A file that
    a graph names and that is missing is a note here, and an error when the workflow runs. 'nodegraph run' and 'nodegraph check'
    take such graphs directly, too.
    """
    from nodegraph.cli.exchange.readable import readable
    from nodegraph.graph.load import imported_from, largest_of
    from nodegraph.text import relative_path
    from nodegraph.workflow.exchange import ImportRequest
    from nodegraph.workflow.text_file import read_bytes

    plugins = plugins_of(ctx, plugin_dirs, with_code=False)
    warn_of_broken(plugins, fatal=False)
    refuse_to_replace(output, overwrite=overwrite)
    name = relative_path(file)
    request = ImportRequest(
        data=read_bytes(file, largest_of(file)),
        file=name,
        name=file.stem,
        folder=file.resolve().parent,
        base=Path.cwd() if output is None else output.absolute().parent,
        partial=partial,
    )
    imported = imported_from(request, plugins)
    if imported is None:
        hint = "A workflow of nodegraph needs no import. 'nodegraph importers' lists the programs whose graphs can be read."
        raise WorkflowError([Problem("E122", f"{name} is no graph of another program", hint=hint)])
    comments = {**imported.comments, "": _top(imported, file.name)}
    text = readable(imported.workflow, comments)
    if output is not None:
        write_text(output, text)
    if as_json:
        echo_json(json.dumps(_summary(imported, output, text)))
    else:
        echo(text.rstrip("\n") if output is None else str(output))
    print_notes(imported.notes)
    for part in imported.left_out:
        echo(f"left out: {part}", err=True)
    if imported.left_out:
        ctx.exit(_PART)


def _top(imported: Imported, file: str) -> str:
    """The comment at the top: where the workflow comes from, what is missing, and the notes of the graph."""
    parts = [f"Imported from {file}."]
    if imported.left_out:
        parts.append("\n".join(["Not imported:", *(f"- {part}" for part in imported.left_out)]))
    if imported.comments.get(""):
        parts.append(imported.comments[""])
    return "\n\n".join(parts)


def _summary(imported: Imported, output: Path | None, text: str) -> dict[str, object]:
    written = {"file": str(output)} if output is not None else {"workflow": text}
    return {**written, "notes": [*imported.notes], "left_out": [*imported.left_out]}
