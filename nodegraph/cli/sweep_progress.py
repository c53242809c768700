"""The progress of a sweep on stderr: which point is done, and how long the others will take."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final

from nodegraph.cli.progress import PlainProgress
from nodegraph.run import events
from nodegraph.run.display.time_left import duration
from nodegraph.terminal import escaped, is_terminal
from nodegraph.text import shortened

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from nodegraph.sweeps.points import Point

_FEW: Final = 50  # points, of which each has a line
_SECONDS: Final = 2.0  # between two lines if there are many
_LONGEST: Final = 70  # characters of the values of a point


class SweepProgress(PlainProgress):
    """A line for each point; if there are many, for some of them, and for each that fails. On a terminal, a bar below the lines."""

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        super().__init__(quiet=quiet, verbose=verbose)
        self._count = self._done = self._ran = 0
        self._began = self._last_line = time.monotonic()
        self._notices: set[tuple[str | None, str]] = set()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def begin(self, count: int) -> None:
        """The sweep has `count` points."""
        self._count, self._began = count, time.monotonic()
        if not self.quiet and is_terminal(sys.stderr):
            self._bar = _bar()
            self._task = self._bar.add_task("sweep", total=count, state="")
            self._bar.start()

    def add(self, point: Point) -> None:
        """A point is done, or has failed."""
        self._done += 1
        self._ran += not point.is_kept
        if self.quiet:
            return
        left = self._seconds_left()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done, state="" if left is None else f"{duration(left)} left")
        is_due = self._count <= _FEW or self._done == self._count or time.monotonic() - self._last_line >= _SECONDS
        if is_due or point.status == "failed":
            self._last_line = time.monotonic()
            state = "was done before" if point.is_kept else f"{point.status} in {point.seconds:.2f} s"
            still = "" if left is None or self._bar is not None else f", {duration(left)} left"
            number = str(point.number).rjust(len(str(self._count)))
            self.line(f"{number} of {self._count}  {shortened(point.name, _LONGEST)}  {state}{still}")
            if point.error is not None:
                self.line(f"  {point.error}")

    def __call__(self, event: events.Event) -> None:
        """Nodes have no lines of their own. A note that comes with many points is shown once."""
        if isinstance(event, events.Notice) and (event.is_waiting or not self.quiet):
            if (event.node, event.message) not in self._notices:
                self._notices.add((event.node, event.message))
                self.line(f"{event.node}  note: {event.message}" if event.node else f"note: {event.message}")
        elif isinstance(event, events.NodeProgress) and self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=escaped(f"{event.node} {event.step}/{event.steps}"))

    def line(self, text: str) -> None:
        if self._bar is None:
            super().line(text)
        else:
            self._bar.console.print(escaped(text), markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _seconds_left(self) -> float | None:
        """The time that the points that are left will take, if each takes as long as those that ran. None: that is not known."""
        left = self._count - self._done
        return (time.monotonic() - self._began) / self._ran * left if self._ran and left else None


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}", markup=False),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
