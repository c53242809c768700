"""The params of a workflow: their values, types and ranges, and the inputs of nodes that are given from outside."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from nodegraph.errors import Problem
from nodegraph.graph.expansion.flat import FlatDocument
from nodegraph.graph.overrides import InputValue, Override, from_text
from nodegraph.graph.suggest import suggest_input
from nodegraph.light_dataclass import dataclass
from nodegraph.node_types import literals
from nodegraph.node_types.literals import LiteralError
from nodegraph.node_types.port_types import accepts, element_type, member_type, type_name
from nodegraph.node_types.spec import MISSING, RANDOM, NodeSpec, Port, Range
from nodegraph.plugins.registry import Entry
from nodegraph.text import did_you_mean
from nodegraph.workflow.definitions import Document, ParamDef, ParamRef, references
from nodegraph.workflow.document import parse_value
from nodegraph.workflow.recorded import RecordedFiles
from nodegraph.workflow.workflow import with_member

_SEEDS_BELOW: Final = 2**32  # short enough to type again


@dataclass(frozen=True, eq=False)
class _Use:
    """An input that a param feeds, or a part of it: `port` has the type of that part."""

    node: str
    port: Port


class InputValues:
    """The values of all params, and of the node inputs that are given from outside the workflow.

    `bad_params` are the params for which a problem was already reported, so that the inputs they feed need no other. `drawn_seeds`
    are the seeds that were `random`, by "param" or "node.input"; `seeds` are those that were drawn when the graph was built before.
    `recorded` are the files that the workflow read before.
    """

    def __init__(
        self,
        workflow: Document,
        types: Mapping[str, Entry[NodeSpec]],
        problems: list[Problem],
        *,
        base: Path,
        declared: Callable[[str], Any],
        seeds: Mapping[str, int],
        recorded: RecordedFiles | None = None,
    ) -> None:
        self.workflow, self.types, self.problems = workflow, types, problems
        self.base, self._declared, self.recorded, self._seeds = base, declared, recorded, seeds
        self.bases: Mapping[str, Path] = workflow.bases if isinstance(workflow, FlatDocument) else {}
        self.inputs: dict[tuple[str, str], InputValue] = {}
        self.bad_params: set[str] = set()
        self.drawn_seeds: dict[str, int] = {}
        self.params = {
            name: InputValue(value=param.default, base=base, home=base, where=param.where, source=f"param '{name}'")
            for name, param in workflow.params.items()
        }
        if isinstance(workflow, FlatDocument):
            self.params |= {name: workflow.bound[name] for name in workflow.params if name in workflow.bound}
        self._uses: dict[str, list[_Use]] = {name: [] for name in self.params}
        for node in workflow.nodes.values():
            entry = types.get(node.name)
            for input, value in node.inputs.items():
                port = entry.value.input(input) if entry else None
                for ref, kind in _param_types(value, port.type) if port else ():
                    if port and ref.name in self._uses:
                        self._uses[ref.name].append(_Use(node.name, port if kind is port.type else replace(port, type=kind)))
        if isinstance(workflow, FlatDocument):
            for inner, outer in reversed(workflow.aliases):
                if inner in self._uses and outer in self._uses:
                    known = {id(use.port) for use in self._uses[outer]}  # through many levels, most are the same
                    self._uses[outer] += [use for use in self._uses[inner] if id(use.port) not in known]

    def apply(self, overrides: Sequence[Override]) -> None:
        """Replace values by `overrides`, then check every param."""
        for override in overrides:
            self._override(override)
        for name, param in self.workflow.params.items():
            problem = self._check(param, self._uses[name])
            if problem:
                self.bad_params.add(name)
                self.problems.append(problem)

    def resolved_params(self) -> dict[str, Any]:
        """The values of the params, as the workflow file would have them."""
        return {name: raw.in_workflow(path=self.is_path(name)) for name, raw in self.params.items() if "." not in name}

    def seed(self, name: str, value: Any) -> Any:
        """`value`, or a number drawn for the word `random`; `name` is the param, or "node.input"."""
        if not (isinstance(value, str) and value == RANDOM):
            return value
        import secrets  # slow to import, and rarely needed

        seed = self._seeds.get(name)
        self.drawn_seeds[name] = secrets.randbelow(_SEEDS_BELOW) if seed is None else seed
        return self.drawn_seeds[name]

    def is_path(self, name: str) -> bool:
        """Whether the value of a param is a path."""
        return self.workflow.params[name].type == "path" or any(use.port.reads for use in self._uses[name])

    def _unknown(self, raw: InputValue) -> Problem | None:
        """The problem that the value of a param is another param, which does not exist."""
        name = raw.value.name
        if name in self.workflow.unread:
            return None
        hint = did_you_mean(name, self.workflow.params) or "Add it under 'params:'."
        return Problem("E106", f"there is no param '{name}' ({raw.source})", raw.where, hint)

    def _filled(self, value: Any) -> Any:
        """A list or mapping with the values of params instead of references to them."""
        if isinstance(value, ParamRef):
            return self.params[value.name].value if value.name in self.params else value
        if isinstance(value, list):
            return [self._filled(item) for item in value]
        return {key: self._filled(item) for key, item in value.items()} if isinstance(value, dict) else value

    def _override(self, override: Override) -> None:
        raw, source = override.value_in(self.base), override.source
        node, _, rest = override.name.partition(".")
        input, *keys = rest.split(".") if rest else [""]
        if override.name in self.params:
            self.params[override.name] = raw
        elif rest and node in self.workflow.nodes:
            entry = self.types.get(node)
            port = entry.value.input(input) if entry else None
            if entry and port is None:
                names = [port.name for port in entry.value.inputs]
                hint = did_you_mean(input, names) or f"Its inputs are {', '.join(names)}."
                self.problems.append(Problem("E120", f"{source}: {entry.name} has no input '{input}'", raw.where, hint))
            if keys and port is not None and member_type(port.type) is None:
                message = f"{source}: '{input}' of node '{node}' is {type_name(port.type)}, which has no '{'.'.join(keys)}'"
                self.problems.append(Problem("E120", message, raw.where, f"Set it as a whole: --set {node}.{input}=..."))
                return
            self.inputs[node, input] = self._with_member(node, input, keys, raw) if keys else raw
        elif override.name not in self.workflow.unread:
            names = [name for name in self.params if "." not in name]
            choices = f"The params are {', '.join(names)}." if names else "It has no params."
            hint = suggest_input(override.name, self.workflow, self.types) or f"{choices} 'node.input' sets an input of a node."
            if override.name in self.workflow.nodes:
                inputs = override.value if isinstance(override.value, Mapping) else ()
                hint = f"It is a node: name its inputs one by one, such as '{override.name}.{next(iter(inputs), 'input')}'."
            message = f"{source}: the workflow has no such param or node input"
            self.problems.append(Problem("E120", message, raw.where, hint))

    def _with_member(self, node: str, input: str, keys: Sequence[str], raw: InputValue) -> InputValue:
        """The mapping at an input with one member replaced by `raw`; the other members stay as they are."""
        before = self.inputs.get((node, input))
        value = before.value if before else self.workflow.nodes[node].inputs.get(input)
        if isinstance(value, ParamRef) and value.name in self.params:
            value = self.params[value.name].value
        try:
            if before and before.text and isinstance(value, str):
                value = parse_value(value)
            member = parse_value(raw.value) if raw.text else raw.value
        except ValueError as error:
            self.problems.append(raw.problem("E110", str(error)))
            return replace(raw, value={}, text=False)
        return replace(raw, value=with_member(value, keys, member), text=False)

    def _check(self, param: ParamDef, uses: list[_Use]) -> Problem | None:
        """Check a param against its own type and range, and the inputs that it feeds, which must not disagree."""
        try:
            declared = None if param.type is None else self._declared(param.type)
        except LiteralError as error:
            return Problem("E114", error.message, param.where, error.hint)
        conflict = _conflict(uses) or (_misdeclared(param.type, declared, uses) if declared is not None else "")
        if conflict:
            return Problem("E114", f"param '{param.name}' {conflict}", param.where, "Make two params, or change its type.")
        raw = self.params[param.name]
        if raw.value is MISSING:
            hint = f"Give it one: --set {param.name}=..."
            if declared is not None and not literals.is_plain(Port(param.name, declared)):
                hint = "A node of another workflow that uses this one gives it."
            return Problem("E114", f"param '{param.name}' has no value", param.where, hint)
        if isinstance(raw.value, ParamRef):  # of the workflow around this one
            if raw.value.name not in self.params or raw.value.name in self.bad_params:
                self.bad_params.add(param.name)
                return self._unknown(raw) if raw.value.name not in self.params else None
            raw = self.params[raw.value.name]
        elif isinstance(raw.value, list | dict) and any(references(raw.value)):
            raw = replace(raw, value=self._filled(raw.value))
        port = uses[0].port if uses else Port(param.name, Any if declared is None else declared, seed=param.type == "seed")
        try:
            value = from_text(port, raw.value) if raw.text else raw.value
            if param.type == "seed" or any(use.port.seed for use in uses):
                value = self.seed(param.name, value)
            if declared is not None and not (value is None and _take_nothing(uses)):
                value = literals.coerce(declared, os.fspath(value) if isinstance(value, os.PathLike) else value)
            literals.check_range(Port(param.name, Any, range=Range(param.min, param.max)), value)
        except LiteralError as error:
            is_other_file = param.where is not None and raw.where is not None and param.where.file != raw.where.file
            place = f", which is param '{param.name.rpartition('.')[2]}' in {param.where}" if is_other_file else ""
            return replace(raw, source="").does_not_fit(raw.source + place, error)
        self.params[param.name] = replace(raw, value=value, text=False)
        return None


def _conflict(uses: list[_Use]) -> str:
    kinds = {literals.takes_text(use.port): use for use in uses}
    if len(kinds) < 2:
        return ""
    return f"feeds {' and '.join(map(_named, kinds.values()))}, which cannot take the same value"


def _misdeclared(name: str | None, declared: type, uses: list[_Use]) -> str:
    for use in uses:
        if not (accepts(use.port.type, declared) or (declared is str and literals.takes_text(use.port))):
            return f"is of type {name}, but feeds {_named(use)}"
    return ""


def _take_nothing(uses: list[_Use]) -> bool:
    return bool(uses) and all(accepts(use.port.type, type(None)) for use in uses)


def _named(use: _Use) -> str:
    return f"'{use.node}.{use.port.name}' ({type_name(use.port.type)})"


def _param_types(value: Any, kind: Any) -> Iterator[tuple[ParamRef, Any]]:
    """The params in a value for an input of type `kind`, each with the type that is expected in its position."""
    if isinstance(value, ParamRef):
        yield value, kind
    elif isinstance(value, list | dict):
        inner = element_type(kind) if isinstance(value, list) else member_type(kind)
        for item in value if isinstance(value, list) else value.values():
            yield from _param_types(item, Any if inner is None else inner)
