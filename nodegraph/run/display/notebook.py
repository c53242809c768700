"""Progress of a run below the cell of a notebook, updated in place."""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
import time
from collections.abc import Callable, Mapping
from html import escape
from typing import Any, Final

from nodegraph.light_dataclass import dataclass
from nodegraph.run import events
from nodegraph.run.display.time_left import TimeLeft, duration
from nodegraph.run.display.values import shown
from nodegraph.run.plan import Plan

_UPDATE_SECONDS: Final = 0.2
_PREVIEW_SECONDS: Final = 1.0
_MOST_ROWS: Final = 12
_SHOWN: Final = {
    "running": "running",
    "ran": "done",
    "verified": "verified",
    "differed": "differs from the cache",
    "failed": "failed",
}


def is_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


@dataclass
class _Node:
    """A node that runs or has run."""

    state: str = "running"
    step: int = 0
    steps: int = 0
    seconds: float = 0.0


class NotebookProgress:
    """The progress of one run, as a table that `show` replaces while the run goes on.

    `usual` returns how long each node of a plan takes usually.
    """

    def __init__(self, usual: Callable[[Plan], Mapping[str, float]], show: Callable[[str], Any]) -> None:
        self._usual, self._show = usual, show
        self._nodes: dict[str, _Node] = {}
        self._cached = 0
        self._notes: list[str] = []
        self._time_left = TimeLeft()
        self._shown_at = self._preview_at = 0.0
        self._preview = ""
        self._ended: events.RunFinished | None = None
        self._lock = threading.Lock()

    def __call__(self, event: events.Event) -> None:
        with self._lock:
            self._note(event)
            now = time.monotonic()
            if self._ended is not None or now - self._shown_at >= _UPDATE_SECONDS:
                self._shown_at = now
                self._show(self.html())

    def _note(self, event: events.Event) -> None:
        match event:
            case events.RunStarted() | events.PlanExtended():
                plan = event.plan
                self._time_left = TimeLeft(plan.names("run"), lambda: self._usual(plan))
            case events.NodeStarted():
                self._time_left.started(event.node)
                self._nodes[event.node] = _Node()
            case events.NodeProgress():
                self._time_left.started(event.node).step(event.step, event.steps)
                node = self._nodes.setdefault(event.node, _Node())
                node.step, node.steps = event.step, event.steps
                self._look(event)
            case events.NodeFinished():
                self._time_left.ended(event.node)
                node = self._nodes.setdefault(event.node, _Node())
                node.state, node.seconds = event.status, event.seconds
            case events.NodeCached():
                self._time_left.ended(event.node)
                self._cached += 1
            case events.NodeFailed():
                self._time_left.ended(event.node)
                self._nodes.setdefault(event.node, _Node()).state = "failed"
            case events.Notice():
                self._notes.append(event.message if event.node is None else f"{event.node}: {event.message}")
            case events.RunFinished():
                self._ended, self._preview = event, ""

    def _look(self, event: events.NodeProgress) -> None:
        """Make a preview, if the node offers one that can be shown, and the last one is a while ago."""
        if event.preview is not None and time.monotonic() - self._preview_at >= _PREVIEW_SECONDS:
            with contextlib.suppress(Exception):  # a preview must not end a run
                self._preview = shown(event.preview()) or ""
            self._preview_at = time.monotonic()

    def html(self) -> str:
        """What the cell shows."""
        rows = [_row(name, node) for name, node in self._nodes.items() if self._ended is None or node.state == "failed"]
        hidden = len(rows) - _MOST_ROWS
        listed = ([f"<tr><td>and {hidden} before</td></tr>"] if hidden > 0 else []) + rows[-_MOST_ROWS:]
        table = f"<table>{''.join(listed)}</table>" if listed else ""
        notes = "".join(f"<div>note: {escape(note)}</div>" for note in self._notes)
        return f"<div><div>{escape(self._summary())}</div>{notes}{table}{self._preview}</div>"

    def _summary(self) -> str:
        ran = sum(node.state in ("ran", "verified", "differed") for node in self._nodes.values())
        counts = f"{ran} ran, {self._cached} cached"
        if self._ended is not None:
            return f"{self._ended.status} in {self._ended.seconds:.2f} s: {counts}"
        left = self._time_left.of_run()
        return f"running: {counts}{'' if left is None else f', {duration(left)} left'}"


def notebook_progress(usual: Callable[[Plan], Mapping[str, float]]) -> NotebookProgress:
    """Progress below the current cell of the notebook that this process is the kernel of."""
    display: Any = importlib.import_module("IPython.display")  # in a notebook it is there
    handle = display.display(display.HTML(""), display_id=True)
    return NotebookProgress(usual, lambda html: handle.update(display.HTML(html)))


def _row(name: str, node: _Node) -> str:
    bar = f'<progress max="{node.steps}" value="{node.step}"></progress> {node.step} of {node.steps}' if node.steps else ""
    seconds = f" in {node.seconds:.2f} s" if node.seconds else ""
    return f"<tr><td>{escape(name)}</td><td>{escape(_SHOWN.get(node.state, node.state))}{seconds}</td><td>{bar}</td></tr>"
