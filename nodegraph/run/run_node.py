"""Running one node: reading its inputs, calling its function, checking and storing what it returns."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from nodegraph.cache.cache import Cache, CachedResult
from nodegraph.cache.store.records import Computation
from nodegraph.cache.store.store import LostResultError
from nodegraph.errors import CacheError, Cancelled, NodegraphError, PluginError
from nodegraph.files import FileState, file_states
from nodegraph.graph.graph import ResolvedLink, Value
from nodegraph.node_types import returned
from nodegraph.node_types.returned import ReturnTypeError
from nodegraph.node_types.spec import NodeSpec, Port, Run
from nodegraph.run.events import NodeEvent, NodeProgress, NodeStarted, Notice
from nodegraph.run.known_results import key_of_value, value_of
from nodegraph.run.tasks.task import InputList, NodeTask, Outcome, RunContext, StoredInput, TaskInput, stopped

T = TypeVar("T")

_IMMUTABLE: Final = frozenset({type(None), bool, int, float, str})


class NodeHost(Protocol):
    """What a running node needs from those that wait for it."""

    def emit(self, event: NodeEvent) -> None:
        """Pass an event on to every run that waits for the node."""

    def is_cancelled(self) -> bool:
        """Whether the node should stop."""

    def value(self, link: ResolvedLink, key: str | None) -> Any:
        """The value behind a link, which the cache has under `key`. Raises LostResultError if it is no longer there."""


def run_node(task: NodeTask, context: RunContext, host: NodeHost) -> Outcome:
    """Run a node and store its result. May be called from any thread.

    Whatever the node raises is in the outcome. Raises only KeyboardInterrupt, in the main thread.
    """
    run = NodeRun(task, context, host)
    started = time.perf_counter()
    try:
        spec = _node_type(task, context)
        with _locked(task, spec, context, host) as hit:
            if hit is not None:
                return Outcome(seconds=time.perf_counter() - started, hit=hit)
            try:
                arguments = {port: _argument(input, task, context, host) for port, input in task.inputs.items()}
            except LostResultError as error:
                return Outcome(error=error)
            host.emit(NodeStarted(task.node))
            started = time.perf_counter()
            files = file_states(task.files)
            if spec.run_parameter is not None:
                arguments[spec.run_parameter] = run
            values = _compute(spec, arguments, run, context)
            seconds = time.perf_counter() - started
            changed = _files_changed(task, files, context)
            return _store(task, spec, values, changed=changed, seconds=seconds, run=run, context=context)
    except Cancelled as error:
        return Outcome(seconds=time.perf_counter() - started, notices=tuple(run.notices), error=error)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise
        message = _explain(task, error, context)
        return Outcome(seconds=time.perf_counter() - started, notices=tuple(run.notices), error=error, message=message)


def _node_type(task: NodeTask, context: RunContext) -> NodeSpec:
    """The node type of a task. Raises PluginError if this process has it not, or with other code than the keys cover."""
    nodes = context.plugins.nodes
    if task.type not in nodes:
        raise PluginError(f"the worker has no node type '{task.type}'. Install {task.code} for the workers, too")
    entry = nodes.get(task.type)
    if entry.origin.identity != task.code:
        raise PluginError(
            f"the worker has other code of node type '{task.type}': expected {task.code}, found {entry.origin.identity}. "
            f"Install the same plugins for the workers"
        )
    return entry.value


@contextlib.contextmanager
def _locked(task: NodeTask, spec: NodeSpec, context: RunContext, host: NodeHost) -> Iterator[CachedResult | None]:
    """Hold the lock of the task's key against other processes. Yields the result if it has been stored since the last look."""
    store, codecs = context.cache.store, context.cache.codecs
    if task.key is None or store is None or all(codecs.never(port.type) for port in spec.outputs):
        look_again = task.key is not None and not task.forced and context.overlapped()
        yield context.cache.lookup(task.key, task.wanted) if look_again and task.key is not None else None
        return

    def waiting() -> None:
        if host.is_cancelled():
            raise stopped()

    with store.lock(task.key, waiting) as waited:
        yield context.cache.lookup(task.key, task.wanted) if waited or not task.forced else None


def _argument(input: TaskInput, task: NodeTask, context: RunContext, host: NodeHost) -> Any:
    if isinstance(input, ResolvedLink):
        return host.value(input, task.sources.get(input))
    if isinstance(input, Value):
        return input.value
    if isinstance(input, InputList):
        return [_argument(item, task, context, host) for item in input.items]
    if isinstance(input, StoredInput):
        return context.cache.load(input.key, input.port)
    return context.plugins.registries[input.registry].get(input.name).value


def _compute(spec: NodeSpec, arguments: dict[str, Any], run: NodeRun, context: RunContext) -> dict[str, Any]:
    """The values by port, checked. Raises ReturnTypeError if the function breaks the rules for nodes."""
    before = _versions(arguments, context.cache)
    result = _call(spec, arguments, run, context)
    for port, version in _versions(arguments, context.cache).items():
        if before[port] != version:
            raise ReturnTypeError(f"it changed its input '{port}' in place, which others may read")
    values = returned.by_port(spec, result)
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


def _files_changed(task: NodeTask, before: Mapping[Path, FileState | None], context: RunContext) -> bool:
    """Whether a file in the key changed since it was in the state `before`.

    A file that was changed and changed back may have been read in between.
    """
    if not task.files:
        return False
    same_content = (context.files.unchanged(path, digest) for path, digest in task.files.items())
    return file_states(task.files) != before or not all(same_content)


def _store(
    task: NodeTask,
    spec: NodeSpec,
    values: Mapping[str, Any],
    *,
    changed: bool,
    seconds: float,
    run: NodeRun,
    context: RunContext,
) -> Outcome:
    """Store the result under its key, unless a file in the key changed while the node ran."""
    key, cache = task.key, context.cache
    if changed:
        key = None
        run.notice("a file that it reads was changed during the run; its result is used but not kept")
    elif task.uncached_reason is not None:
        run.notice(f"its result is not kept: {task.uncached_reason}")
    digests = {port: digest for port, value in values.items() if (digest := _digest(value, spec.output(port), key, cache))}
    if key is not None:
        _compare(key, digests, run, context)
        computation = _computation(task, seconds, run, context)
        for message in cache.put(key, values, digests, computation, files=task.files):
            run.notice(message)
    for port in task.passed_on:
        value_key = key
        if key is None and port in digests:
            value_key = key_of_value(digests[port], port)
            cache.put(value_key, {port: values[port]}, digests, _computation(task, seconds, run, context))
        if value_key is None or cache.stored(value_key, port) is None:
            raise CacheError(
                f"its output '{port}' ({type(values[port]).__name__}) is not stored, and the nodes that need it run in other "
                f"processes. Make the cache directory writable, or run without other processes"
            )
    return Outcome(
        seconds=seconds,
        values=values,
        digests=digests,
        notices=tuple(run.notices),
        stored=key is not None,
        changed=changed,
    )


def _computation(task: NodeTask, seconds: float, run: NodeRun, context: RunContext) -> Computation:
    return Computation(
        type=task.type,
        workflow=task.workflow,
        node=task.node,
        seconds=seconds,
        notices=tuple(run.notices),
        machine=context.machine,
    )


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


def _digest(value: Any, port: Port | None, key: str | None, cache: Cache) -> str | None:
    if port is None or not cache.codecs.never(port.type):
        digest = cache.digest(value)
        if digest is not None:
            return digest
    return None if key is None or port is None else value_of(key, port.name)


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


def _call(spec: NodeSpec, arguments: Mapping[str, Any], run: NodeRun, context: RunContext) -> Any:
    """What the function returns. If memory runs out, memory is freed and the function is called once more."""
    try:
        return spec.function(**arguments)
    except Exception as error:
        if not _is_out_of_memory(error, context):
            raise
    # after the block: inside it, the error's traceback would keep the function's own values alive
    run.announce("memory ran out; everything kept for later is freed, and the node runs again")
    context.cache.free()
    context.models.clear()
    context.plugins.backend.free_memory()
    try:
        return spec.function(**arguments)
    except Exception as error:
        if _is_out_of_memory(error, context):
            raise MemoryError(f"twice ({_one_line(error)})") from error
        raise


def _is_out_of_memory(error: BaseException, context: RunContext) -> bool:
    return isinstance(error, MemoryError) or context.plugins.backend.is_out_of_memory(error)


def _explain(task: NodeTask, error: BaseException, context: RunContext) -> str:
    """What went wrong and what to do next."""
    plugin = context.plugins.nodes.get(task.type).origin.plugin if task.type in context.plugins.nodes else task.code
    if isinstance(error, ReturnTypeError):
        return f"{error}. Its result is not kept. Check its inputs, or report this to the authors of plugin '{plugin}'"
    if isinstance(error, MemoryError):
        return f"memory ran out, {_one_line(error)}. Reduce what it computes at once, or try another --device or --dtype"
    if isinstance(error, ValueError | OSError | NodegraphError) and str(error):
        return str(error)
    source = ""
    import traceback

    for frame, line in traceback.walk_tb(error.__traceback__):  # the innermost plugin is at fault: a function that a node calls
        owner = context.plugins.owner(frame.f_globals.get("__name__", ""))
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
        self._node, self._context, self._host = task.node, context, host
        # the digests: a model file that is replaced under the same name is another model
        self._scope = (task.code, tuple(sorted(task.files.values())))

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

    def announce(self, message: str) -> None:
        """Emit a notice that is not part of the result."""
        self._host.emit(Notice(self._node, message))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or "no message"
