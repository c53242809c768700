"""Describes the nodes of a plan as tasks: plain data that a worker in any process can read."""

from __future__ import annotations

import enum
from collections import ChainMap
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, Final

from nodegraph.cache.cache import Cache
from nodegraph.cache.store.records import Computation
from nodegraph.errors import CacheError
from nodegraph.files import FileState
from nodegraph.graph.graph import GraphNode, Input, ListWithLinks, ResolvedLink, Value
from nodegraph.node_types.item_ports import list_port
from nodegraph.node_types.port_types import element_type
from nodegraph.run.known_results import key_of_value
from nodegraph.run.plan import Plan
from nodegraph.run.tasks.task import InputList, NodeTask, RegisteredInput, StoredInput, TaskInput

_NO_PORTS: Final[frozenset[str]] = frozenset()
_NO_FILES: Final[Mapping[Path, str]] = {}
_NO_STATES: Final[Mapping[Path, FileState | None]] = {}
_SCALARS: Final = (type(None), bool, int, float, str, bytes, PurePath, enum.Enum)


class TaskMaker:
    """Makes the tasks of one run.

    With `shares_memory` False, tasks hold no values of types that have a codec. `task` stores these in the cache.
    """

    def __init__(self, plan: Plan, cache: Cache, *, shares_memory: bool) -> None:
        self._plan, self._cache, self._shares_memory = plan, cache, shares_memory
        self._known, self._keys, self._nodes = plan.known, plan.known.keys, plan.graph.nodes
        self._workflow = plan.graph.workflow
        self._codes: dict[str, str] = {}  # by node type
        self._in_memory: dict[str, frozenset[str]] = {}  # ports, by node type
        self._read_later: dict[str, Mapping[Path, FileState | None]] = {}  # by node

    def task(self, name: str) -> NodeTask:
        """The task to run a node. Raises CacheError if a value that was given in Python cannot be stored."""
        node, keys, known = self._nodes[name], self._keys, self._known
        spec, wanted = node.spec, self._plan.needed.get(name, _NO_PORTS)
        code = self._codes.get(spec.name)
        if code is None:
            code = self._codes[spec.name] = node.origin.identity
        has_own_reason = name in keys.without_key and spec.pure and name not in keys.parts
        return NodeTask(
            node=name,
            type=spec.name,
            code=code,
            workflow=self._workflow,
            inputs=self._inputs(node),
            key=known.content.get(name),
            sources={link: known.value_key(link) for link in node.links()},
            files=keys.files.get(name, _NO_FILES),
            wanted=wanted,
            passed_on=_NO_PORTS if self._shares_memory else self._passed_on(name, wanted),
            uncached_reason=keys.without_key[name] if has_own_reason else None,
            forced=name in known.forced,
            checked=name in known.checked,
            numeric=spec.numeric,
            model=self._model(node) if spec.numeric else None,
            opened=self._opened(node),
            inherited=known.inherited(name),
            work_key=known.work_key(name) if spec.continues else None,
            limits=node.limits,
        )

    def can_pass_on(self, name: str, port: str) -> bool:
        """Whether the values of an output of a node have a codec."""
        declared = self._nodes[name].spec.output(port)
        return declared is not None and self._cache.codecs.for_type(declared.type) is not None

    def _passed_on(self, name: str, wanted: frozenset[str]) -> frozenset[str]:
        """The outputs that other tasks read from the cache. The items of a list are stored with it."""
        return frozenset(list_port(port) for port in wanted if self.can_pass_on(name, port))

    def _model(self, node: GraphNode) -> str | None:
        """The digest of the first input that only memory can hold, such as a model."""
        never = self._cache.codecs.never
        ports = ((link, self._nodes[link.node].spec.output(link.port)) for link in node.links())
        return next((self._known.digest(link) for link, port in ports if port is not None and never(port.type)), None)

    def _opened(self, node: GraphNode) -> Mapping[Path, FileState | None]:
        """The files that inputs without a codec may still read, in the states that the keys cover."""
        files: Mapping[Path, FileState | None] = _NO_STATES
        for link in node.links():
            if list_port(link.port) in self._ports_in_memory(link.node):
                files = {**files, **self._files_of(link.node)}
        return files

    def _files_of(self, name: str) -> Mapping[Path, FileState | None]:
        """The files that a value without a codec of a node may read: those of the node, and of such values that it takes."""
        if name not in self._read_later:
            node = self._nodes[name]
            own = (input.states for input in node.inputs.values() if isinstance(input, Value) and input.states)
            self._read_later[name] = dict(ChainMap(*map(dict, own), dict(self._opened(node))))
        return self._read_later[name]

    def _ports_in_memory(self, name: str) -> frozenset[str]:
        """The outputs of a node whose values have no codec."""
        spec = self._nodes[name].spec
        ports = self._in_memory.get(spec.name)
        if ports is None:
            ports = self._in_memory[spec.name] = frozenset(port.name for port in spec.outputs if self._is_in_memory(port.type))
        return ports

    def _is_in_memory(self, kind: Any) -> bool:
        item = element_type(kind)
        return self._is_in_memory(item) if item not in (None, Any) else self._cache.codecs.never(kind)

    def _inputs(self, node: GraphNode) -> Mapping[str, TaskInput]:
        if self._shares_memory:
            for input in node.inputs.values():
                if isinstance(input, ListWithLinks) or (isinstance(input, Value) and input.entry is not None):
                    break
            else:
                return node.inputs  # type: ignore[return-value]
        return {port: self._input(node, port, input) for port, input in node.inputs.items()}

    def _input(self, node: GraphNode, port: str, input: Input) -> TaskInput:
        if isinstance(input, ResolvedLink):
            return input
        if isinstance(input, ListWithLinks):
            return InputList(items=tuple(self._input(node, port, item) for item in input.items))
        if input.entry is not None:
            declared = node.spec.input(port)
            assert declared is not None  # it was checked when the graph was built
            assert declared.choice is not None  # only a choice has an entry
            return RegisteredInput(registry=declared.choice.registry, name=input.entry.name)
        if self._shares_memory or input.digest is None:
            return input
        return self._stored(node, port, input.value, input.digest)

    def _stored(self, node: GraphNode, port: str, value: Any, digest: str) -> StoredInput:
        """Store a value that was given in Python, unless the cache has it."""
        cache, key = self._cache, key_of_value(digest, port)
        if cache.stored(key, port) is None:
            made_by = Computation(type=node.spec.name, workflow=self._plan.graph.workflow, node=node.name, seconds=0.0)
            snapshots, _ = cache.take({port: value}, {port: cache.codec(value)}, store=True)
            cache.put(key, snapshots, {port: digest}, made_by)
        if cache.stored(key, port) is None:
            raise CacheError(
                f"the value of input '{port}' of node '{node.name}' cannot be stored, and the node runs in another process. "
                f"Make the cache directory writable, or run without other processes"
            )
        return StoredInput(key=key, port=port)


def is_data(input: Input) -> bool:
    """Whether a task for another process can hold an input: literals are plain data, and other values can be stored."""
    if isinstance(input, ListWithLinks):
        return all(map(is_data, input.items))
    if isinstance(input, ResolvedLink) or input.entry is not None or input.files is not None or input.digest is not None:
        return True
    pending = [input.value]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending.extend(value)
            pending.extend(value.values())
        elif isinstance(value, list | tuple | set | frozenset):
            pending.extend(value)
        elif not isinstance(value, _SCALARS):
            return False
    return True
