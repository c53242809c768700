"""The arguments of a node that is about to run: values from other nodes, literals, stored values and registered things."""

from __future__ import annotations

import copy
from typing import Any, Final

from nodegraph.cache.cache import Cache
from nodegraph.graph.graph import ResolvedLink, Value
from nodegraph.node_types.returned import ReturnTypeError
from nodegraph.run.node.node_run import NodeHost
from nodegraph.run.tasks.task import InputList, NodeTask, RunContext, StoredInput, TaskInput

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
