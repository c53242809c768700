"""Running a plan: one node after the other, each value let go when its last consumer has run."""

from __future__ import annotations

import functools
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import pluggy

from nodegraph import returned
from nodegraph.cache import Cache, Made
from nodegraph.errors import Cancelled, NodeError, NodegraphError
from nodegraph.events import Event, NodeCached, NodeFailed, NodeFinished, NodeProgress, NodeStarted, Notice
from nodegraph.fingerprint import Fingerprints
from nodegraph.graph import GraphNode, Input, Many, Output, Value, Wire
from nodegraph.keys import Keys
from nodegraph.numerics import Numerics
from nodegraph.plan import Plan
from nodegraph.residents import Residents
from nodegraph.returned import Broken
from nodegraph.spec import Run
from nodegraph.store import Stored

T = TypeVar("T")

Delivery = Callable[[Output, Stored | None, Callable[[], Any]], None]
"""Receives an output, how its value is stored (None: it is not), and a function that gives the value."""

NodeStatus = Literal["ran", "cached", "pruned", "failed", "skipped"]


@dataclass(frozen=True)
class NodeReport:
    """What became of a node. "skipped": the run ended before its turn."""

    status: NodeStatus
    seconds: float = 0.0
    key: str | None = None
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Surroundings:
    """What the engine lends to a run."""

    cache: Cache
    hook: pluggy.HookRelay
    files: Fingerprints
    residents: Residents
    numerics: Callable[[], Numerics]
    emit: Callable[[Event], None]
    cancelled: threading.Event


class Executor:
    """One pass over a plan. `deliver` is called for each output as soon as there is a value.

    `reports` is filled in as nodes are done with. `execute` raises what ended the run: NodeError, Cancelled, Lost if a cached value
    went away meanwhile, or what `deliver` raises.
    """

    def __init__(
        self,
        plan: Plan,
        keys: Keys,
        surroundings: Surroundings,
        deliver: Delivery,
        reports: dict[str, NodeReport],
    ) -> None:
        self.plan, self.reports = plan, reports
        self._keys, self._around, self._deliver = keys, surroundings, deliver
        self._values: dict[Wire, Any] = {}
        self._untrusted: set[str] = set()  # nodes whose key no longer says what they were made of
        self._outputs: dict[str, list[Output]] = {}
        for output in plan.graph.outputs.values():
            self._outputs.setdefault(output.wire.node, []).append(output)
        self._waiting = Counter(wire for name in plan.names("run") for wire in plan.graph.nodes[name].wires())

    def execute(self) -> None:
        for name, action in self.plan.actions.items():
            if action == "pruned":
                self.reports.setdefault(name, NodeReport("pruned", key=self.plan.keys.get(name)))
                continue
            if self._around.cancelled.is_set():
                raise _cancelled()
            if action == "cached":
                self._found(name)
            else:
                self._run(name)
            for output in self._outputs.get(name, ()):
                self._deliver(output, self._stored(output.wire), functools.partial(self._value, output.wire))
            self._release(name)

    # --- one node

    def _found(self, name: str) -> None:
        notices = self.plan.notices.get(name, ())
        if name not in self.reports:  # else it ran in an earlier pass
            self.reports[name] = NodeReport("cached", key=self.plan.keys[name], notices=notices)
            self._around.emit(NodeCached(name))
            for message in notices:
                self._around.emit(Notice(name, message))

    def _run(self, name: str) -> None:
        node = self.plan.graph.nodes[name]
        run = NodeRun(node, self._around, self._keys.files.get(name, {}))
        arguments = {port: self._argument(given) for port, given in node.inputs.items()}
        if node.spec.run_parameter is not None:
            arguments[node.spec.run_parameter] = run
        self._around.emit(NodeStarted(name))
        started = time.perf_counter()
        try:
            values = self._checked(node, self._call(node, arguments))
        except Cancelled:
            raise
        except Exception as error:
            self._fail(node, error, time.perf_counter() - started, run)
        seconds = time.perf_counter() - started
        del arguments
        for port, value in values.items():
            self._values[Wire(name, port)] = value
        self._keep(node, values, seconds, run)
        key = self.plan.keys.get(name) if name not in self._untrusted else None
        self.reports[name] = NodeReport("ran", seconds, key, tuple(run.notices))
        self._around.emit(NodeFinished(name, seconds))

    def _call(self, node: GraphNode, arguments: Mapping[str, Any]) -> Any:
        """What the function returns; when memory runs out, what can be freed is freed, and it is called once more."""
        try:
            return node.spec.function(**arguments)
        except Exception as error:
            if not self._is_out_of_memory(error):
                raise
        self._around.emit(Notice(node.name, "memory ran out; what was kept for later is let go, and the node runs again"))
        self._around.cache.free()
        self._around.residents.clear()
        self._around.hook.free_memory()
        return node.spec.function(**arguments)

    def _checked(self, node: GraphNode, result: Any) -> dict[str, Any]:
        values = returned.by_port(node.spec, result)
        for port, value in values.items():
            codec = self._around.cache.codec(value)
            wrong = codec.check(value) if codec is not None and value is not None else None
            if wrong:
                raise Broken(f"'{port}': {wrong}")
        return values

    def _fail(self, node: GraphNode, error: Exception, seconds: float, run: NodeRun) -> None:
        failure = NodeError(node.name, node.spec.name, self._said(node, error), node.where)
        self.reports[node.name] = NodeReport("failed", seconds, self.plan.keys.get(node.name), tuple(run.notices))
        self._around.emit(NodeFailed(node.name, failure))
        raise failure from error

    def _keep(self, node: GraphNode, values: Mapping[str, Any], seconds: float, run: NodeRun) -> None:
        """Put the result under its key, unless a file that is in the key, or in one above, changed while the run went on."""
        files = self._keys.files.get(node.name, {})
        if not all(self._around.files.unchanged(path, digest) for path, digest in files.items()):
            run.notice("a file that it reads was changed during the run; its result is used but not kept")
            self._untrusted.add(node.name)
        elif any(wire.node in self._untrusted for wire in node.wires()):
            self._untrusted.add(node.name)
        key = self._keys.of.get(node.name)
        if key is None and node.spec.pure and not any(wire.node in self._keys.missing for wire in node.wires()):
            run.notice(f"its result is not kept: {self._keys.missing[node.name]}")
        if key is not None and node.name not in self._untrusted:
            made = Made(node.spec.name, self.plan.graph.workflow, node.name, seconds, tuple(run.notices))
            for message in self._around.cache.put(key, values, made):
                run.notice(message)

    # --- values

    def _argument(self, given: Input) -> Any:
        if isinstance(given, Value):
            return given.value
        if isinstance(given, Many):
            return [self._argument(item) for item in given.items]
        return self._value(given)

    def _value(self, wire: Wire) -> Any:
        """The value of a port; one in the cache is read when it is first wanted. Raises Lost."""
        if wire not in self._values:
            self._values[wire] = self._around.cache.load(self.plan.keys[wire.node], wire.port)
        return self._values[wire]

    def _stored(self, wire: Wire) -> Stored | None:
        key = self._keys.of.get(wire.node) if wire.node not in self._untrusted else None
        return self._around.cache.stored(key, wire.port) if key is not None else None

    def _release(self, name: str) -> None:
        """Let go of what nobody waits for any more."""
        node = self.plan.graph.nodes[name]
        if self.plan.actions[name] == "run":
            for wire in node.wires():
                self._waiting[wire] -= 1
                if not self._waiting[wire]:
                    self._values.pop(wire, None)
        for port in node.spec.outputs:
            wire = Wire(name, port.name)
            if not self._waiting[wire]:
                self._values.pop(wire, None)

    # --- failures

    def _is_out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, MemoryError) or bool(self._around.hook.is_out_of_memory(error=error))

    def _said(self, node: GraphNode, error: Exception) -> str:
        """What went wrong, for people, and what to do next."""
        plugin = node.origin.plugin
        if isinstance(error, Broken):
            return f"{error}. Nothing of it is kept; look at its inputs, or tell those who wrote plugin '{plugin}'"
        if self._is_out_of_memory(error):
            return f"memory ran out, twice ({_line(error)}). Give it less at once, or another --device or --dtype"
        if isinstance(error, ValueError | OSError | NodegraphError) and str(error):
            return str(error)
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return (
            f"{type(error).__name__}: {_line(error)} ({frame.filename}:{frame.lineno}). If its inputs are right, this is a mistake "
            f"in plugin '{plugin}'; -v shows the whole way there"
        )


class NodeRun(Run):
    """The `Run` of one node while it runs."""

    def __init__(self, node: GraphNode, surroundings: Surroundings, files: Mapping[Any, str]) -> None:
        self.notices: list[str] = []
        self._node, self._around = node.name, surroundings
        self._scope = (node.origin.identity, tuple(sorted(files.values())))  # a model swapped under its name is another

    @functools.cached_property  # only nodes that compute with tensors ask, and the answer may import their library
    def device(self) -> str:  # type: ignore[override]
        return self._around.numerics().device

    @functools.cached_property
    def dtype(self) -> str:  # type: ignore[override]
        return self._around.numerics().dtype

    def step(self, i: int, n: int, preview: Any = None) -> None:
        self._around.emit(NodeProgress(self._node, i, n, preview))
        if self._around.cancelled.is_set():
            raise _cancelled()

    def resident(self, key: Hashable, make: Callable[[], T]) -> T:
        return self._around.residents.get(self._scope, key, make)

    def notice(self, message: str) -> None:
        if message not in self.notices:  # a node that runs again says it again
            self.notices.append(message)
            self._around.emit(Notice(self._node, message))


def _cancelled() -> Cancelled:
    return Cancelled("the run was stopped; what was finished is kept")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or "no message"
