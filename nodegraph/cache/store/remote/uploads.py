"""Writing to a shared store in the background: a few threads that exist only while there is something to write."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

THREADS: Final = 4

MOST_WAITING: Final = 1 << 16
"""How many jobs wait. A job is a key; what it writes is read from the disk when its turn comes."""


class Uploads:
    """Jobs that are done in the background, in about the order in which they come. May be used from several threads.

    The threads keep the process alive until no job is left, so that a program that ends loses none.
    """

    def __init__(self, most: int = MOST_WAITING) -> None:
        self._most = most
        self._jobs: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._working = 0  # threads

    def add(self, job: Callable[[], None]) -> bool:
        """Do `job`, which raises nothing, soon. Returns False if too many jobs wait already."""
        with self._changed:
            if len(self._jobs) >= self._most:
                return False
            self._jobs.append(job)
            if self._working < THREADS:
                self._working += 1
                threading.Thread(target=self._work, name="nodegraph-shared-store", daemon=False).start()
            return True

    def drop(self) -> int:
        """Forget the jobs that wait. Returns how many they were."""
        with self._changed:
            count = len(self._jobs)
            self._jobs.clear()
            self._changed.notify_all()
            return count

    def wait(self, show: Callable[[int], None] = lambda left: None) -> None:
        """Wait until no job is left. `show` is called about once a second with the number of those that are."""
        with self._changed:
            while self._jobs or self._working:
                self._changed.wait(1.0)
                left = len(self._jobs) + self._working
                if left:
                    show(left)

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._jobs:
                    self._working -= 1
                    self._changed.notify_all()
                    return
                job = self._jobs.popleft()
            job()
