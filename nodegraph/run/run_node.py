"""Running one node: reading its inputs, calling its function, checking and storing what it returns."""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from nodegraph.cache.cache import Cache, CachedResult
from nodegraph.cache.store.records import Computation
from nodegraph.cache.store.store import LostResultError
from nodegraph.errors import Cancelled, NodegraphError
from nodegraph.files import FileState, file_states
from nodegraph.graph.graph import GraphNode, Input, ListWithLinks, ResolvedLink, Value
from nodegraph.node_types import returned
from nodegraph.node_types.returned import ReturnTypeError
from nodegraph.node_types.spec import Run
from nodegraph.run.events import NodeProgress, NodeStarted, Notice
from nodegraph.run.known_results import value_of
from nodegraph.run.task import NodeTask, Outcome, RunContext, stopped

T = TypeVar("T")

NodeEvent = NodeStarted | NodeProgress | Notice
"""What a running node emits."""

_IMMUTABLE: Final = frozenset({type(None), bool, int, float, str})


class NodeHost(Protocol):
    """What a running node needs from those that wait for it."""

    def emit(self, event: NodeEvent) -> None:
        """Pass an event on to every run that waits for the node."""

    def is_cancelled(self) -> bool:
        """Whether the node should stop."""

    def value(self, wire: ResolvedLink, key: str | None) -> Any:
        """The value behind a link, whose content key is `key`. Raises LostResultError if it is no longer in the cache."""


def run_node(task: NodeTask, context: RunContext, host: NodeHost) -> Outcome:
    """Run a node and store its result. May be called from any thread.

    Whatever the node raises is in the outcome. Raises only KeyboardInterrupt, in the main thread.
    """
    run = NodeRun(task, context, host)
    started = time.perf_counter()
    try:
        with _locked(task, context, host) as hit:
            if hit is not None:
                return Outcome(time.perf_counter() - started, hit=hit)
            try:
                arguments = {port: _argument(given, task, host) for port, given in task.node.inputs.items()}
            except LostResultError as error:
                return Outcome(error=error)
            host.emit(NodeStarted(task.node.name))
            started = time.perf_counter()
            files = file_states(task.files)
            values = _compute(task, arguments, run, context, host)
            seconds = time.perf_counter() - started
            return _store(task, values, files, seconds, run, context)
    except Cancelled as error:
        return Outcome(time.perf_counter() - started, notices=tuple(run.notices), error=error)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise
        message = _explain(task.node, error, context)
        return Outcome(time.perf_counter() - started, notices=tuple(run.notices), error=error, message=message)


@contextlib.contextmanager
def _locked(task: NodeTask, context: RunContext, host: NodeHost) -> Iterator[CachedResult | None]:
    """Hold the lock of the task's key against other processes. Yields the result if it has been stored since the last look."""
    store, codecs = context.cache.store, context.cache.codecs
    if task.key is None or store is None or all(codecs.never(port.type) for port in task.node.spec.outputs):
        look_again = task.key is not None and not task.forced and context.overlapped()
        yield context.cache.lookup(task.key, task.wanted) if look_again and task.key is not None else None
        return

    def waiting() -> None:
        if host.is_cancelled():
            raise stopped()

    with store.lock(task.key, waiting) as waited:
        yield context.cache.lookup(task.key, task.wanted) if waited or not task.forced else None


def _argument(given: Input, task: NodeTask, host: NodeHost) -> Any:
    if isinstance(given, Value):
        return given.value
    if isinstance(given, ListWithLinks):
        return [_argument(item, task, host) for item in given.items]
    return host.value(given, task.sources.get(given))


def _compute(task: NodeTask, arguments: dict[str, Any], run: NodeRun, context: RunContext, host: NodeHost) -> dict[str, Any]:
    """The values by port, checked. Raises ReturnTypeError if the function breaks the rules for nodes."""
    if task.node.spec.run_parameter is not None:
        arguments[task.node.spec.run_parameter] = run
    before = _versions(arguments, context.cache)
    result = _call(task.node, arguments, context, host)
    for port, version in _versions(arguments, context.cache).items():
        if before[port] != version:
            raise ReturnTypeError(f"it changed its input '{port}' in place, which others may read")
    values = returned.by_port(task.node.spec, result)
    for port, value in values.items():
        problem = _problem(value, context.cache)
        if problem:
            raise ReturnTypeError(f"'{port}': {problem}")
    return values


def _problem(value: Any, cache: Cache) -> str | None:
    """What the codec finds wrong with a value, or with a value in a list or mapping; None if nothing."""
    if value is None:
        return None
    codec = cache.codec(value)
    if codec is not None:
        return codec.check(value)
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return next(filter(None, (_problem(part, cache) for part in parts)), None)


def _store(
    task: NodeTask,
    values: dict[str, Any],
    before: Mapping[Path, FileState | None],
    seconds: float,
    run: NodeRun,
    context: RunContext,
) -> Outcome:
    """Store the result under its key, unless a file in the key changed while the node ran.

    `before` is the state of the files when the node began. A file that was changed and changed back may have been read in between.
    """
    key = task.key
    same_content = (context.files.unchanged(path, digest) for path, digest in task.files.items())
    changed = file_states(task.files) != before or not all(same_content)
    if changed:
        key = None
        run.notice("a file that it reads was changed during the run; its result is used but not kept")
    elif task.unkept is not None:
        run.notice(f"its result is not kept: {task.unkept}")
    digests = {port: digest for port, value in values.items() if (digest := _digest(value, port, task, key, context.cache))}
    if key is not None:
        _compare(key, digests, run, context)
        computation = Computation(
            type=task.node.spec.name,
            workflow=task.workflow,
            node=task.node.name,
            seconds=seconds,
            notices=tuple(run.notices),
            machine=context.machine,
        )
        for message in context.cache.put(key, values, digests, computation, files=task.files):
            run.notice(message)
    return Outcome(seconds, values, digests, tuple(run.notices), kept=key is not None, changed=changed)


def _compare(key: str, digests: Mapping[str, str], run: NodeRun, context: RunContext) -> None:
    """Add a notice if the same inputs gave another result before, on the same kind of machine."""
    before = context.cache.peek(key)
    if before is None or before.computation.machine != context.machine:
        return
    other = [port for port, digest in before.digests.items() if digests.get(port, digest) != digest]
    if other:
        run.notice(
            f"it is not deterministic: the same inputs gave another '{other[0]}' before. If that is meant, declare "
            f"@node(..., pure=False)"
        )


def _digest(value: Any, port: str, task: NodeTask, key: str | None, cache: Cache) -> str | None:
    declared = task.node.spec.output(port)
    if declared is None or not cache.codecs.never(declared.type):
        digest = cache.digest(value)
        if digest is not None:
            return digest
    return None if key is None else value_of(key, port)


def _versions(arguments: Mapping[str, Any], cache: Cache) -> dict[str, Any]:
    """For each argument that can be changed in place, what differs once it is."""
    return {port: _version(value, cache) for port, value in arguments.items() if type(value) not in _IMMUTABLE}


def _version(value: Any, cache: Cache) -> Any:
    """The version that the codec reports; for a list or a mapping, those of its items."""
    if type(value) in _IMMUTABLE:
        return value
    if isinstance(value, list):
        return [_version(item, cache) for item in value]
    if isinstance(value, dict):
        return {key: _version(item, cache) for key, item in value.items()}
    version = getattr(cache.codecs.for_type(type(value)), "version", None)
    return None if version is None else version(value)


def _call(node: GraphNode, arguments: Mapping[str, Any], context: RunContext, host: NodeHost) -> Any:
    """What the function returns. If memory runs out, memory is freed and the function is called once more."""
    try:
        return node.spec.function(**arguments)
    except Exception as error:
        if not _is_out_of_memory(error, context):
            raise
    # after the block: inside it, the error's traceback would keep the function's own values alive
    host.emit(Notice(node.name, "memory ran out; everything kept for later is freed, and the node runs again"))
    context.cache.free()
    context.models.clear()
    context.backend.free_memory()
    try:
        return node.spec.function(**arguments)
    except Exception as error:
        if _is_out_of_memory(error, context):
            raise MemoryError(f"twice ({_one_line(error)})") from error
        raise


def _is_out_of_memory(error: BaseException, context: RunContext) -> bool:
    return isinstance(error, MemoryError) or context.backend.is_out_of_memory(error)


def _explain(node: GraphNode, error: BaseException, context: RunContext) -> str:
    """What went wrong and what to do next."""
    plugin = node.origin.plugin
    if isinstance(error, ReturnTypeError):
        return f"{error}. Its result is not kept. Check its inputs, or report this to the authors of plugin '{plugin}'"
    if isinstance(error, MemoryError):
        return f"memory ran out, {_one_line(error)}. Reduce what it computes at once, or try another --device or --dtype"
    if isinstance(error, ValueError | OSError | NodegraphError) and str(error):
        return str(error)
    source = ""
    for frame, line in traceback.walk_tb(error.__traceback__):  # the innermost plugin is at fault: a function that a node calls
        owner = context.owner(frame.f_globals.get("__name__", ""))
        if owner is not None:
            plugin, source = owner, f" ({frame.f_code.co_filename}:{line})"
    return (
        f"{type(error).__name__}: {_one_line(error)}{source}. If its inputs are right, this is a mistake in plugin '{plugin}'; "
        f"-v shows the full traceback"
    )


class NodeRun(Run):
    """The `Run` that a node receives while it runs."""

    def __init__(self, task: NodeTask, context: RunContext, host: NodeHost) -> None:
        self.notices: list[str] = []
        self._node, self._context, self._host = task.node.name, context, host
        # the digests: a model file that is replaced under the same name is another model
        self._scope = (task.node.origin.identity, tuple(sorted(task.files.values())))

    @property
    def device(self) -> str:  # type: ignore[override]
        """Where the run computes. The backend is asked the first time that a node reads this."""
        return self._context.numerics().device

    @property
    def dtype(self) -> str:  # type: ignore[override]
        """The dtype that the run computes in."""
        return self._context.numerics().dtype

    def step(self, i: int, n: int, preview: Callable[[], Any] | None = None) -> None:
        self._host.emit(NodeProgress(self._node, i, n, preview))
        if self._host.is_cancelled():
            raise stopped()

    def resident(self, key: Hashable, make: Callable[[], T]) -> T:
        return self._context.models.get(self._scope, key, make)

    def notice(self, message: str) -> None:
        if message not in self.notices:  # a node that runs twice repeats itself
            self.notices.append(message)
            self._host.emit(Notice(self._node, message))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or "no message"
