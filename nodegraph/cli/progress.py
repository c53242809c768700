"""The progress of a run on stderr: one line for each node.

`progress()` chooses the display: live on a terminal, plain lines elsewhere, nothing with --quiet. The engine calls it with every
event.
"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from nodegraph.run import events
from nodegraph.run.display.time_left import Clock, TimeLeft, duration
from nodegraph.run.record import usual_times
from nodegraph.terminal import echo, escaped, is_terminal

if TYPE_CHECKING:
    from pathlib import Path

    from rich.progress import Progress, TaskID

    from nodegraph.run.plan import Plan

_PLAIN_STEP_SECONDS = 10.0  # between two lines about the steps of one node
_KEY_DIGITS = 16
_FINISHED = {"ran": "done", "verified": "verified", "differed": "differs from the cache, computed"}


class PlainProgress:
    """Plain lines: which nodes were cached, which ran and for how long, and a step of a long node every 10 s."""

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        self.quiet, self.verbose = quiet, verbose
        self.plan: Plan | None = None
        self.records: Path | None = None  # the records of earlier runs
        self.width = 0
        self.time_left = TimeLeft()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __call__(self, event: events.Event) -> None:
        if self.quiet and not (isinstance(event, events.Notice) and event.is_waiting):
            return
        match event:
            case events.RunStarted() | events.PlanExtended():
                known = {} if self.plan is None else self.plan.graph.seeds
                plan = self.plan = event.plan
                self.time_left = TimeLeft(plan.names("run"), lambda: usual_times(plan, self.records))
                self.width = max((len(name) for name, action in plan.actions.items() if action != "pruned"), default=0)
                for name, seed in plan.graph.seeds.items():
                    if name not in known:
                        self.line(f"{name} is {seed}, drawn at random")
                for name in plan.names("run"):
                    if (takes := plan.graph.nodes[name].takes) and isinstance(event, events.RunStarted):
                        self.line(f"note: {name} is not in the cache yet, and takes {takes}")
            case events.NodeStarted():
                self.time_left.started(event.node)
                self.started(event.node)
            case events.NodeProgress():
                clock = self.time_left.started(event.node)
                clock.step(event.step, event.steps)
                self.stepped(event, clock)
            case events.NodeFinished():
                rate = self.time_left.ended(event.node).rate
                speed = f" ({_speed(rate)})" if rate else ""
                self.settled(event.node, f"{_FINISHED[event.status]} in {event.seconds:.2f} s{speed}")
            case events.NodeCached():
                self.time_left.ended(event.node)
                self.settled(event.node, "cached")
            case events.NodeFailed():
                self.time_left.ended(event.node)
                self.settled(event.node, "failed")
            case events.Notice():
                node = f"{event.node.ljust(self.width)}  " if event.node else ""
                self.line(f"{node}note: {event.message}")
            case events.RunFinished():
                self.finished(event)

    def started(self, node: str) -> None:
        """Show that a node begins to run."""

    def stepped(self, event: events.NodeProgress, clock: Clock) -> None:
        """Show that a node finished a step."""
        if event.step < event.steps and clock.is_due(_PLAIN_STEP_SECONDS):
            speed, left = _speed(clock.rate), self._left(event.node)
            self.line(f"{event.node.ljust(self.width)}  {_step(event)}, {speed}{left}")

    def settled(self, node: str, state: str) -> None:
        """Show the final state of a node."""
        known = self.plan.known.key(node) if self.verbose and self.plan else None
        key = f"  {known[:_KEY_DIGITS]}" if known else ""
        self.line(f"{node.ljust(self.width)}  {state}{key}")

    def _left(self, node: str) -> str:
        """The time that is left for a node, and for the run if that is longer."""
        of_node, of_run = self.time_left.of_node(node), self.time_left.of_run()
        if of_node is None or of_run is None:
            return ""
        longer = f", {duration(of_run)} for the run" if of_run - of_node >= 1 else ""
        return f", {duration(of_node)} left{longer}"

    def finished(self, event: events.RunFinished) -> None:
        """Show that the run ended."""
        self.close()
        if self.verbose and self.plan:
            pruned = [node for node, action in self.plan.actions.items() if action == "pruned"]
            if pruned:
                self.line(f"not needed: {', '.join(pruned)}")
        self.line(f"{event.status} in {event.seconds:.2f} s")

    def line(self, text: str) -> None:
        """Write a line that stays."""
        echo(text, err=True)

    def close(self) -> None:
        """Restore the terminal."""


class LiveProgress(PlainProgress):
    """Lines that stay, and below them a live line for each running node; rich is imported when the first node runs."""

    def __init__(self, *, verbose: bool = False) -> None:
        super().__init__(verbose=verbose)
        self._display: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def started(self, node: str) -> None:
        if self._display is None:
            self._display = _live_display(self.time_left)
            self._display.start()
            if self.plan is not None and len(self.plan.names("run")) > 1:
                self._display.add_task("run".ljust(self.width), total=None, state="", node=None)
        self._tasks[node] = self._display.add_task(escaped(node).ljust(self.width), total=None, state="running", node=node)

    def stepped(self, event: events.NodeProgress, clock: Clock) -> None:
        if self._display is not None and event.node in self._tasks:
            rate = f", {_speed(clock.rate)}" if clock.rate else ""
            state = f"{_step(event)}{rate}"
            self._display.update(self._tasks[event.node], completed=event.step, total=event.steps, state=state)

    def settled(self, node: str, state: str) -> None:
        task = self._tasks.pop(node, None)
        if task is not None and self._display is not None:
            self._display.remove_task(task)
        super().settled(node, state)

    def line(self, text: str) -> None:
        if self._display is None:
            super().line(text)
        else:
            self._display.console.print(escaped(text), markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        if self._display is not None:
            self._display.stop()
            self._display = None


def progress(*, quiet: bool, verbose: bool) -> PlainProgress:
    """The display that fits stderr."""
    if quiet or not is_terminal(sys.stderr):
        return PlainProgress(quiet=quiet, verbose=verbose)
    return LiveProgress(verbose=verbose)


def _step(event: events.NodeProgress) -> str:
    return f"step {event.step} of {event.steps}{f', {event.status}' if event.status else ''}"


def _speed(rate: float) -> str:
    return f"{rate:.2f} it/s" if rate >= 1 or not rate else f"{1 / rate:.2f} s/it"


def _live_display(time_left: TimeLeft) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
    from rich.text import Text

    class TimeLeftColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            node = task.fields["node"]
            seconds = time_left.of_run() if node is None else time_left.of_node(node)
            return Text("" if seconds is None else f"{duration(seconds)} left")

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[state]}", markup=False),
        TimeElapsedColumn(),
        TimeLeftColumn(),
        console=Console(stderr=True),
        transient=True,
    )
