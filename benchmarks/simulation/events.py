"""Discrete events: a clock that jumps from one event to the next, and a server with a queue."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

Action = Callable[[], None]


class Clock:
    """Runs actions at their times; those of the same time in the order in which they were added."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Action]] = []
        self._numbers = itertools.count()

    def after(self, seconds: float, action: Action) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), action))

    def run(self) -> None:
        """Run until there are no more events."""
        while self._events:
            self.now, _, action = heapq.heappop(self._events)
            action()


class Server:
    """Does one thing at a time, in the order in which they come."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._free_at = 0.0
        self.busy = 0.0
        self.waited = 0.0
        self.served = 0

    def serve(self, seconds: float, then: Action) -> None:
        """Take `seconds` once everything before is done, and then call `then`."""
        begins = max(self._free_at, self._clock.now)
        self.waited += begins - self._clock.now
        self.busy += seconds
        self.served += 1
        self._free_at = begins + seconds
        self._clock.after(self._free_at - self._clock.now, then)
