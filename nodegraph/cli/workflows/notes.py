"""Notes about a checked workflow on stderr."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from nodegraph.terminal import echo

if TYPE_CHECKING:
    from nodegraph.graph.graph import Graph, InputNote, NotFetched
    from nodegraph.workflow.workflow import Workflow


def print_not_fetched(graph: Graph) -> None:
    """Print a note for each input whose files a run has to fetch first."""
    _print(graph.not_fetched)


def print_file_notes(graph: Graph) -> None:
    """Print what the user should know about the files that the nodes read."""
    _print(graph.notes)


def print_import_notes(workflow: Workflow) -> None:
    """Print what an importer says about a graph of another program."""
    for note in workflow.notes:
        echo(f"note: {note}", err=True)


def _print(notes: Iterable[NotFetched | InputNote]) -> None:
    for note in notes:
        echo(f"note: '{note.input}' of node '{note.node}': {note.message}", err=True)
