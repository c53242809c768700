"""What is not known of a graph before a run, because values that nodes make decide it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from nodegraph.graph.graph import Awaited, Decision, Graph, Undecided
from nodegraph.workflow.workflow import Workflow

_Waits = Mapping[str, tuple[Awaited, ...]]


def undecided_part(
    graph: Graph,
    *,
    decisions: Mapping[Awaited, Decision],
    waits: _Waits,
    outputs: _Waits,
    decide: Callable[[Mapping[Awaited, Any]], Graph],
) -> Undecided:
    """The nodes and outputs of a graph that depend on `decisions`. `waits` and `outputs` are those that do so directly.

    What is above a node that waits itself is not needed yet: another value may lead to other nodes.
    """
    nodes: dict[str, tuple[Awaited, ...]] = {}
    for name, node in graph.nodes.items():
        found = waits.get(name) or tuple(dict.fromkeys(link for source in node.sources for link in nodes.get(source, ())))
        if found:
            nodes[name] = found
    waiting = {**outputs}
    for output in graph.outputs.values():
        if output.link.node in nodes and output.name not in outputs:
            waiting[output.name] = (*dict.fromkeys((*waiting.get(output.name, ()), *nodes[output.link.node])),)
    return Undecided(decisions=decisions, nodes=nodes, outputs=waiting, decide=decide)


def known_part(graph: Graph) -> Graph:
    """The nodes and outputs of a graph that are known."""
    undecided = graph.undecided
    if undecided is None:
        return graph
    return replace(
        graph,
        nodes={name: node for name, node in graph.nodes.items() if name not in undecided.nodes},
        outputs={full: output for full, output in graph.outputs.items() if output.name not in undecided.outputs},
        lists={name: links for name, links in graph.lists.items() if name not in undecided.outputs},
    )


def next_decisions(graph: Graph, failed: Collection[Awaited] = ()) -> list[Decision]:
    """The decisions that outputs of the graph need and that can be made now, since the nodes that make their values are known."""
    undecided = graph.undecided
    if undecided is None:
        return []
    needed = dict.fromkeys(link for links in undecided.outputs.values() for link in links if link not in failed)
    found = [undecided.decisions[link] for link in needed]
    return [decision for decision in found if decision.source.node not in undecided.nodes]


def as_it_is(workflow: Workflow) -> Workflow:
    """A copy of a workflow that stays as it is if `workflow` is changed. Objects of other types than lists are shared."""
    copied = workflow.with_({})
    copied.nodes = {name: replace(node, name=name, inputs=_copied(dict(node.inputs))) for name, node in workflow.nodes.items()}
    return copied


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value
