"""Values that decide what the graph of a run consists of: which are in the cache, and what a run computes first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from nodegraph.cache.cache import Cache
from nodegraph.cache.snapshots import Snapshot
from nodegraph.cache.store.store import LostResultError
from nodegraph.errors import Problem, WorkflowError
from nodegraph.graph.expansion.undecided import known_part, next_decisions
from nodegraph.graph.graph import Awaited, Decision, Graph, Output
from nodegraph.run.plan import Plan
from nodegraph.text import described


def with_cached_decisions(graph: Graph, plan_of: Callable[[Graph], Plan], cache: Cache) -> tuple[Graph, Plan]:
    """The graph, built again as long as a value that decides it is in the cache, and the plan of what is known of it.

    What is not known stays in the graph's `undecided`. The plan also has the nodes that make the next deciding values.
    """
    while True:
        plan = plan_of(with_deciders(graph, next_decisions(graph)))
        values = {}
        for decision in next_decisions(graph):
            if decision.source.node in plan.known.hits:
                try:
                    values[decision.awaited] = decided_value(decision, cached_snapshot(decision, plan, cache))
                except LostResultError:  # the run computes it again
                    continue
        if not values:
            return graph, plan
        graph = decide(graph, values)


def decide(graph: Graph, values: Mapping[Awaited, Any]) -> Graph:
    """The graph, built again with values that decide it. Raises WorkflowError."""
    assert graph.undecided is not None  # there was something to decide
    return graph.undecided.decide(values)


def with_deciders(graph: Graph, decisions: Iterable[Decision]) -> Graph:
    """What is known of a graph. The values of `decisions` are outputs of it, too."""
    known = known_part(graph)
    outputs = {name_of(decision): Output(name=name_of(decision), link=decision.source) for decision in decisions}
    return replace(known, outputs={**known.outputs, **outputs}) if outputs else known


def only_deciders(graph: Graph, decisions: Iterable[Decision]) -> Graph:
    """What is known of a graph, with the values of `decisions` as its only outputs."""
    return with_deciders(replace(graph, outputs={}, lists={}), decisions)


def name_of(decision: Decision) -> str:
    """What the output is called that holds a deciding value. No output of a workflow has such a name."""
    return f"${decision.source.node}.{decision.source.port}"


def cached_snapshot(decision: Decision, plan: Plan, cache: Cache) -> Snapshot:
    """The value of a decision whose node is in the cache. Raises LostResultError."""
    hit, port = plan.known.hits[decision.source.node], decision.source.port
    return hit.in_memory[port] if port in hit.in_memory else cache.snapshot(hit.key, port)


def decided_value(decision: Decision, snapshot: Snapshot) -> Any:
    """The length of a list, or what is at `on`. Raises WorkflowError if it is of another type, and LostResultError."""
    if decision.awaited.is_length:
        try:
            return snapshot.length()
        except TypeError as error:
            raise WorkflowError([Problem("E119", f"{decision.user}: {error}", decision.where)]) from None
    value = snapshot.open()
    if not isinstance(value, bool | int | float | str):
        message = f"{decision.user}: expected text, a number, or true or false, found {described(value)}"
        raise WorkflowError([Problem("E119", message, decision.where)])
    return value
