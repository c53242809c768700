"""What passes between the scheduler and a node that runs: the task, the run's context, and the outcome.

Tasks and outcomes are tuples: making a frozen dataclass takes three times as long, and each node needs one of each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from nodegraph.cache.cache import Cache
from nodegraph.cache.dependencies import joined
from nodegraph.cache.file_digests import FileDigests
from nodegraph.cache.results import CachedResult
from nodegraph.cache.snapshots import Snapshot
from nodegraph.errors import Cancelled
from nodegraph.files import FileState
from nodegraph.graph.graph import Limit, ResolvedLink, Value
from nodegraph.light_dataclass import dataclass
from nodegraph.plugins.backend import Numerics
from nodegraph.plugins.manager import Plugins
from nodegraph.run.events import Event
from nodegraph.run.model_memory import ModelMemory

if TYPE_CHECKING:
    from nodegraph.run.verification import WrongResult

_NO_VALUES: Final[Mapping[str, Snapshot]] = {}
_NO_DIGESTS: Final[Mapping[str, str]] = {}
_NO_STATES: Final[Mapping[Path, FileState | None]] = {}


class CancelFlag:
    """Whether a run has been asked to stop. `set` takes no lock, so a signal handler may call it."""

    def __init__(self) -> None:
        self.is_set = False
        self.wake: Callable[[], None] = lambda: None  # interrupts the scheduler while it waits

    def set(self) -> None:
        self.is_set = True
        self.wake()


@dataclass(frozen=True, kw_only=True, eq=False)
class RunContext:
    """What one run works with.

    The engine shares `plugins`, `files` and `models` between runs. `cache` is the run's own view of the results: warnings and
    uses belong to this run. `machine` differs between machines on which the same computation may round differently. `overlapped`
    returns whether another run was active at the same time.
    """

    cache: Cache
    plugins: Plugins
    files: FileDigests
    models: ModelMemory
    numerics: Callable[[], Numerics]
    emit: Callable[[Event], None]
    machine: str = ""
    cancel: CancelFlag = field(default_factory=CancelFlag)
    overlapped: Callable[[], bool] = lambda: False


@dataclass(frozen=True, kw_only=True, slots=True)
class RegisteredInput:
    """A registered thing, by the name of its registry and its own."""

    registry: str
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredInput:
    """A value given in Python that the cache has under `key` and `port`."""

    key: str
    port: str


@dataclass(frozen=True, kw_only=True, slots=True)
class InputList:
    """A list with links in it."""

    items: tuple[TaskInput, ...]


TaskInput = Value | RegisteredInput | StoredInput | ResolvedLink | InputList
"""What a port of a task receives. A `Value` holds a literal; registered things are named instead."""


class NodeTask(NamedTuple):
    """A node to run, as plain data: a worker finds the function by the name of the node's type.

    `code` identifies the plugin and its code, as in keys; a worker with another state of the code refuses the task. `key` is the
    content key; without one the result is not stored, and `uncached_reason` says why if it is because of the node itself.
    `sources` holds the key under which the cache has the value behind each link, None if it is only in memory. `files` are the
    digests of the files in the key, `wanted` the ports whose values are needed. `passed_on` are those that tasks of workers
    without shared memory read from the cache: they are stored even if there is no key. A `forced` node runs even if its result
    is stored. A `checked` node does so, too, and the stored result is compared with what it computes. One `numeric` node runs at a
    time per device. `model` is the digest of the model that the node computes with: tasks with the same one run one after another.
    `opened` are files that its inputs without a codec may read only now, such as models, in the state in which the key covers them.
    `work_key` is that of its unfinished work, None for most node types.
    `inherited` is what its inputs depend on if their digests do not show it (see `KnownResults.inherited`). `limits` are ranges in
    which linked inputs have to be besides those of their ports.
    """

    node: str
    type: str
    code: str
    workflow: str
    inputs: Mapping[str, TaskInput]
    key: str | None
    sources: Mapping[ResolvedLink, str | None]
    files: Mapping[Path, str]
    wanted: frozenset[str] = frozenset()
    passed_on: frozenset[str] = frozenset()
    uncached_reason: str | None = None
    forced: bool = False
    checked: bool = False
    numeric: bool = False
    model: str | None = None
    opened: Mapping[Path, FileState | None] = _NO_STATES
    inherited: Mapping[str, str] = _NO_DIGESTS
    work_key: str | None = None
    limits: tuple[tuple[str, Limit], ...] = ()

    def after(self, earlier: Mapping[str, tuple[NodeTask, Outcome]]) -> NodeTask:
        """This task as it is to be run after nodes in `earlier`, by name, which belong to the same task of a worker.

        It has no key if it takes a value of a node whose result was not stored, and inherits what values depend on that it takes.
        """
        key, inherited = self.key, self.inherited
        for link in self.sources:
            if link.node in earlier:
                task, outcome = earlier[link.node]
                key = key if outcome.stored or outcome.hit is not None else None
                depends = outcome.depends if outcome.hit is None else outcome.hit.depends()
                inherited = joined(inherited, joined(task.inherited, depends))
        return self._replace(key=key, inherited=inherited)


class Demand(NamedTuple):
    """A node that workers in other processes may have to run.

    It is `numeric` or not. With `model`, it computes with a value that only memory can hold. `files` are those of its task, with
    their digests.
    """

    numeric: bool
    model: bool
    files: Mapping[Path, str]


class Outcome(NamedTuple):
    """What became of a task: values and digests by port, a result that another process stored meanwhile, or an error.

    `stored`: the result is stored under the content key. `doubtful`: it may not be what that key stands for, as if a file was
    changed while the node read it; only the run that began the node may use it. `depends`: what the values depend on besides the
    key. `error` is what the node raised, and `message` explains it. `verified`: the stored result of a checked node is the same;
    `wrong` describes one that is not. `abandoned`: there is no outcome that this run can use; if it still needs one, it starts over
    with this node. Workers that share no memory leave `values` out, and those of the hit.
    """

    seconds: float = 0.0
    values: Mapping[str, Snapshot] = _NO_VALUES
    digests: Mapping[str, str] = _NO_DIGESTS
    notices: tuple[str, ...] = ()
    stored: bool = False
    hit: CachedResult | None = None
    error: BaseException | None = None
    message: str = ""
    verified: bool = False
    wrong: WrongResult | None = None
    abandoned: bool = False
    doubtful: bool = False
    depends: Mapping[str, str] = _NO_DIGESTS


def stopped() -> Cancelled:
    """The error that ends a cancelled run."""
    return Cancelled("the run was stopped; what was finished is kept")
