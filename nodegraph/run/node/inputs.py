"""The arguments of a node that is about to run: values from other nodes, literals, stored values and registered things."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

from nodegraph.cache.cache import Cache
from nodegraph.graph.graph import ResolvedLink, Value
from nodegraph.node_types.literals import LiteralError, check_range
from nodegraph.node_types.returned import ReturnTypeError
from nodegraph.node_types.spec import NodeSpec, Port
from nodegraph.plugins.registry import Entry
from nodegraph.run.node.node_run import NodeHost
from nodegraph.run.tasks.task import InputList, NodeTask, RegisteredInput, RunContext, StoredInput, TaskInput

IMMUTABLE: Final = frozenset({type(None), bool, int, float, str})
"""The types whose values cannot be changed in place."""

_CONTAINERS: Final = frozenset({list, dict, tuple, set, frozenset})


def read_argument(input: TaskInput, task: NodeTask, context: RunContext, host: NodeHost) -> Any:
    if isinstance(input, ResolvedLink):
        return host.value(input, task.sources.get(input))
    if isinstance(input, Value):
        return _own_copy(input, context.cache)
    if isinstance(input, InputList):
        return [read_argument(item, task, context, host) for item in input.items]
    if isinstance(input, StoredInput):
        return context.cache.load(input.key, input.port)
    return context.plugins.registries[input.registry].get(input.name).value


def registered_things(task: NodeTask, context: RunContext) -> tuple[Entry[Any], ...]:
    """The registered things that a node receives."""
    things: tuple[Entry[Any], ...] = ()
    for input in task.inputs.values():
        if type(input) is Value:
            if input.entry is not None:
                things += (input.entry,)
        elif type(input) is RegisteredInput:
            things += (context.plugins.registries[input.registry].get(input.name),)
    return things


def check_linked(task: NodeTask, spec: NodeSpec, arguments: Mapping[str, Any]) -> None:
    """Check values that came through links against the ranges of their inputs. Raises LiteralError."""
    for port in spec.with_range:
        _check_linked(task, port, arguments[port.name], f"input '{port.name}'")
    for name, limit in task.limits:
        port = Port(name, Any, range=limit.range)
        _check_linked(task, port, arguments[name], f"input '{name}', which is {limit.source}")


def _check_linked(task: NodeTask, port: Port, value: Any, what: str) -> None:
    if isinstance(task.inputs[port.name], ResolvedLink | InputList):
        try:
            check_range(port, value)
        except LiteralError as error:
            raise LiteralError(f"{what}: {error.message}", error.hint, error.code) from None


def _own_copy(input: Value, cache: Cache) -> Any:
    """The value of an input that is not linked, as an object of the node's own. Raises ReturnTypeError if it was changed."""
    value = input.value
    if type(value) in IMMUTABLE or input.entry is not None:
        return value
    if input.digest is None:
        return copy.deepcopy(value) if type(value) in _CONTAINERS else value
    (snapshot,) = cache.take({"": value}, {"": cache.codec(value)}, store=False)[0].values()
    if snapshot.digest != input.digest:
        raise ReturnTypeError("a value that was given in Python was changed during the run")
    return snapshot.open()
