"""Values that are given from outside a workflow, and where each value of a graph came from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, field
from pathlib import Path
from typing import Any, Final

from nodegraph.errors import Location, Problem, WorkflowError
from nodegraph.light_dataclass import dataclass
from nodegraph.node_types import literals
from nodegraph.node_types.literals import LiteralError
from nodegraph.node_types.spec import Port, under
from nodegraph.text import described
from nodegraph.workflow.definitions import Wrapped
from nodegraph.workflow.document import parse_value

SET: Final = "--set"
_OPTION: Final = "--"  # what the sources of values from the command line begin with


@dataclass(frozen=True, eq=False)
class Override:
    """A value given from outside the workflow: `name` is a param or `node.input`.

    `text`: from the command line, so the port decides how it is read; `option` is what gave it. Relative paths start from `base`,
    or the current directory. `where`: its line in a preset.
    """

    name: str
    value: Any
    _: KW_ONLY
    text: bool = False
    base: Path = field(default_factory=Path.cwd)
    where: Location | None = None
    option: str = SET

    @property
    def source(self) -> str:
        """What messages call it."""
        return f"{self.option} {self.name}" if self.text else f"'{self.name}'"

    def value_in(self, home: Path) -> InputValue:
        """Its value, for a workflow in the folder `home`."""
        return InputValue(value=self.value, base=self.base, home=home, where=self.where, text=self.text, source=self.source)


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
class InputValue(Wrapped):
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
        """Whether it was given in Python: neither in a file nor as text of the command line."""
        in_file = self.where is not None and self.where.column > 1  # inside the mapping of a node
        return not in_file and not self.source.startswith(_OPTION)

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


def from_text(port: Port, text: str) -> Any:
    """The value that `--set` gives `port`: text inputs take `text` as it is, others read it as YAML. Raises LiteralError."""
    if literals.takes_text(port):
        return text
    try:
        return parse_value(text)
    except ValueError as error:
        raise LiteralError(str(error)) from None
