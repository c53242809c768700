"""What happens during a run: the events that `on_event` and `RunHandle.events` pass on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nodegraph.light_dataclass import dataclass

if TYPE_CHECKING:
    from nodegraph.errors import NodegraphError
    from nodegraph.run.plan import Plan

Status = Literal["done", "failed", "cancelled"]
FinishedStatus = Literal["ran", "verified", "differed"]


@dataclass(frozen=True)
class RunStarted:
    """A run begins. `plan` holds what will happen to each node."""

    run: str
    workflow: str
    plan: Plan


@dataclass(frozen=True)
class PlanExtended:
    """A value that decides what the graph consists of is known now. `plan` takes the place of the one before."""

    plan: Plan


@dataclass(frozen=True)
class NodeStarted:
    node: str


@dataclass(frozen=True)
class NodeProgress:
    """Step `step` of `steps` (from 1) of a running node is done.

    `preview` makes a value to show; None if the node offers none. Call it while the event is handled: later it
    may show a later state. It costs nothing unless it is called. `status` is text to show beside the step.
    """

    node: str
    step: int
    steps: int
    preview: Callable[[], Any] | None = None
    status: str = ""


@dataclass(frozen=True)
class NodeFinished:
    """A node has run. "verified" and "differed": its result was in the cache, and was the same or another one."""

    node: str
    seconds: float
    status: FinishedStatus = "ran"


@dataclass(frozen=True)
class NodeCached:
    """A node's result was in the cache, so the node does not run."""

    node: str


@dataclass(frozen=True)
class NodeFailed:
    node: str
    error: NodegraphError


@dataclass(frozen=True)
class Notice:
    """A message for the user. `node` is None if it concerns the run as a whole.

    `is_waiting`: the run does nothing until another process goes on. The command line shows this with --quiet, too.
    """

    node: str | None
    message: str
    is_waiting: bool = False


NodeEvent = NodeStarted | NodeProgress | Notice
"""What a running node emits."""


@dataclass(frozen=True)
class OutputWritten:
    output: str
    path: Path


@dataclass(frozen=True)
class RunFinished:
    status: Status
    seconds: float


Event = (
    RunStarted
    | PlanExtended
    | NodeStarted
    | NodeProgress
    | NodeFinished
    | NodeCached
    | NodeFailed
    | Notice
    | OutputWritten
    | RunFinished
)


class EventLog:
    """The events of one run, which any number of readers follow, each from the beginning and at its own pace.

    Of each node's progress only the latest event is kept, so the log does not grow with the number of steps.
    """

    def __init__(self) -> None:
        self._events: list[tuple[int, Event]] = []
        self._progress: dict[str, tuple[int, int, NodeProgress]] = {}  # number, position in `_events`, event of each running node
        self._number = 0
        self._closed = False
        self._changed = threading.Condition()

    def add(self, event: Event) -> None:
        with self._changed:
            if self._closed:
                return
            self._number += 1
            if isinstance(event, NodeProgress):
                self._progress[event.node] = self._number, len(self._events), event
            else:
                if isinstance(event, NodeFinished | NodeFailed):
                    self._keep_progress(event.node)
                self._events.append((self._number, event))
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing more will be added: readers end."""
        with self._changed:
            for node in [*self._progress]:
                self._keep_progress(node)
            self._closed = True
            self._changed.notify_all()

    def read(self) -> Iterator[Event]:
        """Every event from the beginning; waits for more until the log is closed."""
        position = 0  # in `_events`
        seen: dict[str, int] = {}  # the number of each node's latest progress
        while True:
            with self._changed:
                while (event := self._next(position, seen)) is None:
                    if self._closed:
                        return
                    self._changed.wait()
            number, is_logged, content = event
            position += is_logged
            if isinstance(content, NodeProgress):
                if number <= seen.get(content.node, 0):
                    continue  # read before the node ended
                seen[content.node] = number
            yield content

    def _next(self, position: int, seen: dict[str, int]) -> tuple[int, bool, Event] | None:
        """The next event of a reader: its number, whether it is in `_events`, and the event."""
        running = self._progress.values()
        latest = [(n, event) for n, after, event in running if n > seen.get(event.node, 0) and after <= position]
        if latest:
            number, progress = min(latest, key=lambda item: item[0])
            return number, False, progress
        if position < len(self._events):
            number, event = self._events[position]
            return number, True, event
        return None

    def _keep_progress(self, node: str) -> None:
        """Move the latest progress of a node that has ended to the other events, without the preview and what it holds."""
        if node in self._progress:
            number, _, event = self._progress.pop(node)
            self._events.append((number, NodeProgress(event.node, event.step, event.steps, status=event.status)))
