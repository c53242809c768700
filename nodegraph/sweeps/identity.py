"""What a point of a sweep is: its values as the graph has them, and a digest that differs if anything about the point does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from nodegraph.graph.graph import Graph, Value
from nodegraph.graph.overrides import Override
from nodegraph.plugins.codecs import is_json


def typed_values(values: Mapping[str, Any], graph: Graph) -> dict[str, Any]:
    """The values of the axes as the graph has them: the number 1 instead of the text "1"."""
    found = {name: graph.params[name] if name in graph.params else _input(graph, name) for name in values}
    return {name: value if found[name] is None or not is_json(found[name]) else found[name] for name, value in values.items()}


def identity_of(
    document: str,
    shared: Iterable[Override],
    values: Mapping[str, Any],
    *,
    graph: Graph,
    static: Mapping[str, str],
    metadata: bool,
) -> str:
    """The digest of a point: of its workflow, the values that all points share, its own, and what its results are made of.

    `static` are the static keys of its nodes. `metadata`: its files say how they were made.
    """
    inputs = [[override.name, _plain(override.value)] for override in shared]
    keys = {name: static.get(output.link.node) for name, output in graph.outputs.items()}
    parts = [document, inputs, {name: _plain(value) for name, value in values.items()}, keys]
    parts += [] if metadata else ["without metadata"]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _input(graph: Graph, name: str) -> Any:
    """The value of "node.input" if it is a literal; None otherwise."""
    node, _, input = name.partition(".")
    found = graph.nodes[node].inputs.get(input) if node in graph.nodes else None
    if not isinstance(found, Value):
        return None
    return found.value if found.entry is None else found.entry.name


def _plain(value: Any) -> Any:
    return value if is_json(value) else str(value)
