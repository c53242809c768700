"""Running one node: it waits for the lock of its key, calls the function, and stores what this returns."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from nodegraph.cache.store.store import LostResultError
from nodegraph.errors import Cancelled, PluginError
from nodegraph.files import file_states
from nodegraph.graph.graph import Value
from nodegraph.node_types.spec import NodeSpec
from nodegraph.plugins.used_code import UsedCode
from nodegraph.run.events import NodeStarted
from nodegraph.run.node.attempts import compute_with_retries
from nodegraph.run.node.call import compute
from nodegraph.run.node.failure import explain_failure
from nodegraph.run.node.inputs import IMMUTABLE, check_linked, read_argument, registered_things
from nodegraph.run.node.node_run import NodeHost, NodeRun, waiting
from nodegraph.run.node.outcome import files_changed, store_outcome, work_watch
from nodegraph.run.tasks.task import NodeTask, Outcome, RunContext


def run_node(task: NodeTask, context: RunContext, host: NodeHost) -> Outcome:
    """Run a node and store its result. May be called from any thread.

    Whatever the node raises is in the outcome. Raises only KeyboardInterrupt, in the main thread.
    """
    run = NodeRun(task, context, host)
    started = time.perf_counter()
    try:
        run.code = _code(task, context)
        spec = run.code.entry.value
        with _lock(task, spec, context, host) as look_again:
            hit = context.cache.lookup(task.key, task.wanted) if look_again and task.key is not None else None
            if hit is not None:
                return Outcome(seconds=time.perf_counter() - started, hit=hit)

            def read_arguments() -> dict[str, Any]:
                arguments = {
                    port: input.value
                    if type(input) is Value and type(input.value) in IMMUTABLE
                    else read_argument(input, task, context, host)
                    for port, input in task.inputs.items()
                }
                if spec.with_range or task.limits:
                    check_linked(task, spec, arguments)
                if spec.run_parameter is not None:
                    arguments[spec.run_parameter] = run
                return arguments

            try:
                arguments = read_arguments()
            except LostResultError as error:
                return Outcome(error=error)
            host.emit(NodeStarted(task.node))
            started = time.perf_counter()
            files = file_states(task.files) if task.files else {}
            if task.work_key is not None:
                run.work = work_watch(task, files, run.code, context)
            if spec.timeout is None and not spec.retries:
                values, codecs = compute(spec, arguments, run, context, read_again=read_arguments)
            else:
                values, codecs = compute_with_retries(
                    spec=spec, arguments=arguments, run=run, context=context, host=host, read_again=read_arguments
                )
            outcome = store_outcome(
                task,
                spec,
                values,
                codecs=codecs,
                seconds=time.perf_counter() - started,
                changed=files_changed(task, files, context),
                run=run,
                context=context,
            )
            if run.work is not None and not outcome.stored:
                run.work.discard()  # it may come from what the key does not cover
            return outcome
    except Cancelled as error:
        return Outcome(seconds=time.perf_counter() - started, notices=tuple(run.notices), error=error)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise
        message = explain_failure(task, error, context)
        return Outcome(seconds=time.perf_counter() - started, notices=tuple(run.notices), error=error, message=message)


def _code(task: NodeTask, context: RunContext) -> UsedCode:
    """The code of a task. Raises PluginError if this process has not its node type, or with other code than the keys cover."""
    try:
        code = context.plugins.used_code(task.type, registered_things(task, context))
    except KeyError:
        raise PluginError(f"the worker has no node type '{task.type}'. Install {task.code} for the workers, too") from None
    origin = code.entry.origin
    if origin.identity != task.code:
        raise PluginError(
            f"the worker has other code of node type '{task.type}': expected {task.code}, found {origin.identity}. "
            f"Install the same plugins for the workers"
        )
    return code


def _lock(task: NodeTask, spec: NodeSpec, context: RunContext, host: NodeHost) -> AbstractContextManager[bool]:
    """Hold the lock of the task's key against other processes, if the result can be stored.

    Yields whether the result may have been stored since the last look.
    """
    store, codecs = context.cache.store, context.cache.codecs
    if not spec.keep:
        return contextlib.nullcontext(False)
    if task.key is None or store is None or all(codecs.never(port.type) for port in spec.outputs):
        return contextlib.nullcontext(not task.forced and not task.checked and context.overlapped())
    return _look_again(store.lock(task.key, *waiting(task, host, f"computes this node ({task.type})")), task)


@contextlib.contextmanager
def _look_again(lock: AbstractContextManager[bool], task: NodeTask) -> Iterator[bool]:
    with lock as waited:
        yield waited or not (task.forced or task.checked)
