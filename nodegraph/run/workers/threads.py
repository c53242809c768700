"""Workers in threads of this process: one for numeric nodes, and a few for the others."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import Final

from nodegraph.run.tasks.task import CancelFlag, Demand
from nodegraph.run.workers.protocol import Runnable, do_nothing

MAX_THREADS: Final = min(8, (os.cpu_count() or 1) + 2)
"""How many nodes that are not numeric run at once. Reading and decoding files waits more than it computes."""


class _Task:
    """A task that waits for a thread."""

    def __init__(self, jobs: Sequence[Runnable]) -> None:
        self.jobs = jobs
        self.numeric, self.model = False, None
        for job in jobs:
            self.numeric = self.numeric or job.task.numeric
            self.model = self.model or job.task.model
        self._unclaimed = [True]

    def claim(self) -> bool:
        """True for the first caller only: it may run the task, or drop it."""
        try:
            return self._unclaimed.pop()
        except IndexError:
            return False

    def run(self, on_handed_out: Callable[[], None] = do_nothing) -> None:
        for job in self.jobs[:-1]:
            job.run()
        self.jobs[-1].run(on_handed_out)


class _Threads:
    """The threads between the first run that uses them and the last."""

    def __init__(self) -> None:
        self.all: list[threading.Thread] = []
        self.plain: SimpleQueue[_Task | None] = SimpleQueue()  # None ends a thread
        self.numeric: SimpleQueue[_Task | None] = SimpleQueue()
        self.plain_threads = self.plain_tasks = 0
        self.has_numeric_thread = False

    def start(self, work: Callable[[_Threads], None], name: str) -> bool:
        """Start a thread. False if the system has no more."""
        thread = threading.Thread(target=work, args=(self,), name=name)
        self.all.append(thread)  # before it starts: Ctrl-C may interrupt the start, and `end` has to end it then, too
        try:
            thread.start()
        except RuntimeError:
            self.all.remove(thread)
            return False
        return True

    def end(self) -> None:
        """Let each thread end after what it is doing, and wait for that."""
        for _ in range(self.plain_threads):
            self.plain.put(None)
        self.numeric.put(None)
        for thread in self.all:
            with contextlib.suppress(RuntimeError):  # Ctrl-C interrupted its start
                thread.join()


class _Current(threading.local):
    """What the current thread does: whether it is one of the workers, and whether a numeric node runs in it."""

    is_worker = False
    computes = False


class ThreadWorkers:
    """Threads that start when they are needed and end with the last run that uses them.

    Numeric tasks run one at a time. One with the same model as the last goes before others, so that a model is loaded once.

    If a node runs a workflow on the same engine, tasks that would wait for the node's own thread run in it. If the system has no
    more threads, tasks run in the calling thread.
    """

    shares_memory = True

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._threads = _Threads()
        self._numeric_waiting: list[_Task] = []
        self._numeric_busy = False
        self._last_model: str | None = None
        self._current = _Current()

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        with self._lock:
            self._users += 1
        try:
            yield
        finally:
            self._leave()

    def prepare(self, demands: Sequence[Demand], cancel: CancelFlag) -> None:
        """Threads can run whatever this process can."""

    def submit(self, task: Sequence[Runnable], *, in_caller: bool = False) -> Callable[[], bool]:
        if in_caller and len(task) == 1 and not task[0].task.numeric:  # what a chain of nodes does
            task[0].run()
            return _has_begun
        waiting = _Task(task)
        if in_caller and not waiting.numeric:
            waiting.run()
            return _has_begun
        if in_caller and self._take_numeric_turn(waiting):
            self._run_numeric_task(waiting)
            return _has_begun
        if not (self._add_numeric(waiting) if waiting.numeric else self._add_plain(waiting)):
            waiting.run()
            return _has_begun
        return waiting.claim

    # --- tasks that are not numeric

    def _add_plain(self, task: _Task) -> bool:
        """False if the task has to run in the calling thread."""
        if self._current.is_worker or self._current.computes:
            return False
        with self._lock:
            threads = self._threads
            threads.plain_tasks += 1
            if threads.plain_threads < min(MAX_THREADS, threads.plain_tasks):
                threads.plain_threads += 1
                if not threads.start(self._run_plain, f"nodegraph_{threads.plain_threads - 1}"):
                    threads.plain_threads -= 1
            if not threads.plain_threads:
                return False
            threads.plain.put(task)
            return True

    def _run_plain(self, threads: _Threads) -> None:
        self._current.is_worker = True
        while (task := threads.plain.get()) is not None:
            if task.claim():
                task.run()
            del task  # frees what it holds before the next one comes

    # --- numeric tasks

    def _add_numeric(self, task: _Task) -> bool:
        """False if the task has to run in the calling thread."""
        if self._current.computes:
            return False
        with self._lock:
            if not self._threads.has_numeric_thread:
                self._threads.has_numeric_thread = self._threads.start(self._run_numeric, "nodegraph-numeric")
                if not self._threads.has_numeric_thread:
                    return False
            self._numeric_waiting.append(task)
            self._next_numeric()
            return True

    def _take_numeric_turn(self, task: _Task) -> bool:
        with self._lock:
            if self._numeric_busy or self._numeric_waiting:
                return False
            self._numeric_busy, self._last_model = True, task.model
            return True

    def _end_numeric_turn(self) -> None:
        with self._lock:
            self._numeric_busy = False
            self._next_numeric()

    def _next_numeric(self) -> None:
        """Give the numeric thread a task if it has none. The caller holds the lock."""
        while self._numeric_waiting and not self._numeric_busy:
            models = [task.model for task in self._numeric_waiting]
            same = self._last_model is not None and self._last_model in models
            task = self._numeric_waiting.pop(models.index(self._last_model) if same else 0)
            if not task.claim():
                continue  # its run took it back
            self._numeric_busy, self._last_model = True, task.model
            self._threads.numeric.put(task)

    def _run_numeric(self, threads: _Threads) -> None:
        self._current.is_worker = True
        while (task := threads.numeric.get()) is not None:
            self._run_numeric_task(task)
            del task

    def _run_numeric_task(self, task: _Task) -> None:
        """Run a task that has its turn."""
        self._current.computes = True
        try:
            task.run(self._end_numeric_turn)
        finally:
            self._current.computes = False

    def _leave(self) -> None:
        """A run no longer needs threads. After the last one, they end."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
            self._numeric_waiting.clear()  # taken back, all of them
            self._numeric_busy = False  # also if Ctrl-C came at the wrong moment
            threads, self._threads = self._threads, _Threads()
        threads.end()


def _has_begun() -> bool:
    """The task cannot be taken back."""
    return False
