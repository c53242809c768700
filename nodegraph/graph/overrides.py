"""The values of params and node inputs: those in the workflow, and those given from outside it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import Any

from nodegraph.errors import Location, Problem, WorkflowError
from nodegraph.graph.suggest import suggest_input
from nodegraph.node_types import literals
from nodegraph.node_types.literals import LiteralError
from nodegraph.node_types.port_types import accepts, element_type, member_type, type_name
from nodegraph.node_types.spec import MISSING, RANDOM, NodeSpec, Port, Range, under
from nodegraph.plugins.registry import Entry
from nodegraph.text import described, did_you_mean
from nodegraph.workflow.definitions import PARAM_TYPES, ParamDef, ParamRef
from nodegraph.workflow.document import parse_value
from nodegraph.workflow.workflow import Workflow

_SET = "--set "
_SEEDS_BELOW = 2**32  # short enough to type again


@dataclass(frozen=True, eq=False)
class Override:
    """A value given from outside the workflow: `name` is a param or `node.input`.

    `text`: from the command line, so the port decides how it is read. Relative paths start from `base`, or the current directory.
    """

    name: str
    value: Any
    _: KW_ONLY
    text: bool = False
    base: Path = field(default_factory=Path.cwd)


def all_overrides(params: Any, overrides: Any) -> list[Override]:
    """The values that a call gives by name, and its overrides. Raises WorkflowError if either is something else."""
    problem = None
    if not (params is None or isinstance(params, Mapping)):
        message = f"params: expected a mapping of names to values, found {described(params)}"
        problem = Problem("E110", message, None, "For example: params={'seed': 7, 'node.input': 1}.")
    elif bad := [name for name in params or () if not isinstance(name, str)]:
        message = f"params: expected names as text, found {described(bad[0])}"
        problem = Problem("E110", message, None, "Write 'name' or 'node.input'.")
    elif not isinstance(overrides, Sequence) or not all(isinstance(override, Override) for override in overrides):
        message = f"overrides: expected a list of Override objects, found {described(overrides)}"
        problem = Problem("E110", message, None, "Pass values by name as params: params={'name': value, 'node.input': value}.")
    if problem is not None:
        raise WorkflowError([problem])
    return [*(Override(name, value) for name, value in (params or {}).items()), *overrides]


@dataclass(frozen=True, kw_only=True, eq=False)
class InputValue:
    """A value for a port, with what is needed to read it and to say in a message where it came from.

    Relative paths in it start from `base`; `home` is the workflow's folder. `where` is its location in the workflow; `source` names
    where it came from otherwise, such as `--set seed`.
    """

    value: Any
    base: Path
    home: Path
    where: Location | None = None
    text: bool = False
    source: str = ""

    @property
    def in_python(self) -> bool:
        """Whether it was given in Python: neither in a file nor as the text of `--set`."""
        in_file = self.where is not None and self.where.column > 1  # inside the mapping of a node
        return not in_file and not self.source.startswith(_SET)

    def in_workflow(self, *, path: bool) -> Any:
        """The value as the workflow file would have it: a relative path (`path`) becomes relative to the workflow's folder."""
        if not path or self.base == self.home or not isinstance(self.value, str | os.PathLike):
            return self.value
        try:
            absolute = under(self.base, os.fspath(self.value))
            if absolute != self.base / self.value or Path(self.value).is_absolute() or not absolute.exists():
                return self.value  # the same from everywhere, or not a path but the name of something built in
            return Path(os.path.relpath(absolute, self.home)).as_posix()
        except (OSError, ValueError):  # text that cannot be a path; another drive
            return self.value

    def does_not_fit(self, what: str, error: LiteralError) -> Problem:
        """The problem that this value does not fit `what`, because of `error`."""
        source = f"{self.source}, " if self.source else ""
        return Problem(error.code, f"{source}{what}: {error.message}", self.where, error.hint)

    def problem(self, code: str, message: str, hint: str = "") -> Problem:
        """A problem with this value, located where it was given."""
        return Problem(code, f"{self.source}: {message}" if self.source else message, self.where, hint)


@dataclass(frozen=True, eq=False)
class _Use:
    """An input that a param feeds, or a part of it: `port` has the type of that part."""

    node: str
    port: Port


class InputValues:
    """The values of all params, and of the node inputs that are given from outside the workflow.

    `bad_params` are the params for which a problem was already reported, so that the inputs they feed need no other. `drawn_seeds`
    are the seeds that were `random`, by "param" or "node.input".
    """

    def __init__(self, workflow: Workflow, types: Mapping[str, Entry[NodeSpec]], problems: list[Problem]) -> None:
        self.workflow, self.types, self.problems = workflow, types, problems
        self.inputs: dict[tuple[str, str], InputValue] = {}
        self.bad_params: set[str] = set()
        self.drawn_seeds: dict[str, int] = {}
        self.params = {
            name: InputValue(
                value=param.default, base=workflow.base, home=workflow.base, where=param.where, source=f"param '{name}'"
            )
            for name, param in workflow.params.items()
        }
        self._uses: dict[str, list[_Use]] = {name: [] for name in self.params}
        for node in workflow.nodes.values():
            entry = types.get(node.name)
            for input, value in node.inputs.items():
                port = entry.value.input(input) if entry else None
                for ref, kind in _param_types(value, port.type) if port else ():
                    if port and ref.name in self._uses:
                        self._uses[ref.name].append(_Use(node.name, replace(port, type=kind)))

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
        return {name: raw.in_workflow(path=self._is_path(name)) for name, raw in self.params.items()}

    def seed(self, name: str, value: Any) -> Any:
        """`value`, or a number drawn for the word `random`; `name` is the param, or "node.input"."""
        if not (isinstance(value, str) and value == RANDOM):
            return value
        import secrets  # slow to import, and rarely needed

        self.drawn_seeds[name] = secrets.randbelow(_SEEDS_BELOW)
        return self.drawn_seeds[name]

    def _is_path(self, name: str) -> bool:
        return self.workflow.params[name].type == "path" or any(use.port.reads for use in self._uses[name])

    def _override(self, override: Override) -> None:
        source = f"{_SET}{override.name}" if override.text else f"'{override.name}'"
        raw = InputValue(value=override.value, base=override.base, home=self.workflow.base, text=override.text, source=source)
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
                self.problems.append(Problem("E120", f"{source}: {entry.name} has no input '{input}'", None, hint))
            if keys and port is not None and member_type(port.type) is None:
                message = f"{source}: '{input}' of node '{node}' is {type_name(port.type)}, which has no '{'.'.join(keys)}'"
                self.problems.append(Problem("E120", message, None, f"Set it as a whole: --set {node}.{input}=..."))
                return
            self.inputs[node, input] = self._with_member(node, input, keys, raw) if keys else raw
        elif override.name not in self.workflow.unread:
            choices = f"The params are {', '.join(self.params)}." if self.params else "It has no params."
            hint = suggest_input(override.name, self.workflow, self.types) or f"{choices} 'node.input' sets an input of a node."
            if override.name in self.workflow.nodes:
                inputs = override.value if isinstance(override.value, Mapping) else ()
                hint = f"It is a node: name its inputs one by one, such as '{override.name}.{next(iter(inputs), 'input')}'."
            self.problems.append(Problem("E120", f"{source}: the workflow has no such param or node input", None, hint))

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
        return replace(raw, value=_replaced(value, keys, member), text=False)

    def _check(self, param: ParamDef, uses: list[_Use]) -> Problem | None:
        """Check a param against its own type and range, and the inputs that it feeds, which must not disagree."""
        declared = PARAM_TYPES.get(param.type or "")
        conflict = _conflict(uses) or (_misdeclared(param.type, declared, uses) if declared else "")
        if conflict:
            return Problem("E114", f"param '{param.name}' {conflict}", param.where, "Make two params, or change its type.")
        raw = self.params[param.name]
        if raw.value is MISSING:
            return Problem("E114", f"param '{param.name}' has no value", param.where, f"Give it one: --set {param.name}=...")
        port = uses[0].port if uses else Port(param.name, declared or Any, seed=param.type == "seed")
        try:
            value = from_text(port, raw.value) if raw.text else raw.value
            if param.type == "seed" or any(use.port.seed for use in uses):
                value = self.seed(param.name, value)
            if declared is not None and not (value is None and _take_nothing(uses)):
                value = literals.coerce(declared, os.fspath(value) if isinstance(value, os.PathLike) else value)
            literals.check_range(Port(param.name, Any, range=Range(param.min, param.max)), value)
        except LiteralError as error:
            return replace(raw, source="").does_not_fit(raw.source, error)
        self.params[param.name] = replace(raw, value=value, text=False)
        return None


def from_text(port: Port, text: str) -> Any:
    """The value that `--set` gives `port`: text inputs take `text` as it is, others read it as YAML. Raises LiteralError."""
    if literals.takes_text(port):
        return text
    try:
        return parse_value(text)
    except ValueError as error:
        raise LiteralError(str(error)) from None


def _replaced(mapping: Any, keys: Sequence[str], value: Any) -> dict[str, Any]:
    """A copy of `mapping` with the member at the path `keys` replaced; what is not a mapping becomes one."""
    key, *rest = keys
    members = dict(mapping) if isinstance(mapping, dict) else {}
    return {**members, key: _replaced(members.get(key), rest, value) if rest else value}


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
