"""Running a plan: what is wanted is asked for, node by node, and each value let go when nobody can want it any more.

A node is looked up by its content key as soon as the digests of all that it is fed are known; only where that misses are the
values themselves asked for. So what is above a hit is not run, even if the hit shows only while the run goes on.
"""

from __future__ import annotations

import enum
import functools
import heapq
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from nodegraph.cache.store.store import Stored
from nodegraph.errors import Cancelled, NodegraphError
from nodegraph.graph.graph import GraphNode, Input, Many, Output, Value, Wire
from nodegraph.run.events import NodeCached, NodeFailed, NodeFinished, Notice
from nodegraph.run.gc_pause import without_collector
from nodegraph.run.plan import Plan
from nodegraph.run.run_node import Outcome, Surroundings, Task, run_node, stopped
from nodegraph.run.workers.threads import Lanes

Delivery = Callable[[Output, Stored | None, Callable[[], Any]], None]
"""Receives an output, how its value is stored (None: it is not), and a function that gives the value."""

NodeStatus = Literal["ran", "cached", "pruned", "failed", "skipped"]


class NodeReport(NamedTuple):
    """What became of a node. "skipped": the run ended before its turn.

    `key` is the static key, or without one the content key; `content` is the key that its result is filed under, None if it is not.
    `error` says why it failed.
    """

    status: NodeStatus
    seconds: float = 0.0
    key: str | None = None
    content: str | None = None
    notices: tuple[str, ...] = ()
    error: str | None = None


class _Need(enum.IntEnum):
    """What somebody wants of a node."""

    NOTHING = 0
    DIGESTS = 1
    RESULT = 2


class Executor:
    """One pass over a plan. `deliver` is called for each output as soon as there is a value.

    `reports` is filled in as nodes are done with. `execute` raises what ended the run: NodeError, Cancelled, LostResultError if a
    cached value went away meanwhile, or what `deliver` raises. With `keep_going`, a node that fails stops only what is below it,
    and its error is raised at the end.
    """

    def __init__(
        self,
        plan: Plan,
        surroundings: Surroundings,
        deliver: Delivery,
        reports: dict[str, NodeReport],
        keep_going: bool = False,
    ) -> None:
        self.plan, self.reports, self.known = plan, reports, plan.known
        self._around, self._deliver, self._keep_going = surroundings, deliver, keep_going
        self._nodes = plan.graph.nodes
        self._order = {name: i for i, name in enumerate(self._nodes)}
        self._needs: dict[str, _Need] = {}
        self._agenda: list[tuple[int, str]] = []  # a heap: what comes first in the graph is looked at first
        self._blocked: dict[str, int] = {}
        self._waiting: dict[_Need, dict[str, list[str]]] = {_Need.DIGESTS: {}, _Need.RESULT: {}}
        self._values: dict[Wire, Any] = {}
        self._done: set[str] = set()
        self._settled: set[str] = set()
        self._started: set[str] = set()
        self._failure: NodegraphError | None = None
        self._lanes: Lanes[Task, Outcome] = Lanes(lambda task: run_node(task, surroundings))
        self._outputs: dict[str, list[Output]] = {}
        for output in plan.graph.outputs.values():
            self._outputs.setdefault(output.wire.node, []).append(output)
        self._consumers = dict.fromkeys(self._nodes, 0)
        for name in plan.names("run"):
            for source in self._nodes[name].sources:
                self._consumers[source] += 1

    def execute(self) -> None:
        try:
            with without_collector():  # for what is there already
                for name in self.plan.names("pruned"):
                    self.reports.setdefault(name, NodeReport("pruned", key=self.known.key(name)))
                for name in self._outputs:
                    self._want(name, _Need.RESULT)
                self._look_round()
            while True:
                self._look_round()
                if self._around.cancelled.is_set():
                    self._lanes.withdraw()  # what runs goes on to its next step or its end
                if not self._lanes.busy and not self._lanes.waiting:
                    break
                self._take(*self._lanes.next())  # no name for these: what a finished node was given could not go
        except KeyboardInterrupt:
            self._around.cancelled.set()  # so that what runs in other threads stops at its next step
            raise
        finally:
            self._lanes.close()
        if self._around.cancelled.is_set():
            raise stopped()
        if self._failure is not None:
            raise self._failure

    @property
    def _stopping(self) -> bool:
        return self._failure is not None and not self._keep_going

    # --- asking

    def _want(self, name: str, need: _Need) -> None:
        if self._needs.get(name, _Need.NOTHING) < need:
            self._needs[name] = need
            self._schedule(name)

    def _schedule(self, name: str) -> None:
        heapq.heappush(self._agenda, (self._order[name], name))

    def _look_round(self) -> None:
        while self._agenda:
            self._look_at(heapq.heappop(self._agenda)[1])

    def _look_at(self, name: str) -> None:
        """Take a node as far as it can go now: found, waiting for others, or ready to run."""
        if name in self._settled or name in self._started or self._blocked.get(name):
            return
        if name in self.known.hits:
            self._found(name)
            return
        node = self._nodes[name]
        dark = [s for s in node.sources if s not in self._done and not self._has_digests(node, s)]
        if dark:
            self._block(name, dark, _Need.DIGESTS)
        elif self.known.derive(name, self.plan.needed.get(name, frozenset())):
            self._found(name)
        elif self._needs[name] == _Need.DIGESTS and self._tells_enough(name):
            self._wake(_Need.DIGESTS, name)
        elif missing := [s for s in node.sources if s not in self._done]:
            self._block(name, missing, _Need.RESULT)
        elif not self._stopping:
            self._make_ready(node)

    def _has_digests(self, node: GraphNode, source: str) -> bool:
        return all(self.known.digest(wire) is not None for wire in node.wires() if wire.node == source)

    def _tells_enough(self, name: str) -> bool:
        """Whether what consumers want to know of a node follows from its key, so that it need not run for that."""
        wanted = self.plan.needed.get(name, frozenset())
        return all(self.known.digest(Wire(name, port)) is not None for port in wanted)

    def _block(self, name: str, sources: list[str], need: _Need) -> None:
        self._blocked[name] = len(sources)
        for source in sources:
            self._waiting[need].setdefault(source, []).append(name)
            self._want(source, need)

    def _wake(self, need: _Need, name: str) -> None:
        for waiter in self._waiting[need].pop(name, ()):
            self._blocked[waiter] -= 1
            if not self._blocked[waiter]:
                self._schedule(waiter)

    def _make_ready(self, node: GraphNode) -> None:
        self._started.add(node.name)
        keys = self.known.keys
        own = node.spec.pure and node.name in keys.missing and node.name not in keys.forms
        task = Task(
            node,
            {port: self._argument(given) for port, given in node.inputs.items()},
            self.known.content.get(node.name),
            self.plan.graph.workflow,
            keys.files.get(node.name, {}),
            self.plan.needed.get(node.name, frozenset()),
            keys.missing[node.name] if own else None,
            node.name in self.known.forced,
        )
        self._lanes.add(task, numeric=node.spec.numeric, group=self._model(node) if node.spec.numeric else None)

    def _model(self, node: GraphNode) -> str | None:
        """The first node that feeds `node` what only memory can hold, such as a model."""
        never = self._around.cache.codecs.never
        ports = ((wire.node, self._nodes[wire.node].spec.output(wire.port)) for wire in node.wires())
        return next((source for source, port in ports if port is not None and never(port.type)), None)

    # --- answers

    def _found(self, name: str) -> None:
        hit = self.known.hits[name]
        if name not in self.reports:  # else it ran in an earlier pass
            self.reports[name] = NodeReport("cached", 0.0, self.known.key(name), hit.key, hit.made.notices)
            self._around.emit(NodeCached(name))
            for message in hit.made.notices:
                self._around.emit(Notice(name, message))
        self._finish(name)

    def _take(self, task: Task, outcome: Outcome) -> None:
        name = task.node.name
        self._lanes.done(numeric=task.node.spec.numeric)
        if outcome.hit is not None:
            self.known.hits[name] = outcome.hit
            self.known.made(name, outcome.hit.digests, kept=True)
            self._found(name)
            return
        if outcome.error is not None:
            self._fail(name, outcome, outcome.error)
            return
        if outcome.changed:
            self.known.taint(name)
        self.known.made(name, outcome.digests, kept=outcome.kept)
        for port, value in outcome.values.items():
            self._values[Wire(name, port)] = value
        key, content = (self.known.key(name), task.key) if outcome.kept else (None, None)
        self.reports[name] = NodeReport("ran", outcome.seconds, key, content, outcome.notices)
        self._around.emit(NodeFinished(name, outcome.seconds))
        self._finish(name)

    def _fail(self, name: str, outcome: Outcome, error: NodegraphError) -> None:
        if isinstance(error, Cancelled):
            self._around.cancelled.set()
            return
        self.reports[name] = NodeReport("failed", outcome.seconds, self.known.key(name), None, outcome.notices, str(error))
        self._around.emit(NodeFailed(name, error))
        self._failure = self._failure or error
        if self._stopping:
            self._lanes.withdraw()
        self._settle(name)

    def _finish(self, name: str) -> None:
        """A node's result is there: hand it out, and let go of what was there only for it."""
        self._done.add(name)
        for output in self._outputs.get(name, ()):
            self._deliver(output, self._stored(output.wire), functools.partial(self._value, output.wire))
        self._settle(name)
        for need in _Need.DIGESTS, _Need.RESULT:
            self._wake(need, name)

    def _settle(self, name: str) -> None:
        """Nothing more is asked by `name`: nodes that nobody else may ask need not run, and their values can go."""
        pending = deque([name])
        while pending:
            settled = pending.popleft()
            if settled in self._settled:
                continue
            self._settled.add(settled)
            if not self._consumers[settled]:
                self._release(settled)
            if self.plan.actions[settled] != "run":
                continue
            for source in self._nodes[settled].sources:
                self._consumers[source] -= 1
                if not self._consumers[source]:
                    self._release(source)
                    if source not in self._started and source not in self._outputs and source not in self._done:
                        self.reports.setdefault(source, NodeReport("pruned", key=self.known.key(source)))
                        pending.append(source)

    def _release(self, name: str) -> None:
        for port in self._nodes[name].spec.outputs:
            self._values.pop(Wire(name, port.name), None)

    # --- values

    def _argument(self, given: Input) -> Any:
        if isinstance(given, Value):
            return given.value
        if isinstance(given, Many):
            return [self._argument(item) for item in given.items]
        return self._value(given)

    def _value(self, wire: Wire) -> Any:
        """The value of a port; one in the cache is read when it is first wanted. Raises LostResultError."""
        if wire not in self._values:
            value = self._around.cache.load(self.known.hits[wire.node].key, wire.port)
            if not self._consumers[wire.node]:
                return value
            self._values[wire] = value
        return self._values[wire]

    def _stored(self, wire: Wire) -> Stored | None:
        hit = self.known.hits.get(wire.node)
        if hit is not None and wire.port in hit.stored:
            return hit.stored[wire.port]
        key = self.reports[wire.node].content
        return self._around.cache.stored(key, wire.port) if key is not None else None
