"""Runs a task of several nodes in a process that shares no memory with the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from nodegraph.cache.cache import Cache
from nodegraph.graph.graph import ResolvedLink
from nodegraph.run.events import NodeEvent
from nodegraph.run.node.run_node import run_node
from nodegraph.run.tasks.task import NodeTask, Outcome, RunContext


class TaskHost(Protocol):
    """Receives what becomes of the nodes of a task. Each is named by its place in the task, from 0."""

    def emit(self, place: int, event: NodeEvent) -> None:
        """Receive an event of a node."""

    def is_cancelled(self, place: int) -> bool:
        """Whether a node should stop."""

    def finish(self, place: int, outcome: Outcome | BaseException) -> None:
        """Receive the outcome of a node, or an error that is not the node's. If a node fails, those after it have no outcome."""


def run_task(tasks: Sequence[NodeTask], context: RunContext, host: TaskHost) -> None:
    """Run the nodes of a task in order. Values without a codec pass between them in memory, the others through the cache.

    Ends with the first node that has no result.
    """
    values: dict[ResolvedLink, Any] = {}
    earlier: dict[str, tuple[NodeTask, Outcome]] = {}
    for place, handed_out in enumerate(tasks):
        task = handed_out.after(earlier)
        try:
            outcome = run_node(task, context, _Node(place, host, values=values, cache=context.cache))
        except BaseException as error:  # such as one that cannot be explained
            host.finish(place, error)
            return
        if outcome.error is None:
            earlier[task.node] = task, outcome
            if outcome.hit is not None:
                key = outcome.hit.key
                values |= {ResolvedLink(task.node, port): context.cache.load(key, port) for port in task.wanted}
            values |= {ResolvedLink(task.node, port): snapshot.open() for port, snapshot in outcome.values.items()}
        host.finish(place, _without_values(outcome))
        if outcome.error is not None:
            return


class _Node:
    """What a running node reaches: events and cancelling through the host, values in its task or in the cache."""

    def __init__(self, place: int, host: TaskHost, *, values: Mapping[ResolvedLink, Any], cache: Cache) -> None:
        self._place, self._host, self._values, self._cache = place, host, values, cache

    def emit(self, event: NodeEvent) -> None:
        self._host.emit(self._place, event)

    def is_cancelled(self) -> bool:
        return self._host.is_cancelled(self._place)

    def value(self, link: ResolvedLink, key: str | None) -> Any:
        if link in self._values:
            return self._values[link]
        assert key is not None  # a value without one does not leave its task
        return self._cache.load(key, link.port)


def _without_values(outcome: Outcome) -> Outcome:
    return outcome._replace(values={}, hit=None if outcome.hit is None else outcome.hit.without_values())
