"""How long a run will still take: from the steps that nodes have done, and from the times of earlier runs."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Mapping


class Clock:
    """Measures the steps of a node per second, from its first step on, so that loading does not count."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None
        self._last: tuple[int, int, float] | None = None
        self._started = self._last_due = time.monotonic()
        self.rate = 0.0  # steps per second

    def step(self, step: int, steps: int) -> None:
        now = time.monotonic()
        self._last = step, steps, now
        if self._first is None:
            self._first = (step, now)
        elif now > self._first[1]:
            self.rate = (step - self._first[0]) / (now - self._first[1])

    def left(self, usual: float | None) -> float | None:
        """The seconds that the node will still take; `usual` is how long it took before. None if that is not known."""
        now = time.monotonic()
        if self._last is not None and self.rate:
            step, steps, at = self._last
            return max(0.0, (steps - step) / self.rate - (now - at))
        return None if usual is None else max(0.0, usual - (now - self._started))

    def is_due(self, seconds: float) -> bool:
        """Whether `seconds` have passed since this was last true."""
        now = time.monotonic()
        if now - self._last_due < seconds:
            return False
        self._last_due = now
        return True


class TimeLeft:
    """The time that is left for the nodes of one run, and for the run.

    `waiting` are the nodes that will run. `usual` returns how long each node takes usually; it is called once, when a time is first
    needed.
    """

    def __init__(self, waiting: Iterable[str] = (), usual: Callable[[], Mapping[str, float]] = dict) -> None:
        self._waiting = set(waiting)
        self._running: dict[str, Clock] = {}
        self._usual = functools.cache(usual)

    def started(self, node: str) -> Clock:
        """A node begins to run."""
        self._waiting.discard(node)
        return self._running.setdefault(node, Clock())

    def ended(self, node: str) -> Clock:
        """A node needs nothing more."""
        self._waiting.discard(node)
        return self._running.pop(node, None) or Clock()

    def of_node(self, node: str) -> float | None:
        """The seconds that a running node will still take; None if that is not known."""
        clock = self._running.get(node)
        return None if clock is None else clock.left(self._usual().get(node))

    def of_run(self) -> float | None:
        """The seconds that the run will still take, if its nodes run one after another; None if that is not known.

        Nodes that have never run are not counted.
        """
        usual = self._usual()
        times = [*(self.of_node(node) for node in self._running), *(usual.get(node) for node in self._waiting)]
        known = [seconds for seconds in times if seconds is not None]
        return sum(known) if known else None


def duration(seconds: float) -> str:
    """A time as a person says it: "14 s", "2 min 5 s", "3 h 20 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
