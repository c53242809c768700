"""What params and node inputs are given, by the workflow or from outside it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nodegraph import literals
from nodegraph.errors import Location, Problem
from nodegraph.literals import Unfit, type_name
from nodegraph.registry import Entry, did_you_mean
from nodegraph.spec import MISSING, NodeSpec, Port, Range
from nodegraph.workflow import NodeDef, ParamDef, ParamRef, Workflow

RANDOM = "random"
_SEEDS_BELOW = 2**32  # short enough to type again
_PARAM_TYPES = {"text": str, "int": int, "float": float, "bool": bool, "path": str, "seed": int}


@dataclass(frozen=True)
class Override:
    """A value given from outside the workflow: `name` is a param or `node.input`.

    `text`: from the command line, so the port decides how it is read. Relative paths start from `base`, or the current directory.
    """

    name: str
    value: Any
    text: bool = False
    base: Path = field(default_factory=Path.cwd)


@dataclass(frozen=True)
class Given:
    """A value on its way to a port, with what it takes to read it and to speak of it.

    `home` is the workflow's folder; `source` says who gave the value where that is not the place `where`; `param`: the one it is.
    """

    value: Any
    base: Path
    home: Path
    where: Location | None = None
    text: bool = False
    source: str = ""
    param: str | None = None

    def told(self) -> Any:
        """The value as the workflow file would say it: a path from elsewhere, seen from the workflow's folder."""
        if self.base == self.home or not isinstance(self.value, str | os.PathLike):
            return self.value
        path = self.base / Path(self.value).expanduser()
        try:
            return Path(os.path.relpath(path, self.home)).as_posix() if path.exists() else self.value
        except (OSError, ValueError):  # text that can be no path; another drive
            return self.value

    def unfit(self, what: str, error: Unfit) -> Problem:
        """The problem that `error` is, when this value was given to `what`."""
        code = "E113" if isinstance(error.__cause__, OSError) else "E110"
        return Problem(code, f"{f'{self.source}, ' if self.source else ''}{what}: {error.message}", self.where, error.hint)


class Givens:
    """The values of all params, and those of node inputs that come from outside the workflow.

    `bad` are the params that were found wrong and spoken of, so that what they feed need not be.
    """

    def __init__(self, workflow: Workflow, specs: Mapping[str, Entry[NodeSpec]], problems: list[Problem]) -> None:
        self.workflow, self.specs, self.problems = workflow, specs, problems
        self.inputs: dict[tuple[str, str], Given] = {}
        self.bad: set[str] = set()
        base = workflow.base
        self.params = {
            name: Given(param.default, base, base, param.where, source=f"param '{name}'", param=name)
            for name, param in workflow.params.items()
        }

    def take(self, overrides: Sequence[Override]) -> None:
        """Put `overrides` in place and check every param."""
        for override in overrides:
            self._override(override)
        fed: dict[str, list[tuple[NodeDef, Port]]] = {name: [] for name in self.params}
        for node in self.workflow.nodes.values():
            entry = self.specs.get(node.name)
            for input, value in node.inputs.items():
                port = entry.value.input(input) if entry else None
                for name in _param_names(value):
                    if port and name in fed:
                        fed[name].append((node, port))
        for name, param in self.workflow.params.items():
            problem = self._check(param, fed[name])
            if problem:
                self.bad.add(name)
                self.problems.append(problem)

    def _override(self, override: Override) -> None:
        source = f"--set {override.name}" if override.text else f"'{override.name}'"
        given = Given(override.value, override.base, self.workflow.base, None, override.text, source)
        node, dot, input = override.name.partition(".")
        if override.name in self.params:
            self.params[override.name] = replace(given, param=override.name)
        elif dot and node in self.workflow.nodes:
            entry = self.specs.get(node)
            if entry and entry.value.input(input) is None:
                names = [port.name for port in entry.value.inputs]
                hint = did_you_mean(input, names) or f"It has {', '.join(names)}."
                self.problems.append(Problem("E120", f"{source}: {entry.name} has no input '{input}'", None, hint))
            self.inputs[node, input] = given
        else:
            known = [*self.params, *(f"{n}.{i}" for n, d in self.workflow.nodes.items() for i in d.inputs)]
            choices = f"The params are {', '.join(self.params)}." if self.params else "It has no params."
            hint = did_you_mean(override.name, known) or f"{choices} 'node.input' sets an input of a node."
            self.problems.append(Problem("E120", f"{source}: the workflow has no such param or node input", None, hint))

    def _check(self, param: ParamDef, fed: list[tuple[NodeDef, Port]]) -> Problem | None:
        """A param takes the type of the inputs which it feeds; it cannot be text here and a number there."""
        kinds = {literals.takes_text(port): (node, port) for node, port in fed}
        if len(kinds) == 2:
            feeds = " and ".join(f"'{node.name}.{port.name}' ({type_name(port.type)})" for node, port in kinds.values())
            message = f"param '{param.name}' feeds {feeds}, which never take the same value"
            return Problem("E114", message, param.where, "Make two params.")
        given = self.params[param.name]
        if given.value is MISSING:
            return Problem("E114", f"param '{param.name}' has no value", param.where, f"Give it one: --set {param.name}=...")
        declared = _PARAM_TYPES.get(param.type or "")
        port = fed[0][1] if fed else Port(param.name, declared or Any, seed=param.type == "seed")
        try:
            value = literals.from_text(port, given.value) if given.text else given.value
            if port.seed or any(port.seed for _, port in fed):
                value = drawn(value)
            if declared is not None:
                value = literals.coerce(declared, os.fspath(value) if isinstance(value, os.PathLike) else value)
            literals.check_range(Port(param.name, Any, range=Range(param.min, param.max)), value)
        except Unfit as error:
            return replace(given, source="").unfit(given.source or f"param '{param.name}'", error)
        self.params[param.name] = replace(given, value=value, text=False)
        return None


def drawn(value: Any) -> Any:
    """A seed as it is, or one drawn for the word `random`."""
    return secrets.randbelow(_SEEDS_BELOW) if value == RANDOM else value


def _param_names(value: Any) -> Iterator[str]:
    if isinstance(value, ParamRef):
        yield value.name
    elif isinstance(value, list):
        for item in value:
            yield from _param_names(item)
