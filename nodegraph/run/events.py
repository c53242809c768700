"""What happens while a run goes on, as it is told to the engine's `on_event` and to the hook of that name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from nodegraph.errors import NodegraphError
    from nodegraph.run.plan import Plan

Status = Literal["done", "failed", "cancelled"]


@dataclass(frozen=True)
class RunStarted:
    """A run begins; `plan` says for each node whether it will run."""

    run: str
    workflow: str
    plan: Plan


@dataclass(frozen=True)
class NodeStarted:
    node: str


@dataclass(frozen=True)
class NodeProgress:
    """Step `step` of `steps` (from 1) of a running node is done.

    `preview`, where the node offers one, makes a value to look at (such as an Image); call it while the event is heard, for what it
    shows may change afterwards. Who does not call it pays nothing.
    """

    node: str
    step: int
    steps: int
    preview: Callable[[], Any] | None = None


@dataclass(frozen=True)
class NodeFinished:
    node: str
    seconds: float


@dataclass(frozen=True)
class NodeCached:
    """A node's result was found, and used in place of running it."""

    node: str


@dataclass(frozen=True)
class NodeFailed:
    node: str
    error: NodegraphError


@dataclass(frozen=True)
class Notice:
    """Something worth knowing; `node` is None where it is about the run as a whole."""

    node: str | None
    message: str


@dataclass(frozen=True)
class OutputWritten:
    output: str
    path: Path


@dataclass(frozen=True)
class RunFinished:
    status: Status
    seconds: float


Event = RunStarted | NodeStarted | NodeProgress | NodeFinished | NodeCached | NodeFailed | Notice | OutputWritten | RunFinished
