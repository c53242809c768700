"""What must run: walked back from the wanted outputs, a result in the cache pruning everything above it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from nodegraph.cache import Cache
from nodegraph.errors import Problem, WorkflowError
from nodegraph.graph import Graph
from nodegraph.keys import Keys
from nodegraph.registry import did_you_mean

Action = Literal["run", "cached", "pruned"]


@dataclass(frozen=True)
class Plan:
    """For each node whether it runs, is taken from the cache, or is not needed.

    `uncached` gives the reason for each node whose result is never kept, `needed` the ports whose values somebody wants, and
    `notices` what a cached result had to say when it was made.
    """

    graph: Graph
    keys: Mapping[str, str]
    actions: Mapping[str, Action]
    uncached: Mapping[str, str] = field(default_factory=dict)
    needed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    notices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def names(self, action: Action) -> list[str]:
        """The nodes with this action, in topological order."""
        return [name for name, planned in self.actions.items() if planned == action]


def make_plan(graph: Graph, keys: Keys, cache: Cache, force: Collection[str] = ()) -> Plan:
    """The plan of a run.

    A node in `force`, and every node below it, runs whatever the cache holds, if an output needs it. Raises WorkflowError if one
    is no node.
    """
    forced = _forced(graph, force)
    needed: dict[str, set[str]] = {}
    for output in graph.outputs.values():
        needed.setdefault(output.wire.node, set()).add(output.wire.port)
    actions: dict[str, Action] = {}
    notices: dict[str, tuple[str, ...]] = {}
    for name in reversed(list(graph.nodes)):
        ports = needed.get(name)
        if ports is None:
            actions[name] = "pruned"
            continue
        key = keys.of.get(name)
        found = cache.lookup(key, ports) if key is not None and name not in forced else None
        if found is not None:
            actions[name] = "cached"
            notices[name] = found.notices
            continue
        actions[name] = "run"
        for wire in graph.nodes[name].wires():
            needed.setdefault(wire.node, set()).add(wire.port)
    return Plan(
        graph,
        keys.of,
        {name: actions[name] for name in graph.nodes},
        keys.missing,
        {name: frozenset(ports) for name, ports in needed.items()},
        notices,
    )


def _forced(graph: Graph, force: Collection[str]) -> set[str]:
    """The forced nodes and everything below them."""
    problems = [
        Problem("E120", f"force '{name}': there is no such node", None, did_you_mean(name, graph.nodes))
        for name in force
        if name not in graph.nodes
    ]
    if problems:
        raise WorkflowError(problems)
    forced = set(force)
    if forced:
        for name, node in graph.nodes.items():
            if any(wire.node in forced for wire in node.wires()):
                forced.add(name)
    return forced
