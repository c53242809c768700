"""Computing the next points of a sweep in the background, so that workers in other processes have enough to do.

A point has two runs then. The one ahead leaves nothing but results in the cache: no files, events or record. So if an earlier point
fails, or the sweep is stopped, it is as if later points had not begun, and files appear in the order of the points.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from nodegraph.errors import NodegraphError
from nodegraph.run.handle import RunHandle


class RunsAhead:
    """Keeps the runs of the next points going. A point's own run then finds their results, or waits for them.

    `begin` begins the run of a point, given its number and values. `count` returns how many there are to be: it is more once
    workers have started.
    """

    def __init__(
        self,
        points: Iterator[tuple[int, Sequence[Any]]],
        begin: Callable[[int, Sequence[Any]], RunHandle],
        count: Callable[[], int],
    ) -> None:
        self._points, self._begin, self._count = points, begin, count
        self._runs: deque[RunHandle] = deque()

    def advance(self) -> None:
        """A point begins: begin runs as long as fewer than `count()` points after it have one."""
        if self._runs:
            self._runs.popleft()  # that of the point itself: it goes on
        count = self._count()
        for number, values in self._points:
            self._runs.append(self._begin(number, values))
            if len(self._runs) > count:
                break

    def stop(self) -> None:
        """Cancel what goes on, and wait for it."""
        for run in self._runs:
            run.cancel()
        for run in self._runs:
            with contextlib.suppress(NodegraphError):  # the workflow is wrong: its point says so
                run.result()
        self._runs.clear()
