"""Where nodes run: one thread for those that compute with tensors, a few for the others."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

WORKERS = min(8, (os.cpu_count() or 1) + 2)
"""How many nodes that compute without tensors run at once: reading and decoding files waits more than it computes."""


class Lanes(Generic[T, R]):
    """Runs `work(item)` for items that are given, at most one numeric one at a time.

    A numeric item that comes of the same `group` as the last one goes before others, so that nodes of one model run together.
    Threads are started when two items first run at once; a chain of nodes needs none.
    """

    def __init__(self, work: Callable[[T], R]) -> None:
        self._work = work
        self._finished: queue.SimpleQueue[tuple[T, R]] = queue.SimpleQueue()
        self._plain: list[T] = []
        self._numeric: list[tuple[str | None, T]] = []
        self._running_plain = 0
        self._running_numeric = False
        self._group: str | None = None
        self._pools: tuple[ThreadPoolExecutor, ThreadPoolExecutor] | None = None

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
        """Wait until an item is done with. Call it while something runs or waits."""
        if not self.busy and len(self._plain) + len(self._numeric) == 1:
            item = self._plain.pop() if self._plain else self._take_numeric()
            return item, self._work(item)
        self._start()
        item, result = self._finished.get()
        return item, result

    def done(self, *, numeric: bool) -> None:
        """Note that an item which `next` gave from a thread has been dealt with."""
        if numeric and self._running_numeric:
            self._running_numeric = False
        elif not numeric and self._running_plain:
            self._running_plain -= 1

    def close(self) -> None:
        """Let what runs come to its end, and start nothing more."""
        self._plain.clear()
        self._numeric.clear()
        for pool in self._pools or ():
            pool.shutdown(wait=True, cancel_futures=True)

    def _start(self) -> None:
        if self._pools is None:
            self._pools = (ThreadPoolExecutor(1, "nodegraph-numeric"), ThreadPoolExecutor(WORKERS, "nodegraph"))
        if self._numeric and not self._running_numeric:
            self._running_numeric = True
            self._pools[0].submit(self._finish, self._take_numeric())
        while self._plain and self._running_plain < WORKERS:
            self._running_plain += 1
            self._pools[1].submit(self._finish, self._plain.pop(0))

    def _take_numeric(self) -> T:
        same = next((i for i, (group, _) in enumerate(self._numeric) if group is not None and group == self._group), 0)
        self._group, item = self._numeric.pop(same)
        return item

    def _finish(self, item: T) -> None:
        self._finished.put((item, self._work(item)))
