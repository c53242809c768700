"""One run's side of the workers: ready tasks go out, outcomes come in."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Final

from nodegraph.run.task import NodeTask, Outcome, RunContext
from nodegraph.run.workers.jobs import Job, Jobs, RunValues, Waiter
from nodegraph.run.workers.protocol import Workers

MAX_SUBMITTED: Final = 64
"""How many tasks that are not numeric a run submits at once, so that runs take turns and outcomes do not pile up."""

_Message = tuple[str, Outcome | BaseException, Callable[[], None]]


@dataclass
class _Running:
    """A node that runs. `take_back` tries to take its task back from the workers; `counts`: it is one of `MAX_SUBMITTED`."""

    job: Job
    waiter: Waiter
    counts: bool = False
    take_back: Callable[[], bool] = lambda: False


class Dispatcher:
    """Hands out the tasks of one run. With `inline`, a task that runs alone runs in the calling thread."""

    def __init__(self, context: RunContext, workers: Workers, jobs: Jobs, values: RunValues, *, inline: bool) -> None:
        self._context, self._workers, self._jobs, self._values, self._inline = context, workers, jobs, values, inline
        self._ready: deque[NodeTask] = deque()
        self._ready_numeric: deque[NodeTask] = deque()
        self._running: dict[str, _Running] = {}
        self._inbox: SimpleQueue[_Message | None] = SimpleQueue()  # None: the run is cancelled
        self._submitted = 0
        self._acknowledge: Callable[[], None] = _nothing
        context.cancel.wake = lambda: self._inbox.put(None)

    @property
    def busy(self) -> bool:
        """Whether any node is running."""
        return bool(self._running)

    def add(self, task: NodeTask) -> None:
        """Note a task that is ready to run."""
        (self._ready_numeric if task.node.spec.numeric else self._ready).append(task)

    def join(self, node: str, key: str | None, wanted: frozenset[str]) -> bool:
        """Wait for another run that is computing `key`. False if no run is."""
        job = self._jobs.find(key, self._context)
        if job is None:
            return False
        waiter = self._waiter(node, wanted)
        if not job.join(waiter):
            return False
        self._running[node] = _Running(job, waiter)
        return True

    def submit(self) -> None:
        """Give the ready tasks to the workers, then acknowledge the outcome that came last."""
        if self._inline and not self._running and len(self._ready) + len(self._ready_numeric) == 1:
            self._acknowledge_last()
            self._submit((self._ready or self._ready_numeric).popleft(), here=True)
            return
        while self._ready_numeric:
            self._submit(self._ready_numeric.popleft())
        while self._ready and self._submitted < MAX_SUBMITTED:
            self._submit(self._ready.popleft())
        self._acknowledge_last()

    def receive(self) -> tuple[str, Outcome | BaseException] | None:
        """Wait for the next outcome; None if the run is cancelled meanwhile."""
        message = self._inbox.get()
        if message is None:
            return None
        node, outcome, self._acknowledge = message
        self._submitted -= self._running.pop(node).counts
        return node, outcome

    def withdraw(self) -> None:
        """Start nothing more, and stop waiting for nodes that go on for another run."""
        self._ready.clear()
        self._ready_numeric.clear()
        for node, running in [*self._running.items()]:
            if running.job.leave(running.waiter):
                del self._running[node]
                self._submitted -= running.counts
            elif running.take_back():
                running.job.abandon(_nothing)

    def stop(self) -> None:
        """Wait for nodes that are still running, which is so only after an error."""
        self._acknowledge_last()
        self.withdraw()
        while self._running:
            self.receive()
            self._acknowledge_last()

    def _submit(self, task: NodeTask, *, here: bool = False) -> None:
        waiter = self._waiter(task.node.name, task.wanted)
        job, is_new = self._jobs.start(task, self._values, waiter)
        running = _Running(job, waiter, is_new and not task.node.spec.numeric)
        self._running[task.node.name] = running
        self._submitted += running.counts
        if not is_new:
            return
        try:
            running.take_back = self._workers.submit([job], here=here)
        except BaseException:  # such as Ctrl-C: another run may wait for the job, too
            job.abandon(_nothing)
            raise

    def _waiter(self, node: str, wanted: frozenset[str]) -> Waiter:
        return Waiter(node=node, wanted=wanted, context=self._context, deliver=self._deliver)

    def _deliver(self, node: str, outcome: Outcome | BaseException, then: Callable[[], None]) -> None:
        self._inbox.put((node, outcome, then))

    def _acknowledge_last(self) -> None:
        if self._acknowledge is not _nothing:
            acknowledge, self._acknowledge = self._acknowledge, _nothing
            acknowledge()


def _nothing() -> None:
    """Nothing waits for this."""
