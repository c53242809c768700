"""`nodegraph examples`: the workflows that plugins ship."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nodegraph.cli.help import epilog
from nodegraph.cli.options import complete, json_option, plugin_dir_option
from nodegraph.cli.plugin_options import plugins_of
from nodegraph.cli.tables import print_table
from nodegraph.terminal import echo, echo_json

if TYPE_CHECKING:
    from nodegraph.plugins.manager import Plugins


@click.command(epilog=epilog("nodegraph examples", "nodegraph examples --copy my_workflows"))
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete("examples"))
@click.option(
    "--copy",
    "folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Copy the examples, and the files they read, to this folder. Nothing that exists is overwritten.",
)
@plugin_dir_option
@json_option
@click.pass_context
def examples(ctx: click.Context, names: Sequence[str], folder: Path | None, plugin_dirs: Sequence[Path], as_json: bool) -> None:
    """List the example workflows, or copy them.

    'nodegraph run NAME' runs an example as it is. NAME limits the list, or the copy, to these examples.
    """
    plugins = plugins_of(ctx, plugin_dirs)
    found = found_examples(plugins, names)
    if folder is not None:
        copies = copies_of(found, folder, plugins)
        copy_files(copies)
        if as_json:
            echo_json(json.dumps([str(path) for path in copies]))
            return
        for path in copies:
            echo(f"wrote {path}")
        return
    described = {name: _description(path) for name, path in found.items()}
    if as_json:
        echo_json(json.dumps([{"name": n, "description": described[n], "path": str(path)} for n, path in found.items()]))
    elif found:
        print_table(("example", "description"), list(described.items()))


def found_examples(plugins: Plugins, names: Sequence[str]) -> dict[str, Path]:
    """The files of the examples called `names`, or of all. Raises UsageError for a name that is unknown."""
    registry = plugins.registries["examples"]
    for name in names:
        if name not in registry:
            hint = registry.suggest(name) or "'nodegraph examples' lists them."
            raise click.UsageError(f"There is no example '{name}'. {hint}")
    return {entry.name: entry.value for entry in registry.entries() if not names or entry.name in names}


def copies_of(examples: Mapping[str, Path], folder: Path, plugins: Plugins) -> dict[Path, Path]:
    """The files of examples, and the files they read, by where their copies below `folder` are."""
    return {folder / inside: path for file in examples.values() for inside, path in _files(file, plugins)}


def _description(path: Path) -> str:
    from nodegraph.workflow.workflow import Workflow

    return Workflow.load(path).description


def _files(path: Path, plugins: Plugins) -> Iterator[tuple[Path, Path]]:
    """The file of an example, and the files that it names below its folder, each after its path in that folder."""
    from nodegraph.graph.build import build_graph
    from nodegraph.graph.graph import Value
    from nodegraph.graph.load import load_workflow
    from nodegraph.workflow.subworkflows import files_used

    yield from ((file.relative_to(path.parent), file) for file in files_used(path) if file.is_relative_to(path.parent))
    for node in build_graph(load_workflow(path, plugins), plugins).nodes.values():
        for input in node.inputs.values():
            for read in (input.files or {}).values() if isinstance(input, Value) else ():
                if read.is_relative_to(path.parent):
                    yield read.relative_to(path.parent), read


def copy_files(copies: Mapping[Path, Path]) -> None:
    """Copy files. Raises UsageError, and copies nothing, if one would replace a file with other content."""
    refuse_to_replace({copy: path.read_bytes() for copy, path in copies.items()})
    for copy, path in copies.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def refuse_to_replace(contents: Mapping[Path, bytes]) -> None:
    """Raise UsageError if one of these files exists already with other content."""
    for path, content in contents.items():
        if path.exists() and (not path.is_file() or path.read_bytes() != content):
            raise click.UsageError(f"{path} exists already and stays as it is. Name another folder.")
