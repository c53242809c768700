"""What runs in the process of the run, beside the actors."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from nodegraph.run.events import NodeEvent
from nodegraph.run.tasks.task import NodeTask, Outcome, RunContext
from nodegraph.run.workers.jobs import inside_node
from nodegraph.run.workers.protocol import Job, do_nothing
from nodegraph.run.workers.task_runner import run_task


class LocalTask:
    """The jobs of a task as one job for threads of this process. `on_end` is called when it has ended."""

    def __init__(self, jobs: Sequence[Job], context: RunContext, on_end: Callable[[], None]) -> None:
        self._task = next((job.task for job in jobs if job.task.numeric), jobs[0].task)
        self._jobs, self._context, self._on_end = jobs, context, on_end

    @property
    def task(self) -> NodeTask:
        return self._task

    def run(self, on_handed_out: Callable[[], None] = do_nothing) -> None:
        host = _Host(self._jobs)
        try:
            with inside_node():
                run_task([job.task for job in self._jobs], self._context, host)
        finally:
            self._on_end()
            host.abandon()
            on_handed_out()


class LocalTasks:
    """What runs in this process. While it is closed, tasks wait: Ray changes environment variables when it starts."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Callable[[], Callable[[], bool]], list[Callable[[], bool]]]] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._running = 0

    def submit(self, hand_out: Callable[[], Callable[[], bool]]) -> Callable[[], bool]:
        """Call `hand_out`, now or when it is open again. Returns what takes the task back."""
        with self._changed:
            if self._is_closed:
                waiting: tuple[Callable[[], Callable[[], bool]], list[Callable[[], bool]]] = (hand_out, [])
                self._waiting.append(waiting)
                return lambda: self._take_back(waiting)
            self._running += 1
        return self._hand_out(hand_out)

    def ended(self) -> None:
        """A task has ended, or was taken back."""
        with self._changed:
            self._running -= 1
            self._changed.notify_all()

    @contextlib.contextmanager
    def none(self) -> Iterator[None]:
        """The time during which no task runs in this process; waits for those that do."""
        with self._changed:
            self._is_closed = True
            while self._running:
                self._changed.wait()
        try:
            yield
        finally:
            with self._changed:
                self._is_closed = False
                waiting = [*self._waiting]
                self._waiting.clear()
                self._running += len(waiting)
            for hand_out, taken in waiting:
                taken.append(self._hand_out(hand_out))

    def _hand_out(self, hand_out: Callable[[], Callable[[], bool]]) -> Callable[[], bool]:
        take_back = hand_out()

        def take() -> bool:
            taken = take_back()
            if taken:
                self.ended()
            return taken

        return take

    def _take_back(self, waiting: tuple[Callable[[], Callable[[], bool]], list[Callable[[], bool]]]) -> bool:
        with self._changed:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
                return True
        return any(take_back() for take_back in waiting[1])


class _Host:
    """Passes what becomes of the nodes of a task in this process on to their jobs."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs, self._done = jobs, 0

    def emit(self, place: int, event: NodeEvent) -> None:
        self._jobs[place].emit(event)

    def is_cancelled(self, place: int) -> bool:
        return self._jobs[place].is_cancelled()

    def finish(self, place: int, outcome: Outcome | BaseException) -> None:
        self._done = place + 1
        self._jobs[place].finish(outcome)

    def abandon(self) -> None:
        """Give up the jobs that have no outcome."""
        for job in self._jobs[self._done :]:
            job.abandon()
        self._done = len(self._jobs)
