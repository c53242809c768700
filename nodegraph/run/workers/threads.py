"""Where nodes run: one thread for those that compute with tensors, a few for the others."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

WORKERS = min(8, (os.cpu_count() or 1) + 2)
"""How many nodes that compute without tensors run at once: reading and decoding files waits more than it computes."""

HANDED = 8 * WORKERS
"""How many of these are handed to the threads at once: those that do little then run one after another, and nobody waits."""


class Lanes(Generic[T, R]):
    """Runs `work(item)` for items that are given, at most one numeric one at a time.

    A numeric item that comes of the same `group` as the last one goes before others, so that nodes of one model run together.
    Threads are started when two items first run at once; a chain of nodes needs none.
    """

    def __init__(self, work: Callable[[T], R]) -> None:
        self._work = work
        self._finished: queue.SimpleQueue[tuple[T, R] | BaseException] = queue.SimpleQueue()
        self._plain: deque[T] = deque()
        self._numeric: list[tuple[str | None, T]] = []
        self._running_plain = 0
        self._running_numeric = False
        self._group: str | None = None
        self._threads: list[threading.Thread] = []
        self._tasks: queue.SimpleQueue[T | None] = queue.SimpleQueue()  # None: there will be no more
        self._numeric_tasks: queue.SimpleQueue[T | None] = queue.SimpleQueue()

    def add(self, item: T, *, numeric: bool, group: str | None = None) -> None:
        """An item that can run from now on; what was added first runs first."""
        if numeric:
            self._numeric.append((group, item))
        else:
            self._plain.append(item)

    @property
    def busy(self) -> bool:
        """Whether anything runs."""
        return self._running_numeric or self._running_plain > 0

    @property
    def waiting(self) -> bool:
        """Whether anything could run."""
        return bool(self._plain or self._numeric)

    def next(self) -> tuple[T, R]:
        """Wait until an item is done with. Call it while something runs or waits. Raises what `work` raised."""
        if not self.busy and len(self._plain) + len(self._numeric) == 1:
            item = self._plain.pop() if self._plain else self._take_numeric()
            return item, self._work(item)
        self._start()
        finished = self._finished.get()
        if isinstance(finished, BaseException):
            raise finished
        return finished

    def withdraw(self) -> None:
        """Start nothing more of what was added; what runs goes on."""
        self._plain.clear()
        self._numeric.clear()
        with contextlib.suppress(queue.Empty):
            while True:
                self._tasks.get_nowait()
                self._running_plain -= 1

    def done(self, *, numeric: bool) -> None:
        """Note that an item which `next` gave from a thread has been dealt with."""
        if numeric and self._running_numeric:
            self._running_numeric = False
        elif not numeric and self._running_plain:
            self._running_plain -= 1

    def close(self) -> None:
        """Let what runs come to its end, and start nothing more."""
        self.withdraw()
        self._numeric_tasks.put(None)
        for _ in range(WORKERS):
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def _start(self) -> None:
        if not self._threads:
            self._threads = [threading.Thread(target=self._run, args=(self._numeric_tasks,), name="nodegraph-numeric")]
            for i in range(WORKERS):
                self._threads.append(threading.Thread(target=self._run, args=(self._tasks,), name=f"nodegraph_{i}"))
            for thread in self._threads:
                thread.start()
        if self._numeric and not self._running_numeric:
            self._running_numeric = True
            self._numeric_tasks.put(self._take_numeric())
        while self._plain and self._running_plain < HANDED:
            self._running_plain += 1
            self._tasks.put(self._plain.popleft())

    def _take_numeric(self) -> T:
        same = next((i for i, (group, _) in enumerate(self._numeric) if group is not None and group == self._group), 0)
        self._group, item = self._numeric.pop(same)
        return item

    def _run(self, tasks: queue.SimpleQueue[T | None]) -> None:
        """What a thread does."""
        while (item := tasks.get()) is not None:
            try:
                self._finished.put((item, self._work(item)))
            except BaseException as error:  # a thread that dies is waited for without end
                self._finished.put(error)
            del item  # what it holds may be let go before the next one comes
