"""What results from a workflow: every value, also defaults, with its origin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from nodegraph.cli.tables import aligned, plain_json
from nodegraph.text import shortened

if TYPE_CHECKING:
    from nodegraph.graph.graph import Graph, Input


def resolved_object(graph: Graph) -> dict[str, Any]:
    """The params, and the nodes with all of their inputs, for `--json`: each value with its origin."""
    assert graph.origins is not None  # a graph that was built has them
    origins = graph.origins()
    return {
        "workflow": graph.workflow,
        "params": {name: {"value": plain_json(value), "origin": origins.of_param(name)} for name, value in graph.params.items()},
        "nodes": {
            name: {
                "use": node.spec.name,
                "origin": str(node.where) if node.where is not None else "Python",
                "inputs": {
                    port: {"value": plain_json(value_of(input)), "origin": origins.of_input(name, port)}
                    for port, input in node.inputs.items()
                },
            }
            for name, node in graph.nodes.items()
        },
    }


def resolved_text(graph: Graph) -> Iterator[str]:
    """A line for each param, node and input: its value, and where it came from."""
    from nodegraph.workflow.scalars import as_yaml

    described = resolved_object(graph)
    yield described["workflow"]
    if described["params"]:
        yield "\nparams"
        rows = [(name, shortened(as_yaml(param["value"])), param["origin"]) for name, param in described["params"].items()]
        yield from (f"  {line}" for line in aligned(rows))
    rows = []
    for name, node in described["nodes"].items():
        rows.append((name, node["use"], node["origin"]))
        rows += [(f"  {port}", shortened(_text(input["value"])), input["origin"]) for port, input in node["inputs"].items()]
    if rows:
        yield "\nnodes"
        yield from (f"  {line}" for line in aligned(rows))


def value_of(input: Input) -> Any:
    """What an input receives, as a workflow would have it."""
    from nodegraph.graph.graph import ListWithLinks, ResolvedLink

    if isinstance(input, ResolvedLink):
        return f"${input.node}.{input.port}"
    if isinstance(input, ListWithLinks):
        return [value_of(item) for item in input.items]
    if input.entry is not None:
        return input.entry.name
    return input.value if input.address is None else input.address


def _text(value: Any) -> str:
    """A value on one line; links without quotes, as a workflow has them."""
    from nodegraph.workflow.scalars import as_yaml

    return value if isinstance(value, str) and value.startswith("$") else as_yaml(value)
