"""Running one node: reading its inputs, calling its function, checking and storing what it returns."""

from __future__ import annotations

import contextlib
import copy
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from nodegraph.cache.cache import Cache
from nodegraph.cache.store.records import Computation
from nodegraph.cache.store.store import LostResultError
from nodegraph.errors import CacheError, Cancelled, NodegraphError, PluginError
from nodegraph.files import FileState, file_states
from nodegraph.graph.graph import ResolvedLink, Value
from nodegraph.node_types import returned
from nodegraph.node_types.returned import ReturnTypeError
from nodegraph.node_types.spec import NodeSpec, Run
from nodegraph.plugins.codecs import Codec
from nodegraph.run.events import NodeEvent, NodeProgress, NodeStarted, Notice
from nodegraph.run.known_results import key_of_value, value_of
from nodegraph.run.process_state import ProcessWatch
from nodegraph.run.tasks.task import InputList, NodeTask, Outcome, RegisteredInput, RunContext, StoredInput, TaskInput, stopped

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
        with _lock(task, spec, context, host) as look_again:
            hit = context.cache.lookup(task.key, task.wanted) if look_again and task.key is not None else None
            if hit is not None:
                return Outcome(seconds=time.perf_counter() - started, hit=hit)
            try:
                arguments = {
                    port: input.value
                    if type(input) is Value and type(input.value) in _IMMUTABLE
                    else _argument(input, task, context, host)
                    for port, input in task.inputs.items()
                }
            except LostResultError as error:
                return Outcome(error=error)
            host.emit(NodeStarted(task.node))
            started = time.perf_counter()
            files = file_states(task.files) if task.files else {}
            if spec.run_parameter is not None:
                arguments[spec.run_parameter] = run
            values, codecs = _compute(spec, arguments, run, context)
            return _store(
                task,
                spec,
                values,
                codecs=codecs,
                seconds=time.perf_counter() - started,
                changed=_files_changed(task, files, context),
                run=run,
                context=context,
            )
    except Cancelled as error:
        return Outcome(seconds=time.perf_counter() - started, notices=tuple(run.notices), error=error)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise
        message = _explain(task, error, context)
        return Outcome(seconds=time.perf_counter() - started, notices=tuple(run.notices), error=error, message=message)


def _node_type(task: NodeTask, context: RunContext) -> NodeSpec:
    """The node type of a task. Raises PluginError if this process has it not, or with other code than the keys cover."""
    try:
        entry = context.plugins.nodes.get(task.type)
    except KeyError:
        raise PluginError(f"the worker has no node type '{task.type}'. Install {task.code} for the workers, too") from None
    if entry.origin.identity != task.code:
        raise PluginError(
            f"the worker has other code of node type '{task.type}': expected {task.code}, found {entry.origin.identity}. "
            f"Install the same plugins for the workers"
        )
    return entry.value


def _lock(task: NodeTask, spec: NodeSpec, context: RunContext, host: NodeHost) -> AbstractContextManager[bool]:
    """Hold the lock of the task's key against other processes, if the result can be stored.

    Yields whether the result may have been stored since the last look.
    """
    store, codecs = context.cache.store, context.cache.codecs
    if task.key is None or store is None or all(codecs.never(port.type) for port in spec.outputs):
        return contextlib.nullcontext(not task.forced and context.overlapped())

    def waiting() -> None:
        if host.is_cancelled():
            raise stopped()

    return _look_again(store.lock(task.key, waiting), task)


@contextlib.contextmanager
def _look_again(lock: AbstractContextManager[bool], task: NodeTask) -> Iterator[bool]:
    with lock as waited:
        yield waited or not task.forced


def _argument(input: TaskInput, task: NodeTask, context: RunContext, host: NodeHost) -> Any:
    if isinstance(input, ResolvedLink):
        return host.value(input, task.sources.get(input))
    if isinstance(input, Value):
        return _own_copy(input, context.cache)
    if isinstance(input, InputList):
        return [_argument(item, task, context, host) for item in input.items]
    if isinstance(input, StoredInput):
        return context.cache.load(input.key, input.port)
    return context.plugins.registries[input.registry].get(input.name).value


def _own_copy(input: Value, cache: Cache) -> Any:
    """The value of an input that is not linked, as an object of the node's own. Raises ReturnTypeError if it was changed."""
    value = input.value
    if type(value) in _IMMUTABLE or input.entry is not None:
        return value
    if input.digest is None:
        return copy.deepcopy(value) if type(value) in (list, dict) else value
    (snapshot,) = cache.take({"": value}, {"": cache.codec(value)}, store=False)[0].values()
    if snapshot.digest != input.digest:
        raise ReturnTypeError("a value that was given in Python was changed during the run")
    return snapshot.open()


def _compute(
    spec: NodeSpec, arguments: dict[str, Any], run: NodeRun, context: RunContext
) -> tuple[dict[str, Any], dict[str, Codec | None]]:
    """The values by port, checked, and their codecs. Raises ReturnTypeError if the function breaks the rules for nodes."""
    before = _versions(arguments, context)
    with ProcessWatch(context.plugins.backend, numeric=spec.numeric) as watch:
        result = _call(spec, arguments, run, context)
    if watch.restored:
        run.notice(f"it changed {' and '.join(watch.restored)} of the process, which were restored")
    run.drew = watch.drew
    for port, version in _versions(arguments, context).items() if before else ():
        if before[port] != version:
            context.models.clear()  # the changed model may be among them
            raise ReturnTypeError(f"it changed its input '{port}' in place, which others may read")
    version_of = context.plugins.backend.version
    if any(version_of(resident) != version for resident, version in run.residents):
        context.models.clear()
        raise ReturnTypeError("it changed a model that it loaded in place, which others may read")
    values = returned.by_port(spec, result)
    codecs = {port: context.cache.codec(value) for port, value in values.items()}
    for port, codec in codecs.items():
        problem = _problem(values[port], codec, context.cache)
        if problem:
            raise ReturnTypeError(f"'{port}': {problem}")
    return values, codecs


def _problem(value: Any, codec: Codec | None, cache: Cache) -> str | None:
    """What the codec finds wrong with a value, or with a value in a list or mapping; None if nothing."""
    if value is None:
        return None
    if codec is not None:
        return codec.check(value)
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return next(filter(None, (_problem(part, cache.codec(part), cache) for part in parts)), None)


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
    codecs: Mapping[str, Codec | None],
    seconds: float,
    changed: bool,
    run: NodeRun,
    context: RunContext,
) -> Outcome:
    """Store the result under its key, unless a file in the key changed while the node ran."""
    key, cache = task.key, context.cache
    if changed:
        key = None
        run.notice("a file that it reads was changed during the run; its result is used but not kept")
    elif (path := _changed_code(task, context)) is not None:
        key = None
        run.notice(
            f"the code in {path} was changed during the run; its result is used but not kept. Start again to use the new code"
        )
    elif run.drew and key is not None:
        key = None
        run.notice(
            "a global generator of random numbers was used while it ran, as random.random() does; its result is used but not kept. "
            "Take a seed as an input, and make a generator from it"
        )
    elif task.uncached_reason is not None:
        run.notice(f"its result is not kept: {task.uncached_reason}")
    snapshots, messages = cache.take(values, codecs, store=key is not None or bool(task.passed_on))
    for message in messages:
        run.notice(message)
    digests: dict[str, str] = {}
    for port in spec.outputs:
        digest = snapshots[port.name].digest
        if digest is not None and not cache.codecs.never(port.type):
            digests[port.name] = digest
        elif key is not None:
            digests[port.name] = value_of(key, port.name)
    if key is not None:
        _compare(key, digests, run, context)
        cache.put(key, snapshots, digests, _computation(task, seconds, run, context), files=task.files)
    for name in task.passed_on:
        value_key = key
        if key is None and name in digests:
            value_key = key_of_value(digests[name], name)
            cache.put(value_key, {name: snapshots[name]}, digests, _computation(task, seconds, run, context))
        if value_key is None or cache.stored(value_key, name) is None:
            raise CacheError(
                f"its output '{name}' ({type(values[name]).__name__}) is not stored, and the nodes that need it run in other "
                f"processes. Make the cache directory writable, or run without other processes"
            )
    return Outcome(
        seconds=seconds,
        values=snapshots,
        digests=digests,
        notices=tuple(run.notices),
        stored=key is not None,
        changed=changed,
    )


def _changed_code(task: NodeTask, context: RunContext) -> Path | None:
    """A file with code of the node, or of a registered thing that it uses, that was changed since the keys were made."""
    plugins = context.plugins
    names = {plugins.nodes.get(task.type).origin.plugin}
    for input in task.inputs.values():
        if isinstance(input, RegisteredInput):
            names.add(plugins.registries[input.registry].get(input.name).origin.plugin)
        elif isinstance(input, Value) and input.entry is not None:
            names.add(input.entry.origin.plugin)
    return next((path for name in names if (path := plugins.code_watch.changed(name)) is not None), None)


def _computation(task: NodeTask, seconds: float, run: NodeRun, context: RunContext) -> Computation:
    return Computation(
        type=task.type,
        workflow=task.workflow,
        node=task.node,
        seconds=seconds,
        notices=tuple(run.notices),
        machine=context.machine,
        imports=context.plugins.code_watch.imports(),
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


def _versions(arguments: Mapping[str, Any], context: RunContext) -> dict[str, Any]:
    """For each argument that the node shares with others, what differs once it is changed. The other arguments are its own."""
    version = context.plugins.backend.version
    shared = {port: _shared(value, context.cache) for port, value in arguments.items() if type(value) not in _IMMUTABLE}
    return {port: [version(part) for part in parts] for port, parts in shared.items() if parts}


def _shared(value: Any, cache: Cache) -> list[Any]:
    """The values without a codec in `value`."""
    if type(value) in _IMMUTABLE or isinstance(value, Run) or cache.codec(value) is not None:
        return []
    if type(value) in (list, tuple, dict):
        return [part for item in (value.values() if isinstance(value, dict) else value) for part in _shared(item, cache)]
    return [value]


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
        self.residents: list[tuple[Any, Any]] = []  # each with its version
        self.drew = False  # from a global generator of random numbers
        self._task, self._context, self._host = task, context, host

    @property
    def device(self) -> str:  # type: ignore[override]
        """Where the run computes. The backend is asked the first time that a node reads this."""
        return self._context.numerics().device

    @property
    def dtype(self) -> str:  # type: ignore[override]
        """The dtype that the run computes in."""
        return self._context.numerics().dtype

    def step(self, i: int, n: int, preview: Callable[[], Any] | None = None) -> None:
        self._host.emit(NodeProgress(self._task.node, i, n, preview))
        if self._host.is_cancelled():
            raise stopped()

    def resident(self, key: Hashable, make: Callable[[], T]) -> T:
        # the digests: a model file that is replaced under the same name is another model
        scope = (self._task.code, tuple(sorted(self._task.files.values())))
        value = self._context.models.get(scope, key, make)
        self.residents.append((value, self._context.plugins.backend.version(value)))
        return value

    def notice(self, message: str) -> None:
        if message not in self.notices:  # a node that runs twice repeats itself
            self.notices.append(message)
            self._host.emit(Notice(self._task.node, message))

    def announce(self, message: str) -> None:
        """Emit a notice that is not part of the result."""
        self._host.emit(Notice(self._task.node, message))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or "no message"
