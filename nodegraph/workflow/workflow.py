"""What a person writes: nodes, links, params and outputs. Nothing is checked here; `graph.py` does that.

The YAML document and the Python calls make the same object.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from nodegraph.errors import Location
from nodegraph.text import shown

NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
"""What nodes, params and outputs may be called."""

PARAMS: Final = "params"
"""What no node can be called: `$params.x` is a param."""

NAME_RULE: Final = "Names are letters, digits, '_' and '-', and begin with a letter or '_'."


@dataclass(frozen=True, repr=False)
class Link:
    """A reference to another node's output: `$node` or `$node.port`."""

    node: str
    port: str | None = None

    def __repr__(self) -> str:
        return f"${self.node}.{self.port}" if self.port else f"${self.node}"


@dataclass(frozen=True, repr=False)
class ParamRef:
    """A reference to a param of the workflow: `$params.name`."""

    name: str

    def __repr__(self) -> str:
        return f"$params.{self.name}"


def references(value: Any) -> Iterator[Link | ParamRef]:
    """The references in a given value, through lists and mappings."""
    if isinstance(value, Link | ParamRef):
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from references(item)


@dataclass(frozen=True)
class ParamDef:
    """A param: its default, and what may be said about it. `type` None: that of the inputs which it feeds."""

    name: str
    default: Any
    type: str | None = None
    min: float | None = None
    max: float | None = None
    help: str = ""
    where: Location | None = None


@dataclass(frozen=True)
class NodeDef:
    """A node: its type and what its inputs are given, with the places where each was written."""

    name: str
    type: str
    inputs: Mapping[str, Any]
    where: Location | None = None
    places: Mapping[str, tuple[Location, Location]] = field(default_factory=dict)  # of each input (and `use`): its key, its value

    def place(self, input: str, *, key: bool = False) -> Location | None:
        """Where the value of `input` was written, or its key."""
        key_place, value_place = self.places.get(input, (self.where, self.where))
        return key_place if key else value_place


@dataclass(frozen=True)
class OutputDef:
    """A wanted result: which link, and the file name template that it is saved under."""

    name: str
    link: Link
    save: str | None = None
    where: Location | None = None


class PortHandle:
    """One output of a node that was added: give it to another node's input."""

    __slots__ = ("_node", "_port", "_workflow")

    def __init__(self, workflow: Workflow, node: str, port: str) -> None:
        self._workflow, self._node, self._port = workflow, node, port

    def __repr__(self) -> str:
        return f"<{self._node}.{self._port}>"


class NodeHandle:
    """A node that was added. It stands for its only output; an attribute is the output of that name."""

    __slots__ = ("_node", "_workflow")

    def __init__(self, workflow: Workflow, node: str) -> None:
        self._workflow, self._node = workflow, node

    def __getattr__(self, port: str) -> PortHandle:
        if port.startswith("_"):
            raise AttributeError(port)
        return PortHandle(self._workflow, self._node, port)

    def __repr__(self) -> str:
        return f"<{self._node}>"


Handle = NodeHandle | PortHandle


def link_of(handle: Handle) -> Link:
    """The link that a handle stands for."""
    return Link(handle._node, handle._port if isinstance(handle, PortHandle) else None)


class Workflow:
    """A workflow: typed nodes by name, params, and the outputs that are wanted.

    `base` is the folder that relative paths in its inputs start from.
    """

    def __init__(self, name: str = "workflow", description: str = "", *, base: Path | None = None) -> None:
        self.name, self.description = name, description
        self.base = Path.cwd() if base is None else base
        self.params: dict[str, ParamDef] = {}
        self.nodes: dict[str, NodeDef] = {}
        self.outputs: dict[str, OutputDef] = {}

    def add(self, type: str, /, *, name: str | None = None, **inputs: Any) -> NodeHandle:
        """Add a node of `type`; an input is a literal, a handle of another node, or a param; lists and mappings may hold these.

        Without `name` it is called after its type. Raises ValueError if the name is taken or is none, or if a handle is of
        another workflow.
        """
        name = self._free_name(type) if name is None else _good("node", name, (*self.nodes, PARAMS))
        self.nodes[name] = NodeDef(name, type, {key: self._plain(value) for key, value in inputs.items()}, _calling_line())
        return NodeHandle(self, name)

    def param(
        self,
        name: str,
        default: Any,
        *,
        type: str | None = None,
        min: float | None = None,
        max: float | None = None,
        help: str = "",
    ) -> ParamRef:
        """Add a param and give the reference to use as an input. Raises ValueError if the name is taken or is none."""
        self.params[_good("param", name, self.params)] = ParamDef(name, default, type, min, max, help, _calling_line())
        return ParamRef(name)

    def output(self, name: str, handle: Handle, save: str | None = None) -> None:
        """Want the value of `handle`, called `name`, saved as the template `save` says.

        Raises ValueError if the name is taken or is none, or if `handle` is no node of this workflow.
        """
        link = self._plain(handle)
        if not isinstance(link, Link):
            raise ValueError(f"output '{name}' is {handle!r}. Expected what 'add' gave, or an output of it")
        self.outputs[_good("output", name, self.outputs)] = OutputDef(name, link, save, _calling_line())

    @classmethod
    def load(cls, path: Path | str) -> Workflow:
        """Read a YAML file. Raises WorkflowError with every mistake in its form."""
        from nodegraph.workflow.document import read

        return read(Path(path))

    @classmethod
    def parse(cls, text: str, *, file: str = "<text>", base: Path | None = None) -> Workflow:
        """Read YAML text; `file` is what errors call it. Raises WorkflowError."""
        from nodegraph.workflow.document import parse

        return parse(text, file=file, base=base)

    def dump(self) -> str:
        """The workflow as YAML: reading it back gives the same workflow."""
        from nodegraph.workflow.document import dump

        return dump(self)

    def _free_name(self, type: str) -> str:
        """The type's name in lower case, its words apart, and a number where it is taken: ReadText, read_text_2."""
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z]{2})(?=[A-Z][a-z])", "_", type).lower()
        stem = re.sub(r"[^a-z0-9_-]", "_", words).lstrip("-0123456789") or "node"
        names = (stem, *(f"{stem}_{k}" for k in range(2, len(self.nodes) + 4)))
        return next(name for name in names if name not in self.nodes and name != PARAMS)

    def _plain(self, value: Any) -> Any:
        """Handles as links, through lists and mappings; these are copied."""
        if isinstance(value, NodeHandle | PortHandle):
            if value._workflow is not self:
                raise ValueError(f"{value!r} is a node of another workflow. Links stay within one")
            return link_of(value)
        if isinstance(value, list | tuple):
            return [self._plain(item) for item in value]
        if isinstance(value, dict):
            return {key: self._plain(item) for key, item in value.items()}
        return value


def _good(what: str, name: str, taken: Iterable[str]) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(f"{what} '{name}': that is no name. {NAME_RULE}")
    if name in taken:
        raise ValueError(f"{what} '{name}': the name is taken. Give another")
    return name


def _calling_line() -> Location:
    """The line that calls the method which calls this."""
    caller = sys._getframe(2)
    return Location(shown(caller.f_code.co_filename), caller.f_lineno, 1)
