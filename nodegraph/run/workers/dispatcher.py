"""One run's side of the workers: ready tasks go out, outcomes come in."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import Final

from nodegraph.light_dataclass import dataclass
from nodegraph.run.events import Event
from nodegraph.run.tasks.task import NodeTask, Outcome, RunContext
from nodegraph.run.workers.jobs import Jobs, RunValues, SharedJob, Waiter, is_inside_node
from nodegraph.run.workers.protocol import Workers, do_nothing

MAX_SUBMITTED: Final = 64
"""How many tasks that are not numeric a run submits at once, so that runs take turns and outcomes do not pile up."""

_WAKE_SECONDS: Final = 0.5

_Message = tuple[str, Outcome | BaseException, Callable[[], None]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Staff:
    """The workers of an engine, and the jobs that its runs share.

    `local` are workers in this process, for what `workers` cannot run. They are the same if these are in this process, too.
    """

    workers: Workers
    local: Workers
    jobs: Jobs

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """The time during which a run hands out tasks."""
        with self.workers.in_use(), contextlib.nullcontext() if self.local is self.workers else self.local.in_use():
            yield


@dataclass(kw_only=True, eq=False, slots=True)
class _Running:
    """A node that runs. `take_back` tries to take its task back from the workers; `counts`: it is one of `MAX_SUBMITTED`."""

    job: SharedJob
    waiter: Waiter
    counts: bool = False
    take_back: Callable[[], bool] = lambda: False


@dataclass(frozen=True, kw_only=True, eq=False)
class _ReadyGroup:
    """A task of several nodes. `goals` are the nodes that it is for, `repeated` those that ran before in this run."""

    tasks: Sequence[NodeTask]
    goals: Collection[str]
    repeated: Collection[str]


class Dispatcher:
    """Hands out the tasks of one run. With `inline`, a task that runs alone runs in the calling thread."""

    def __init__(self, *, context: RunContext, staff: Staff, values: RunValues, inline: bool) -> None:
        self._context, self._staff, self._jobs, self._values, self._inline = context, staff, staff.jobs, values, inline
        self._local = staff.local
        self._ready: deque[NodeTask] = deque()
        self._ready_numeric: deque[NodeTask] = deque()
        self._ready_groups: deque[_ReadyGroup] = deque()
        self._running: dict[str, _Running] = {}
        self._inbox: SimpleQueue[_Message | None] = SimpleQueue()  # None: the run is cancelled
        self._submitted = 0
        self._is_inside_node = is_inside_node()
        self._on_handed_out: Callable[[], None] = do_nothing
        context.cancel.wake = lambda: self._inbox.put(None)

    @property
    def busy(self) -> bool:
        """Whether any node is running."""
        return bool(self._running)

    def add(self, task: NodeTask) -> None:
        """Note a task for this process that is ready to run."""
        (self._ready_numeric if task.numeric else self._ready).append(task)

    def add_group(self, tasks: Sequence[NodeTask], *, goals: Collection[str], repeated: Collection[str]) -> None:
        """Note a task of several nodes for workers that share no memory with this process.

        Only the nodes in `goals` may be those of other runs. The outcome of a node in `repeated` counts only if it has failed.
        """
        self._ready_groups.append(_ReadyGroup(tasks=tasks, goals=goals, repeated=repeated))

    def join(self, node: str, key: str | None, wanted: frozenset[str]) -> bool:
        """Wait for another run that is computing `key`. False if no run is."""
        job = self._jobs.find(key, self._context)
        if job is None:
            return False
        waiter = self._waiter(node, wanted)
        if not job.join(waiter):
            return False
        self._running[node] = _Running(job=job, waiter=waiter)
        return True

    def submit(self) -> None:
        """Give the ready tasks to the workers, then tell the worker whose outcome came last."""
        if self._inline and not self._running and len(self._ready) + len(self._ready_numeric) == 1 and not self._ready_groups:
            self._handed_out()
            self._submit((self._ready or self._ready_numeric).popleft(), in_caller=True)
            return
        while self._ready_groups:
            self._submit_group(self._ready_groups.popleft())
        while self._ready_numeric:
            self._submit(self._ready_numeric.popleft())
        while self._ready and self._submitted < MAX_SUBMITTED:
            self._submit(self._ready.popleft())
        self._handed_out()

    def receive(self) -> tuple[str, Outcome | BaseException] | None:
        """Wait for the next outcome; None if the run is cancelled meanwhile."""
        message = self._next_message()
        if message is None:
            return None
        node, outcome, self._on_handed_out = message
        running = self._running.pop(node, None)  # None for a node that ran before
        if running is not None:
            self._submitted -= running.counts
        return node, outcome

    def _next_message(self) -> _Message | None:
        """The next message. Wakes at times, as Python handles a signal that came at the end of the handler of another only then."""
        while True:
            try:
                return self._inbox.get(timeout=_WAKE_SECONDS)
            except Empty:
                continue

    def withdraw(self) -> None:
        """Start nothing more, and stop waiting for nodes that go on for another run."""
        self._ready.clear()
        self._ready_numeric.clear()
        self._ready_groups.clear()
        for node, running in [*self._running.items()]:
            if running.job.leave(running.waiter):
                del self._running[node]
                self._submitted -= running.counts
            elif running.take_back():
                running.job.abandon()

    def stop(self) -> None:
        """Wait for nodes that are still running, which is so only after an error."""
        self._handed_out()
        self.withdraw()
        while self._running:
            self.receive()
            self._handed_out()
        self._jobs.abandon_those_of(self._context)

    def _submit(self, task: NodeTask, *, in_caller: bool = False) -> None:
        waiter = self._waiter(task.node, task.wanted)
        job, is_new = self._jobs.start(task, self._values, waiter)
        running = _Running(job=job, waiter=waiter, counts=is_new and not task.numeric)
        self._running[task.node] = running
        self._submitted += running.counts
        if not is_new:
            return
        try:
            running.take_back = self._local.submit([job], in_caller=in_caller)
        except BaseException:  # such as Ctrl-C: another run may wait for the job, too
            self._running.pop(task.node, None)
            job.abandon()
            raise

    def _submit_group(self, group: _ReadyGroup) -> None:
        jobs: list[SharedJob] = []
        has_goal = False
        for task in group.tasks:
            waiter = self._waiter(task.node, task.wanted)
            if task.node in group.goals:
                job, is_new = self._jobs.start(task, self._values, waiter)
                has_goal = has_goal or is_new
            else:
                if task.node in group.repeated:
                    waiter.context = replace(self._context, emit=_drop)
                    waiter.deliver = self._deliver_failure
                job, is_new = self._jobs.start_alone(task, self._values, waiter), True
            if is_new:
                jobs.append(job)
            if task.node not in group.repeated:
                self._running[task.node] = _Running(job=job, waiter=waiter)
        if not has_goal:  # other runs compute them
            for job in jobs:
                job.abandon()
            return
        try:
            take_back = self._staff.workers.submit(jobs)
        except BaseException:  # other runs may wait for the jobs, too
            for job in jobs:
                self._running.pop(job.task.node, None)
                job.abandon()
            raise

        def take_back_all() -> bool:
            taken = take_back()
            if taken:
                for job in jobs:
                    job.abandon()
            return taken

        for job in jobs:
            if job.task.node in self._running and self._running[job.task.node].job is job:
                self._running[job.task.node].take_back = take_back_all

    def _waiter(self, node: str, wanted: frozenset[str]) -> Waiter:
        return Waiter(node=node, wanted=wanted, context=self._context, deliver=self._deliver)

    def _deliver(self, node: str, outcome: Outcome | BaseException, on_handed_out: Callable[[], None]) -> None:
        if self._is_inside_node:  # this run may be waiting for the worker that waits for this call
            on_handed_out()
            on_handed_out = do_nothing
        self._inbox.put((node, outcome, on_handed_out))

    def _deliver_failure(self, node: str, outcome: Outcome | BaseException, on_handed_out: Callable[[], None]) -> None:
        """Deliver the outcome of a node that ran before in this run: only a failure matters."""
        if isinstance(outcome, BaseException) or outcome.error is not None:
            self._deliver(node, outcome, on_handed_out)
        else:
            on_handed_out()

    def _handed_out(self) -> None:
        if self._on_handed_out is not do_nothing:
            on_handed_out, self._on_handed_out = self._on_handed_out, do_nothing
            on_handed_out()


def _drop(event: Event) -> None:
    """The events of a node that ran before in this run are not repeated."""
