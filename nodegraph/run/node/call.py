"""Calling a node's function, and checking what it returned and what it changed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from nodegraph.cache.cache import Cache
from nodegraph.node_types import returned
from nodegraph.node_types.returned import ReturnTypeError
from nodegraph.node_types.spec import NodeSpec, Run
from nodegraph.plugins.codec import Codec
from nodegraph.plugins.state.shared_changes import shared_changes
from nodegraph.run.node import interrupted
from nodegraph.run.node.failure import one_line
from nodegraph.run.node.inputs import IMMUTABLE
from nodegraph.run.node.node_run import NodeRun
from nodegraph.run.node.process_state import ProcessWatch
from nodegraph.run.tasks.task import RunContext


def compute(
    spec: NodeSpec, arguments: dict[str, Any], run: NodeRun, context: RunContext, *, read_again: Callable[[], dict[str, Any]]
) -> tuple[dict[str, Any], dict[str, Codec | None]]:
    """The values by port, checked, and their codecs. Raises ReturnTypeError if the function breaks the rules for nodes.

    `read_again` returns the arguments once more: the first call may have changed them before it ran out of memory.
    """
    before = _versions(arguments, context)
    watched = spec.numeric or context.plugins.watched[spec.name]
    plugin = run.code.entry.origin.place
    run.ended, run.shared_changes, interrupts = None, shared_changes(), interrupted.count
    with run.in_use, ProcessWatch(context.plugins.backend, watched, plugin) as watch:
        result = _call(spec, arguments, run, context, read_again=read_again)
    if watch.restored:
        who = "it" if watch.ran_by_itself else "it, or another node that ran at the same time,"
        run.notice(f"{who} changed {' and '.join(watch.restored)} of the process; the change was undone")
    run.drew, run.used_engine = watch.drew, watch.used_engine
    if run.ended is not None:  # a node may catch it, and return what it has so far
        raise run.ended
    if interrupts != interrupted.count and threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt
    for port, version in _versions(arguments, context).items() if before else ():
        if before[port] != version:
            context.models.clear()  # the changed model may be among them
            raise ReturnTypeError(f"it changed its input '{port}' in place, which others may read")
    if run.in_use.was_changed():
        context.models.clear()
        raise ReturnTypeError("it changed a model that it loaded in place, which others may read")
    values = returned.by_port(spec, result)
    codecs = {port.name: context.cache.codec(values[port.name], port.type) for port in spec.outputs}
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


def _versions(arguments: Mapping[str, Any], context: RunContext) -> dict[str, Any]:
    """For each argument that the node shares with others, what differs once it is changed. The other arguments are its own."""
    for value in arguments.values():
        if type(value) not in IMMUTABLE:
            break
    else:
        return {}
    version = context.plugins.backend.version
    shared = {port: _shared(value, context.cache) for port, value in arguments.items() if type(value) not in IMMUTABLE}
    return {port: [version(part) for part in parts] for port, parts in shared.items() if parts}


def _shared(value: Any, cache: Cache) -> list[Any]:
    """The values without a codec in `value`."""
    if type(value) in IMMUTABLE or isinstance(value, Run) or cache.codec(value) is not None:
        return []
    if type(value) in (list, tuple, dict):
        return [part for item in (value.values() if isinstance(value, dict) else value) for part in _shared(item, cache)]
    return [value]


def _call(
    spec: NodeSpec, arguments: dict[str, Any], run: NodeRun, context: RunContext, *, read_again: Callable[[], dict[str, Any]]
) -> Any:
    """What the function returns. If memory runs out, memory is freed and the function is called once more."""
    try:
        return spec.function(**arguments)
    except Exception as error:
        if not _is_out_of_memory(error, context):
            raise
    # after the block: inside it, the error's traceback would keep the function's own values alive
    run.announce("memory ran out; everything kept for later is freed, and the node runs again")
    arguments.clear()
    run.in_use.clear()
    context.cache.free()
    context.models.clear()
    context.plugins.backend.free_memory()
    arguments.update(read_again())
    try:
        return spec.function(**arguments)
    except Exception as error:
        if _is_out_of_memory(error, context):
            raise MemoryError(f"twice ({one_line(error)})") from error
        raise


def _is_out_of_memory(error: BaseException, context: RunContext) -> bool:
    return isinstance(error, MemoryError) or context.plugins.backend.is_out_of_memory(error)
