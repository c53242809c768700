"""Nodes that are running, and the runs that wait for them: a node that several runs need at once runs once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from nodegraph.cache.cache import Cache
from nodegraph.cache.snapshots import Snapshot, part_of
from nodegraph.cache.store.store import LostResultError
from nodegraph.errors import Cancelled
from nodegraph.graph.graph import ResolvedLink
from nodegraph.light_dataclass import dataclass
from nodegraph.node_types.item_ports import is_item, split_item
from nodegraph.run.events import NodeEvent, NodeProgress
from nodegraph.run.node.run_node import run_node
from nodegraph.run.tasks.task import NodeTask, Outcome, RunContext, stopped
from nodegraph.run.workers.protocol import do_nothing

Deliver = Callable[[str, Outcome | BaseException, Callable[[], None]], None]
"""Receives a node's name, its outcome, and a function to call once the tasks that follow from it are handed out."""


class RunValues:
    """Snapshots of the values of one run, by the output they come from. May be used from several threads."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._values: dict[str, Mapping[str, Snapshot]] = {}  # by node and port
        self._lists: dict[str, dict[str, Snapshot]] = {}  # in the cache, by node and port

    def get(self, link: ResolvedLink, key: str | None) -> Any:
        """The value of an output, as an object of the reader's own; read from the cache by its key if the run has none.

        Raises LostResultError.
        """
        return self.snapshot(link, key).open()

    def snapshot(self, link: ResolvedLink, key: str | None) -> Snapshot:
        """The snapshot of an output; see `get`."""
        values = self._values.get(link.node)  # nothing that a running node needs is dropped
        if values is not None and link.port in values:
            return values[link.port]
        if is_item(link.port):
            base, indexes = split_item(link.port)
            return part_of(self._list(ResolvedLink(link.node, base), key), indexes)
        if key is None:
            raise LostResultError(f"'{link.node}.{link.port}' has no key")
        return self._cache.snapshot(key, link.port)

    def _list(self, link: ResolvedLink, key: str | None) -> Snapshot:
        """The snapshot of a list whose items are read one by one. It is read once."""
        values = self._lists.setdefault(link.node, {})
        found = values.get(link.port)
        if found is None:
            found = values[link.port] = self.snapshot(link, key)
        return found

    def add(self, node: str, values: Mapping[str, Snapshot]) -> None:
        """Keep the values that a node returned, by port."""
        self._values[node] = values

    def drop(self, node: str) -> None:
        """Free the values of a node."""
        self._values.pop(node, None)
        self._lists.pop(node, None)


@dataclass(kw_only=True, eq=False, slots=True)
class Waiter:
    """A run that waits for a job. `node` is its own name for the node, `wanted` the ports that it needs."""

    node: str
    wanted: frozenset[str]
    context: RunContext
    deliver: Deliver


class SharedJob:
    """One node that runs for one or more runs: a `Job` of the workers' protocol.

    Each run receives the node's events under its own name for the node. The node is asked to stop once all of them are cancelled.
    """

    __slots__ = ("_first", "_history", "_lock", "_remove", "_values", "_waiters", "has_ended", "task")

    def __init__(self, task: NodeTask, values: RunValues, first: Waiter, remove: Callable[[SharedJob], None]) -> None:
        self.task = task
        self.has_ended = False  # or it has been asked to stop: no run can join any more
        self._values, self._first, self._remove = values, first, remove
        self._waiters = [first]
        self._history: list[NodeEvent] = []  # for a run that joins late; only the latest step
        self._lock = threading.RLock()

    # --- what a worker calls

    def run(self, on_handed_out: Callable[[], None] = do_nothing) -> None:
        """Run the node in the calling thread, and finish."""
        outer, _current.runs_node = _current.runs_node, True
        try:
            outcome = run_node(self.task, self._first.context, self)
        except KeyboardInterrupt:
            self.abandon(on_handed_out)
            raise
        except BaseException as error:
            self.finish(error, on_handed_out)
        else:
            self.finish(outcome, on_handed_out)
        finally:
            _current.runs_node = outer

    def emit(self, event: NodeEvent) -> None:
        """Pass an event on to every run that waits."""
        with self._lock:
            if self._history and isinstance(event, NodeProgress) and isinstance(self._history[-1], NodeProgress):
                self._history.pop()
            self._history.append(event)
            for waiter in tuple(self._waiters):
                self._emit_to(waiter, event)

    def is_cancelled(self) -> bool:
        """Whether every run that waits is cancelled. Once true, no other run can join."""
        if not self.has_ended and all(waiter.context.cancel.is_set for waiter in self._waiters):
            with self._lock:
                self.has_ended = all(waiter.context.cancel.is_set for waiter in self._waiters)
        return self.has_ended

    def value(self, link: ResolvedLink, key: str | None) -> Any:
        """The value behind a link, from memory or the cache."""
        return self._values.get(link, key)

    def finish(self, outcome: Outcome | BaseException, on_handed_out: Callable[[], None] = do_nothing) -> None:
        """Pass the outcome on to every run that waits."""
        with self._lock:
            self.has_ended = True
        self._remove(self)
        while self._waiters:  # one by one: if Ctrl-C interrupts this, `abandon` goes on with the others
            waiter = self._waiters.pop(0)
            waiter.deliver(waiter.node, outcome if waiter is self._first else self._for(waiter, outcome), on_handed_out)
            on_handed_out = do_nothing
        on_handed_out()

    def abandon(self, on_handed_out: Callable[[], None] = do_nothing) -> None:
        """Give up without an outcome: each run that still needs one starts over with this node."""
        self.finish(Outcome(abandoned=True), on_handed_out)

    # --- what a run calls

    def join(self, waiter: Waiter) -> bool:
        """Wait for the outcome, too. False if it is too late. Runs that are cancelled need not wait any longer."""
        with self._lock:
            if self.has_ended:
                return False
            for other in [other for other in self._waiters if other.context.cancel.is_set]:
                self._waiters.remove(other)
                other.deliver(other.node, Outcome(error=stopped()), do_nothing)
            self._waiters.append(waiter)
            for event in self._history:
                self._emit_to(waiter, event)
            return True

    def leave(self, waiter: Waiter) -> bool:
        """Stop waiting. False if no other run waits, or if the outcome is on its way: then it has to be waited for."""
        with self._lock:
            if self.has_ended or self._waiters == [waiter] or waiter not in self._waiters:
                return False
            self._waiters.remove(waiter)
            return True

    def is_of(self, context: RunContext) -> bool:
        """Whether the run of `context` waits for this job."""
        return any(waiter.context.cancel is context.cancel for waiter in self._waiters)

    def began_with(self, context: RunContext) -> bool:
        """Whether this job is a node of the run of `context`, which other runs may have joined."""
        return self._first.context.cancel is context.cancel

    def _for(self, waiter: Waiter, outcome: Outcome | BaseException) -> Outcome | BaseException:
        """The outcome as a run that joined receives it.

        If only the first run was at fault, this one runs the node itself. So it does if the node read files before this run joined
        that were others than the key says, and have been changed back since then.
        """
        if isinstance(outcome, BaseException):
            return outcome
        if outcome.doubtful or (outcome.error is not None and self.task.files):
            return Outcome(abandoned=True)
        if isinstance(outcome.error, LostResultError) or (outcome.hit is not None and not waiter.wanted <= self.task.wanted):
            return Outcome(abandoned=True)
        if isinstance(outcome.error, Cancelled) and self._first.context.cancel.is_set and not waiter.context.cancel.is_set:
            return Outcome(abandoned=True)
        return outcome

    def _emit_to(self, waiter: Waiter, event: NodeEvent) -> None:
        same_name = waiter.node == self.task.node
        waiter.context.emit(event if same_name else replace(event, node=waiter.node))


class _Current(threading.local):
    """What the current thread does: whether a node runs in it."""

    runs_node = False


_current = _Current()


def is_inside_node() -> bool:
    """Whether a node runs in the current thread: a run that begins here is one that the node began."""
    return _current.runs_node


@contextlib.contextmanager
def inside_node() -> Iterator[None]:
    """The time during which nodes run in the current thread."""
    outer, _current.runs_node = _current.runs_node, True
    try:
        yield
    finally:
        _current.runs_node = outer


class Jobs:
    """The jobs of an engine, by content key.

    A run that a node began waits for no job of another run: that one may wait for the node's thread.
    """

    def __init__(self) -> None:
        self._jobs: dict[str, SharedJob] = {}
        self._lock = threading.Lock()

    def find(self, key: str | None, context: RunContext) -> SharedJob | None:
        """The job of another run that is computing `key`, if any."""
        if not self._jobs or _current.runs_node:
            return None
        job = self._jobs.get(key) if key is not None else None
        return None if job is None or job.is_of(context) else job

    def start(self, task: NodeTask, values: RunValues, waiter: Waiter) -> tuple[SharedJob, bool]:
        """A job for `task`, and whether it is new: then a worker has to run it. Otherwise it is another run's."""
        while True:
            with self._lock:
                job = self._jobs.get(task.key) if task.key is not None else None
                if job is None or job.has_ended or job.is_of(waiter.context) or _current.runs_node:
                    new = SharedJob(task, values, waiter, self._remove)
                    if task.key is not None and (job is None or job.has_ended):
                        self._jobs[task.key] = new
                    return new, True
            if job.join(waiter):
                return job, False

    def start_alone(self, task: NodeTask, values: RunValues, waiter: Waiter) -> SharedJob:
        """A job that no other run can join, because the values of its node never leave its task."""
        return SharedJob(task, values, waiter, self._remove)

    def abandon_those_of(self, context: RunContext) -> None:
        """Abandon jobs that no worker knows, since Ctrl-C came while they were handed out: another run may wait for them."""
        for job in tuple(self._jobs.values()):
            if job.is_of(context) and job.began_with(context):
                job.abandon()

    def _remove(self, job: SharedJob) -> None:
        key = job.task.key
        with self._lock:
            if key is not None and self._jobs.get(key) is job:
                del self._jobs[key]
