"""Runs a plan: it starts at the outputs and works backwards, and frees values after their last use.

A node is looked up by its content key as soon as the digests of its inputs are known. Only if it is not in the cache are the
values themselves needed. So nodes above a cached result do not run, even if it is found only during the run.
"""

from __future__ import annotations

import enum
import functools
import heapq
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from nodegraph.cache.snapshots import Snapshot, digests_of_items
from nodegraph.cache.store.store import LostResultError, StoredValue
from nodegraph.errors import Cancelled, NodeError, NodegraphError
from nodegraph.gc_pause import gc_paused
from nodegraph.graph.graph import GraphNode, Output, ResolvedLink
from nodegraph.run.events import FinishedStatus, NodeCached, NodeFailed, NodeFinished, Notice
from nodegraph.run.node.interrupted import counted
from nodegraph.run.plan import Plan
from nodegraph.run.result import NodeReport
from nodegraph.run.tasks.groups import Group, Missing, TaskGroups
from nodegraph.run.tasks.maker import TaskMaker
from nodegraph.run.tasks.task import Outcome, RunContext, stopped
from nodegraph.run.workers.dispatcher import Dispatcher, Staff
from nodegraph.run.workers.jobs import RunValues

Delivery = Callable[[Output, StoredValue | None, Callable[[], Snapshot]], None]
"""Receives an output, how its value is stored (None: it is not), and a function that returns a snapshot of the value."""


class Carry(Protocol):
    """Receives a node that ran, its outcome and digests, whether it is what its key stands for, and what returns its values."""

    def __call__(
        self,
        name: str,
        outcome: Outcome,
        *,
        digests: Mapping[str, str],
        is_keyed: bool,
        snapshot: Callable[[ResolvedLink], Snapshot],
    ) -> None: ...


class _Need(enum.IntEnum):
    """What is needed of a node."""

    NOTHING = 0
    DIGESTS = 1
    RESULT = 2


_NOTHING, _DIGESTS, _RESULT = _Need  # reading a member of an enum takes longer
_NO_PORTS: Final[frozenset[str]] = frozenset()


class Scheduler:
    """One pass over a plan. `deliver` is called for each output as soon as it has a value.

    `reports` is filled in as nodes end. With `keep_going`, a node that fails stops only the nodes below it, and its error is raised
    at the end. With `inline`, a node that runs alone runs in the calling thread. Nodes that have failed according to `reports` do
    not run again; `failure` is the first of their errors. `carry` receives the result of each node that ran.
    """

    def __init__(
        self,
        *,
        plan: Plan,
        context: RunContext,
        staff: Staff,
        deliver: Delivery,
        reports: dict[str, NodeReport],
        keep_going: bool = False,
        inline: bool = True,
        carry: Carry | None = None,
        failure: NodegraphError | None = None,
    ) -> None:
        self.plan, self.reports, self.known = plan, reports, plan.known
        self._context, self._staff, self._deliver, self._keep_going = context, staff, deliver, keep_going
        self._carry = carry
        self._nodes, self._needed = plan.graph.nodes, plan.needed
        self._order = {name: i for i, name in enumerate(self._nodes)}
        self._needs: dict[str, _Need] = {}
        self._agenda: list[tuple[int, str]] = []  # a heap: nodes in the order of the graph
        self._blocked: dict[str, int] = {}
        self._blocking: dict[_Need, dict[str, list[str]]] = {_DIGESTS: {}, _RESULT: {}}
        self._done: set[str] = set()
        self._settled: set[str] = set()
        self._started: set[str] = set()
        self._failed: set[str] = set()
        self.failure = failure
        self._outputs: dict[str, list[Output]] = {}
        for output in plan.graph.outputs.values():
            self._outputs.setdefault(output.link.node, []).append(output)
        self._consumers = dict.fromkeys(self._nodes, 0)
        for name in plan.names("run"):
            for source in self._nodes[name].sources:
                self._consumers[source] += 1
        self._values = RunValues(context.cache)
        self._dispatcher = Dispatcher(context=context, staff=staff, values=self._values, inline=inline)
        shares_memory = staff.workers.shares_memory or context.cache.store is None
        self._maker = TaskMaker(plan, context.cache, shares_memory=shares_memory)
        self._groups = None if shares_memory else TaskGroups(plan, self._maker, context.cache.codecs)
        self._ready_groups: list[Group] = []

    def execute(self) -> None:
        """Run the plan.

        Raises what ended the run: NodeError, Cancelled, LostResultError if a cached value has gone, or what `deliver` raises.
        """
        cancel = self._context.cancel
        if self._groups is not None:
            self._staff.workers.prepare(self._groups.demands(), cancel)
        with self._staff.in_use(), counted():
            try:
                self._loop()
            except KeyboardInterrupt:
                cancel.set()  # so that nodes in other threads stop at their next step
                raise
            finally:
                self._dispatcher.stop()
        if cancel.is_set:
            raise stopped()
        if self.failure is not None:
            raise self.failure

    def _loop(self) -> None:
        with gc_paused():
            for name in self.plan.names("pruned"):
                self.reports.setdefault(name, NodeReport(status="pruned", key=self.known.key(name)))
            for name in [name for name, report in self.reports.items() if report.status == "failed" and name in self._nodes]:
                self._failed.add(name)
                self._settle(name)
            for name in self._outputs:
                self._need(name, _RESULT)
            self._work_agenda()
        while True:
            self._work_agenda()
            if self._ready_groups:
                self._add_groups()
            if self._context.cancel.is_set:
                self._dispatcher.withdraw()  # what is running goes on to its next step or its end
            self._dispatcher.submit()
            if not self._dispatcher.busy:
                return
            self._receive(self._dispatcher.receive())  # no name for it: values have to be freed before the next wait

    @property
    def _stopping(self) -> bool:
        return self._context.cancel.is_set or (self.failure is not None and not self._keep_going)

    # --- which nodes are needed

    def _need(self, name: str, need: _Need) -> None:
        if self._needs.get(name, _NOTHING) < need:
            self._needs[name] = need
            self._schedule(name)

    def _schedule(self, name: str) -> None:
        heapq.heappush(self._agenda, (self._order[name], name))

    def _work_agenda(self) -> None:
        if not self._agenda:
            return
        with self._context.cache.at_one_time():
            while self._agenda:
                self._advance(heapq.heappop(self._agenda)[1])

    def _advance(self, name: str) -> None:
        """Take a node as far as it can go now: found in the cache, waiting for other nodes, running for another run, or ready."""
        if name in self._settled or name in self._started or self._blocked.get(name):
            return
        if name in self.known.hits:
            self._found(name)
            return
        node, done, known = self._nodes[name], self._done, self.known
        missing = [source for source in node.sources if source not in done]
        wanted = self._needed.get(name, _NO_PORTS)
        if unknown := [source for source in missing if not self._has_digests(node, source)]:
            self._block(name, unknown, _DIGESTS)
        elif known.derive(name, wanted):
            self._found(name)
        elif self._needs[name] == _DIGESTS and name not in known.checked and known.has_digests(name, wanted):
            self._unblock(_DIGESTS, name)  # what other nodes need follows from its key, so it need not run for them
        elif self._stopping:
            return
        elif self._dispatcher.join(name, known.content.get(name), wanted):
            self._started.add(name)
        elif self._groups is not None and name not in self._groups.local:
            self._add_to_groups(name, self._groups)
        elif missing:
            self._block(name, missing, _RESULT)
        else:
            self._started.add(name)
            self._dispatcher.add(self._maker.task(name))

    def _has_digests(self, node: GraphNode, source: str) -> bool:
        return self.known.has_digests(source, [link.port for link in node.links() if link.node == source])

    def _block(self, name: str, sources: Sequence[str], need: _Need) -> None:
        self._blocked[name] = len(sources)
        for source in sources:
            self._blocking[need].setdefault(source, []).append(name)
            self._need(source, need)

    def _unblock(self, need: _Need, source: str) -> None:
        for name in self._blocking[need].pop(source, ()):
            self._blocked[name] -= 1
            if not self._blocked[name]:
                self._schedule(name)

    # --- tasks of several nodes, for workers that share no memory

    def _add_to_groups(self, name: str, groups: TaskGroups) -> None:
        found = groups.group(name, done=self._done, failed=self._failed, is_stored=lambda link: self._stored(link) is not None)
        if isinstance(found, Missing):
            self._block(name, found.nodes, _RESULT)
        else:
            self._started.add(name)
            self._ready_groups.append(found)

    def _add_groups(self) -> None:
        assert self._groups is not None  # it made the groups
        for group in self._groups.merged(self._ready_groups):
            repeated = {name for name in group.nodes if name in self._started} - group.goals
            self._started.update(group.nodes)
            tasks = [self._maker.task(name) for name in group.nodes]
            self._dispatcher.add_group(tasks, goals=group.goals, repeated=repeated)
        self._ready_groups.clear()

    # --- outcomes

    def _receive(self, message: tuple[str, Outcome | BaseException] | None) -> None:
        if message is None:
            return
        name, outcome = message
        if isinstance(outcome, BaseException):
            raise outcome
        if outcome.abandoned:
            self._started.discard(name)
            if name in self._needs:
                self._schedule(name)
        elif outcome.hit is not None:
            self.known.found(name, outcome.hit)
            self._found(name)
        elif outcome.error is not None:
            self._fail(name, outcome, outcome.error)
        else:
            self._made(name, outcome)

    def _found(self, name: str) -> None:
        hit = self.known.hits[name]
        report = self.reports.get(name)
        is_from_earlier_pass = name in self.known.carried or (report is not None and report.content == hit.key)
        if not is_from_earlier_pass:
            notices = hit.computation.notices
            self.reports[name] = NodeReport(status="cached", key=self.known.key(name), content=hit.key, notices=notices)
            self._context.emit(NodeCached(name))
            for message in hit.computation.notices:
                self._context.emit(Notice(name, message))
        if hit.in_memory:
            self._values.add(name, self.known.take_values(name))
        self._finish(name)

    def _made(self, name: str, outcome: Outcome) -> None:
        wanted = self._needed.get(name, _NO_PORTS)
        items = digests_of_items(wanted, outcome.values, outcome.digests)  # another run may have wanted other items
        digests = {**outcome.digests, **items} if items else outcome.digests
        is_keyed = self.known.made(name, digests, stored=outcome.stored, depends=outcome.depends)
        self._values.add(name, outcome.values)
        if self._carry is not None:
            self._carry(name, outcome, digests=digests, is_keyed=is_keyed, snapshot=self._snapshot)
        status = self._check(outcome) if name in self.known.checked else "ran"
        self.reports[name] = NodeReport(
            status=status,
            seconds=outcome.seconds,
            key=self.known.key(name) if is_keyed else None,
            content=self.known.content.get(name) if outcome.stored else None,
            notices=outcome.notices,
            wrong=outcome.wrong if status == "differed" else None,
        )
        self._context.emit(NodeFinished(name, outcome.seconds, status))
        self._finish(name)

    def _check(self, outcome: Outcome) -> FinishedStatus:
        """What became of a checked node."""
        if outcome.wrong is None:
            return "verified" if outcome.verified else "ran"
        self._context.cache.forget_aliases()
        self._context.emit(Notice(None, str(outcome.wrong)))
        return "differed"

    def _fail(self, name: str, outcome: Outcome, error: BaseException) -> None:
        if isinstance(error, LostResultError):
            raise error
        if isinstance(error, Cancelled):
            self._context.cancel.set()
            return
        node = self._nodes[name]
        failure = NodeError(name, node.spec.name, outcome.message, node.where)
        failure.__cause__ = error
        self.reports[name] = NodeReport(
            status="failed",
            seconds=outcome.seconds,
            key=self.known.key(name),
            notices=outcome.notices,
            error=str(failure),
        )
        self._failed.add(name)
        self._context.emit(NodeFailed(name, failure))
        self.failure = self.failure or failure
        if self._stopping:
            self._dispatcher.withdraw()
        self._settle(name)

    def _finish(self, name: str) -> None:
        """A node has its result: deliver its outputs, and go on with the nodes that wait for it."""
        self._done.add(name)
        for output in self._outputs.get(name, ()):
            self._deliver(output, self._stored(output.link), functools.partial(self._snapshot, output.link))
        self._settle(name)
        self._unblock(_DIGESTS, name)
        self._unblock(_RESULT, name)

    def _settle(self, name: str) -> None:
        """A node needs nothing more: nodes that only it needs do not run, and their values are freed."""
        pending = [name]
        while pending:
            settled = pending.pop()
            if settled in self._settled:
                continue
            self._settled.add(settled)
            if not self._consumers[settled]:
                self._values.drop(settled)
            if self.plan.actions[settled] != "run":
                continue
            for source in self._nodes[settled].sources:
                self._consumers[source] -= 1
                if not self._consumers[source]:
                    self._values.drop(source)
                    self.known.take_values(source)
                    if source not in self._started and source not in self._outputs and source not in self._done:
                        self.reports.setdefault(source, NodeReport(status="pruned", key=self.known.key(source)))
                        pending.append(source)

    def _snapshot(self, link: ResolvedLink) -> Snapshot:
        return self._values.snapshot(link, self.known.value_key(link))

    def _stored(self, link: ResolvedLink) -> StoredValue | None:
        """How the value behind a link is stored under its content key; None if it is not."""
        hit = self.known.hits.get(link.node)
        if hit is not None and link.port in hit.stored:
            return hit.stored[link.port]
        key = self.reports[link.node].content
        return self._context.cache.stored(key, link.port) if key is not None else None
