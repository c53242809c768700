"""What passes between the scheduler and a node that runs: the task, the run's context, and the outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from nodegraph.cache.cache import Cache, CachedResult
from nodegraph.cache.file_digests import FileDigests
from nodegraph.errors import Cancelled
from nodegraph.graph.graph import GraphNode, ResolvedLink
from nodegraph.plugins.backend import Backend, Numerics
from nodegraph.run.events import Event
from nodegraph.run.model_memory import ModelMemory

NOTHING: Final[Mapping[Any, Any]] = MappingProxyType({})


class CancelFlag:
    """Whether a run has been asked to stop. `set` takes no lock, so a signal handler may call it."""

    def __init__(self) -> None:
        self.is_set = False
        self.wake: Callable[[], None] = lambda: None  # interrupts the scheduler while it waits

    def set(self) -> None:
        self.is_set = True
        self.wake()


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """What one run works with.

    The engine shares `backend`, `files` and `models` between runs. `cache` is the run's own view of the results: warnings and
    uses belong to this run. `owner` returns the plugin that a module belongs to. `machine` differs between machines on which the
    same computation may round differently. `overlapped` tells whether another run of the engine has been active meanwhile.
    """

    cache: Cache
    backend: Backend
    files: FileDigests
    models: ModelMemory
    numerics: Callable[[], Numerics]
    emit: Callable[[Event], None]
    owner: Callable[[str], str | None] = lambda module: None
    machine: str = ""
    cancel: CancelFlag = field(default_factory=CancelFlag)
    overlapped: Callable[[], bool] = lambda: False


class NodeTask(NamedTuple):
    """A node to run, as data: its literals and links, and keys and digests in place of values.

    `key` is the content key; without one the result is not stored, and `unkept` gives the reason if it is the node's own.
    `sources` holds the content key of the node behind each link, None if that has no key. `files` are the digests of the files
    in the key, `wanted` the ports whose values are needed. A `forced` node runs even if its result is stored. `model` is the
    digest of the model that the node computes with: tasks with the same one run one after another.
    """

    node: GraphNode
    key: str | None
    workflow: str
    sources: Mapping[ResolvedLink, str | None]
    files: Mapping[Path, str]
    wanted: frozenset[str] = frozenset()
    unkept: str | None = None
    forced: bool = False
    model: str | None = None


class Outcome(NamedTuple):
    """What became of a task: values and digests by port, a result that another process stored meanwhile, or an error.

    `kept`: the result is stored under the content key. `changed`: a file that the node reads changed while it ran. `error` is
    what the node raised, and `message` explains it. `again`: there is no outcome, and a run that still needs one starts over.
    """

    seconds: float = 0.0
    values: Mapping[str, Any] = NOTHING
    digests: Mapping[str, str] = NOTHING
    notices: tuple[str, ...] = ()
    kept: bool = False
    changed: bool = False
    hit: CachedResult | None = None
    error: BaseException | None = None
    message: str = ""
    again: bool = False


def stopped() -> Cancelled:
    """The error that ends a cancelled run."""
    return Cancelled("the run was stopped; what was finished is kept")
