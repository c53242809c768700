"""What a person writes: nodes, links, params and outputs. Nothing is checked here; `graph.py` does that.

The YAML document and the Python calls make the same object.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nodegraph.errors import Location


@dataclass(frozen=True)
class Link:
    """A reference to another node's output: `$node` or `$node.port`."""

    node: str
    port: str | None = None

    def __str__(self) -> str:
        return f"${self.node}.{self.port}" if self.port else f"${self.node}"


@dataclass(frozen=True)
class ParamRef:
    """A reference to a param of the workflow: `$params.name`."""

    name: str

    def __str__(self) -> str:
        return f"$params.{self.name}"


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
    places: Mapping[str, Location] = field(default_factory=dict)  # "input", "input name" -> where; see `place`

    def place(self, input: str, *, key: bool = False) -> Location | None:
        """Where the value of `input` was written, or its key."""
        return self.places.get(f"{input} key" if key else input, self.where)


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
        """Add a node of `type`; an input is a literal, a handle of another node, or a param.

        Without `name` it is called after its type. Raises ValueError if the name is taken or a handle is of another workflow.
        """
        name = self._free_name(type) if name is None else name
        if name in self.nodes:
            raise ValueError(f"there is a node '{name}' already. Give another name")
        caller = sys._getframe(1)
        where = Location(os.path.relpath(caller.f_code.co_filename), caller.f_lineno, 1)
        self.nodes[name] = NodeDef(name, type, {key: self._plain(value) for key, value in inputs.items()}, where)
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
        """Add a param and give the reference to use as an input. Raises ValueError if the name is taken."""
        if name in self.params:
            raise ValueError(f"there is a param '{name}' already. Give another name")
        self.params[name] = ParamDef(name, default, type, min, max, help)
        return ParamRef(name)

    def output(self, name: str, handle: Handle, save: str | None = None) -> None:
        """Want the value of `handle`, called `name`, saved as the template `save` says. Raises ValueError if the name is taken."""
        if name in self.outputs:
            raise ValueError(f"there is an output '{name}' already. Give another name")
        self.outputs[name] = OutputDef(name, self._plain(handle), save)

    @classmethod
    def load(cls, path: Path | str) -> Workflow:
        """Read a YAML file. Raises WorkflowError with every mistake in its form."""
        from nodegraph.document import read

        return read(Path(path))

    @classmethod
    def parse(cls, text: str, *, file: str = "<text>", base: Path | None = None) -> Workflow:
        """Read YAML text; `file` is what errors call it. Raises WorkflowError."""
        from nodegraph.document import parse

        return parse(text, file=file, base=base)

    def dump(self) -> str:
        """The workflow as YAML: reading it back gives the same workflow."""
        from nodegraph.document import dump

        return dump(self)

    def _free_name(self, type: str) -> str:
        stem = "".join(
            f"_{c.lower()}" if c.isupper() and i and not type[i - 1].isupper() else c.lower() for i, c in enumerate(type)
        )
        return next(name for name in (stem, *(f"{stem}_{k}" for k in range(2, len(self.nodes) + 3))) if name not in self.nodes)

    def _plain(self, value: Any) -> Any:
        """Handles as links, lists through and through."""
        if isinstance(value, NodeHandle | PortHandle):
            if value._workflow is not self:
                raise ValueError(f"{value!r} is a node of another workflow. Links stay within one")
            return link_of(value)
        if isinstance(value, list | tuple):
            return [self._plain(item) for item in value]
        return value
