"""Notes about a checked workflow on stderr."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodegraph.terminal import echo

if TYPE_CHECKING:
    from nodegraph.graph.graph import Graph


def print_not_fetched(graph: Graph) -> None:
    """Print a note for each input whose files a run has to fetch first."""
    for missing in graph.not_fetched:
        echo(f"note: '{missing.input}' of node '{missing.node}': {missing.message}", err=True)
