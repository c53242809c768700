"""Reads a workflow file for a set of plugins. One mistake in its form does not hide the mistakes in its nodes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from nodegraph.errors import Problem, WorkflowError
from nodegraph.graph.build import build_graph
from nodegraph.graph.overrides import Override
from nodegraph.node_types.fetching import without_fetching
from nodegraph.plugins.manager import Plugins
from nodegraph.text import did_you_mean, relative_path
from nodegraph.workflow.exchange import Imported, ImportRequest, import_graph
from nodegraph.workflow.output_metadata import read_metadata, recorded_workflow
from nodegraph.workflow.text_file import LARGEST, decode, read_bytes
from nodegraph.workflow.workflow import Workflow

STDIN: Final = Path("-")
_TEXT: Final = (".yaml", ".yml", ".json", "")
_LARGEST_OUTPUT: Final = 256 << 20  # bytes


def load_workflow(path: Path, plugins: Plugins, overrides: Sequence[Override] = (), bases: Sequence[Path] = ()) -> Workflow:
    """The workflow in the file `path`, or the example of this name if there is no such file.

    A graph of another program is imported.

    An output that a run wrote holds its workflow. The files that it read are also looked for in the folders `bases`.

    "-" is standard input, whose relative paths start from the current directory.

    Raises WorkflowError with every mistake in the file's form and, if there is one, every mistake in what could be read. If a
    plugin knows the file as one of another program, that is the only problem.
    """
    if path == STDIN:
        file, name, base, own = "<stdin>", "workflow", Path.cwd(), None
        data = sys.stdin.buffer.read()
    else:
        example = example_file(path, plugins)
        own = Path.cwd() / (f"{path}.yaml" if example is not None else path)  # files beside an example are not the user's
        path = example or path
        if example is None and (metadata := read_metadata(path, plugins.codecs)):
            return recorded_workflow(path, metadata, plugins, bases)
        file, name, base = relative_path(path), path.stem, path.resolve().parent
        data = read_bytes(path, largest_of(path))
    if imported := imported_from(ImportRequest(data=data, file=file, name=name, folder=base, base=base), plugins):
        imported.workflow.file, imported.workflow.notes = own, imported.notes
        return imported.workflow
    try:
        workflow, problems = Workflow.parse_parts(decode(data, file), file=file, name=name, base=base)
        workflow.file = own
        if problems:
            raise WorkflowError([*problems, *_problems(workflow, plugins, overrides)])
    except WorkflowError:
        described = plugins.manager.hook.foreign_file(data=data)
        if described:
            raise WorkflowError([Problem("E101", f"{file} is {described}")]) from None
        raise
    return workflow


def imported_from(request: ImportRequest, plugins: Plugins) -> Imported | None:
    """The workflow that an importer makes of a graph of another program; None for other files. Raises WorkflowError."""
    return import_graph(request, (entry.value for entry in plugins.registries["importers"].entries()))


def largest_of(path: Path) -> int:
    """How many bytes a file may have: an output with a graph inside is larger than a text."""
    return LARGEST if path.suffix.lower() in _TEXT else _LARGEST_OUTPUT


def example_file(path: Path, plugins: Plugins) -> Path | None:
    """The file of the example that `path` names; None if it names a file that exists, or is not a name.

    A folder is no workflow, so it hides no example.

    Raises WorkflowError with a suggestion for the misspelt name of an example.
    """
    name, examples = str(path), plugins.registries["examples"]
    if path.suffix or path.name != name or (path.exists() and not path.is_dir()):
        return None
    if name in examples:
        found: Path = examples.get(name).value
        return found
    if path.is_dir():
        return None
    similar = did_you_mean(name, examples.names())
    hint = f"{similar or 'Check the path.'} 'nodegraph examples' lists the examples.{plugins.why_broken()}"
    raise WorkflowError([Problem("E100", f"there is no workflow file or example {name}", None, hint)])


def _problems(workflow: Workflow, plugins: Plugins, overrides: Sequence[Override]) -> Sequence[Problem]:
    try:
        with without_fetching():
            build_graph(workflow, plugins, overrides)
    except WorkflowError as error:
        return error.problems
    return ()
