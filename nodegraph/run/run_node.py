"""Running one node: its arguments in, its values checked, kept and out."""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

from nodegraph.cache.cache import Cache, Hit, Made
from nodegraph.cache.file_digests import Fingerprints
from nodegraph.errors import Cancelled, NodeError, NodegraphError
from nodegraph.files import FileState, file_states
from nodegraph.graph.graph import GraphNode
from nodegraph.node_types import returned
from nodegraph.node_types.returned import ReturnTypeError
from nodegraph.node_types.spec import Run
from nodegraph.plugins.backend import Backend, Numerics
from nodegraph.run.events import Event, NodeProgress, NodeStarted, Notice
from nodegraph.run.known_results import value_of
from nodegraph.run.model_memory import Residents

T = TypeVar("T")

NOTHING: Final[Mapping[Any, Any]] = MappingProxyType({})

_FIXED: Final = frozenset({type(None), bool, int, float, str})  # nobody can change these in place


@dataclass(frozen=True)
class Surroundings:
    """What the engine lends to a run.

    `owner` names the plugin that a module is a part of. `machine` tells machines apart on which the same computation may round in
    another way.
    """

    cache: Cache
    backend: Backend
    files: Fingerprints
    residents: Residents
    numerics: Callable[[], Numerics]
    emit: Callable[[Event], None]
    cancelled: threading.Event
    owner: Callable[[str], str | None] = lambda module: None
    machine: str = ""


class Task(NamedTuple):
    """A node that is to run: its arguments, its content key, the files that are in the key, and the ports that are wanted.

    Without a key the result is not kept; `unkept` says why, where that is the node's own doing. A `forced` node runs though its
    result is there.
    """

    node: GraphNode
    arguments: Mapping[str, Any]
    key: str | None
    workflow: str
    files: Mapping[Path, str] = NOTHING
    wanted: frozenset[str] = frozenset()
    unkept: str | None = None
    forced: bool = False


class Outcome(NamedTuple):
    """What came of a task: values and digests by port, or the hit that another process left meanwhile, or the error.

    `kept`: the result was put under the content key. `changed`: a file that the node reads changed while it ran.
    """

    seconds: float
    values: Mapping[str, Any] = NOTHING
    digests: Mapping[str, str] = NOTHING
    notices: tuple[str, ...] = ()
    kept: bool = False
    changed: bool = False
    hit: Hit | None = None
    error: NodegraphError | None = None


def run_node(task: Task, around: Surroundings) -> Outcome:
    """Run a node and keep its result; may be called from any thread.

    Errors are in the outcome, not raised, whatever kind they are of: only Ctrl-C, which the main thread hears, is no node's doing.
    """
    run = NodeRun(task.node, around, task.files)
    started = time.perf_counter()
    try:
        with _sole(task, around) as hit:
            if hit is not None:
                return Outcome(time.perf_counter() - started, hit=hit)
            around.emit(NodeStarted(task.node.name))
            started = time.perf_counter()
            files = file_states(task.files)
            values = _computed(task, run, around)
            seconds = time.perf_counter() - started
            return _kept(task, values, files, seconds, run, around)
    except Cancelled as error:
        return Outcome(time.perf_counter() - started, notices=tuple(run.notices), error=error)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise
        failure = NodeError(task.node.name, task.node.spec.name, _said(task.node, error, around), task.node.where)
        failure.__cause__ = error
        return Outcome(time.perf_counter() - started, notices=tuple(run.notices), error=failure)


@contextlib.contextmanager
def _sole(task: Task, around: Surroundings) -> Iterator[Hit | None]:
    """Keeps other processes from computing the same; gives what one of them left since this one looked."""
    store = around.cache.store
    never = around.cache.codecs.never
    if task.key is None or store is None or all(never(port.type) for port in task.node.spec.outputs):
        yield None
        return

    def waiting() -> None:
        if around.cancelled.is_set():
            raise stopped()

    with store.lock(task.key, waiting) as waited:
        yield around.cache.lookup(task.key, task.wanted) if waited or not task.forced else None


def _computed(task: Task, run: NodeRun, around: Surroundings) -> dict[str, Any]:
    """The values by port, checked. Raises ReturnTypeError if the function did not keep to what a node is."""
    arguments = dict(task.arguments)
    if task.node.spec.run_parameter is not None:
        arguments[task.node.spec.run_parameter] = run
    before = _versions(arguments, around.cache)
    result = _call(task.node, arguments, around)
    for port, version in _versions(arguments, around.cache).items():
        if before[port] != version:
            raise ReturnTypeError(f"it changed its input '{port}' in place, which others may read")
    values = returned.by_port(task.node.spec, result)
    for port, value in values.items():
        wrong = _wrong(value, around.cache)
        if wrong:
            raise ReturnTypeError(f"'{port}': {wrong}")
    return values


def _wrong(value: Any, cache: Cache) -> str | None:
    """What is wrong with a value, or with one in a list of values, by its codec."""
    if value is None:
        return None
    codec = cache.codec(value)
    if codec is not None:
        return codec.check(value)
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return next(filter(None, (_wrong(part, cache) for part in parts)), None)


def _kept(
    task: Task,
    values: dict[str, Any],
    before: Mapping[Path, FileState | None],
    seconds: float,
    run: NodeRun,
    around: Surroundings,
) -> Outcome:
    """Put the result under its key, unless a file that is in the key changed while the run went on.

    `before` is the state of the files when the node began: one that was changed and changed back since may have been read between.
    """
    key = task.key
    changed = file_states(task.files) != before or not all(
        around.files.unchanged(path, digest) for path, digest in task.files.items()
    )
    if changed:
        key = None
        run.notice("a file that it reads was changed during the run; its result is used but not kept")
    elif task.unkept is not None:
        run.notice(f"its result is not kept: {task.unkept}")
    digests = {port: digest for port, value in values.items() if (digest := _digest(value, port, task, key, around.cache))}
    if key is not None:
        _compare(key, digests, run, around)
        made = Made(task.node.spec.name, task.workflow, task.node.name, seconds, tuple(run.notices), around.machine)
        for message in around.cache.put(key, values, digests, made, task.files):
            run.notice(message)
    return Outcome(seconds, values, digests, tuple(run.notices), kept=key is not None, changed=changed)


def _compare(key: str, digests: Mapping[str, str], run: NodeRun, around: Surroundings) -> None:
    """Say so where the same inputs gave another result before, on a machine of the same kind."""
    before = around.cache.peek(key)
    if before is None or before.made.machine != around.machine:
        return
    other = [port for port, digest in before.digests.items() if digests.get(port, digest) != digest]
    if other:
        run.notice(
            f"it is not deterministic: the same inputs gave another '{other[0]}' before. If that is meant, declare "
            f"@node(..., pure=False)"
        )


def _digest(value: Any, port: str, task: Task, key: str | None, cache: Cache) -> str | None:
    declared = task.node.spec.output(port)
    if declared is None or not cache.codecs.never(declared.type):
        digest = cache.digest(value)
        if digest is not None:
            return digest
    return None if key is None else value_of(key, port)


def _versions(arguments: Mapping[str, Any], cache: Cache) -> dict[str, Any]:
    """What tells whether a value was changed in place, by port."""
    return {port: _version(value, cache) for port, value in arguments.items() if type(value) not in _FIXED}


def _version(value: Any, cache: Cache) -> Any:
    """What the codec offers; of a list or a mapping, what is in it."""
    if type(value) in _FIXED:
        return value
    if isinstance(value, list):
        return [_version(item, cache) for item in value]
    if isinstance(value, dict):
        return {key: _version(item, cache) for key, item in value.items()}
    version = getattr(cache.codecs.for_type(type(value)), "version", None)
    return None if version is None else version(value)


def _call(node: GraphNode, arguments: Mapping[str, Any], around: Surroundings) -> Any:
    """What the function returns; when memory runs out, what can be freed is freed, and it is called once more."""
    try:
        return node.spec.function(**arguments)
    except Exception as error:
        if not _is_out_of_memory(error, around):
            raise
    # here and not above, where the error would still hold what the function had in hand
    around.emit(Notice(node.name, "memory ran out; what was kept for later is let go, and the node runs again"))
    around.cache.free()
    around.residents.clear()
    around.backend.free_memory()
    try:
        return node.spec.function(**arguments)
    except Exception as error:
        if _is_out_of_memory(error, around):
            raise MemoryError(f"twice ({_line(error)})") from error
        raise


def _is_out_of_memory(error: BaseException, around: Surroundings) -> bool:
    return isinstance(error, MemoryError) or around.backend.is_out_of_memory(error)


def _said(node: GraphNode, error: BaseException, around: Surroundings) -> str:
    """What went wrong, for people, and what to do next."""
    plugin = node.origin.plugin
    if isinstance(error, ReturnTypeError):
        return f"{error}. Nothing of it is kept; look at its inputs, or tell those who wrote plugin '{plugin}'"
    if isinstance(error, MemoryError):
        return f"memory ran out, {_line(error)}. Give it less at once, or another --device or --dtype"
    if isinstance(error, ValueError | OSError | NodegraphError) and str(error):
        return str(error)
    place = ""
    for frame, line in traceback.walk_tb(
        error.__traceback__
    ):  # the innermost plugin is the one to ask: a sampler that a node calls
        owner = around.owner(frame.f_globals.get("__name__", ""))
        if owner is not None:
            plugin, place = owner, f" ({frame.f_code.co_filename}:{line})"
    return (
        f"{type(error).__name__}: {_line(error)}{place}. If its inputs are right, this is a mistake in plugin '{plugin}'; "
        f"-v shows the whole way there"
    )


class NodeRun(Run):
    """The `Run` of one node while it runs."""

    def __init__(self, node: GraphNode, around: Surroundings, files: Mapping[Any, str]) -> None:
        self.notices: list[str] = []
        self._node, self._around = node.name, around
        self._scope = (node.origin.identity, tuple(sorted(files.values())))  # a model swapped under its name is another

    @property
    def device(self) -> str:  # type: ignore[override]
        """Where the run computes; asked of the plugins when a node first wants to know."""
        return self._around.numerics().device

    @property
    def dtype(self) -> str:  # type: ignore[override]
        """The dtype that the run computes in."""
        return self._around.numerics().dtype

    def step(self, i: int, n: int, preview: Callable[[], Any] | None = None) -> None:
        self._around.emit(NodeProgress(self._node, i, n, preview))
        if self._around.cancelled.is_set():
            raise stopped()

    def resident(self, key: Hashable, make: Callable[[], T]) -> T:
        return self._around.residents.get(self._scope, key, make)

    def notice(self, message: str) -> None:
        if message not in self.notices:  # a node that runs again says it again
            self.notices.append(message)
            self._around.emit(Notice(self._node, message))


def stopped() -> Cancelled:
    """What ends a run that somebody stopped."""
    return Cancelled("the run was stopped; what was finished is kept")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or "no message"
