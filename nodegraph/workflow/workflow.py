"""Workflows composed in Python: `Workflow.add`, `param` and `output`. A YAML file gives the same object."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nodegraph.errors import Location, Problem
from nodegraph.text import described, relative_path
from nodegraph.workflow.definitions import NAME, NAME_RULE, PARAMS, Document, Link, NodeDef, OutputDef, ParamDef, ParamRef


class PortHandle:
    """One output of a node that was added, to pass to an input of another node."""

    __slots__ = ("_node", "_port", "_workflow")

    def __init__(self, workflow: Workflow, node: str, port: str) -> None:
        self._workflow, self._node, self._port = workflow, node, port

    def __repr__(self) -> str:
        return f"<{self._node}.{self._port}>"


class NodeHandle:
    """A node that was added. It stands for its only output; its attributes are its outputs by name."""

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


class Workflow(Document):
    """A workflow: nodes by name, params, and the outputs that are wanted.

    `base` is the folder that relative paths in its inputs start from.
    """

    def __init__(self, name: str = "workflow", description: str = "", *, base: Path | None = None) -> None:
        super().__init__(name, description)
        self.base = Path.cwd() if base is None else base

    def add(self, type: str, /, *, name: str | None = None, **inputs: Any) -> NodeHandle:
        """Add a node of `type`. An input is a literal, a handle of another node, a param, or a list or mapping of these.

        Without `name`, its name is made from its type. Raises ValueError if the name is taken or not valid, or if a handle belongs
        to another workflow.
        """
        name = self._free_name(type) if name is None else _checked_name("node", name, (*self.nodes, PARAMS))
        linked = {key: self._linked(value) for key, value in inputs.items()}
        self.nodes[name] = NodeDef(name, type, linked, where=_calling_line())
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
        """Add a param and return a reference to use as an input. Raises ValueError if the name is taken or not valid."""
        self.params[_checked_name("param", name, self.params)] = ParamDef(
            name=name, default=default, type=type, min=min, max=max, help=help, where=_calling_line()
        )
        return ParamRef(name)

    def output(self, name: str, handle: Handle, save: str | None = None) -> None:
        """Add an output: the value of `handle`, saved under the file name that the template `save` describes.

        Raises ValueError if the name is taken or not valid, or if `handle` is not a node of this workflow.
        """
        link = self._linked(handle)
        if not isinstance(link, Link):
            raise ValueError(f"output '{name}' is {described(handle)}. Expected a node that 'add' returned, or one of its outputs")
        self.outputs[_checked_name("output", name, self.outputs)] = OutputDef(name, link, save, _calling_line())

    @classmethod
    def load(cls, path: Path | str) -> Workflow:
        """Read a YAML file. Raises WorkflowError with every mistake in its form."""
        from nodegraph.workflow import document  # imports yaml, which `import nodegraph` does not need

        path = Path(path)
        return cls._of(document.read(path), path.resolve().parent)

    @classmethod
    def parse(cls, text: str, *, file: str = "<text>", base: Path | None = None) -> Workflow:
        """Read YAML text. Error messages call it `file`. Raises WorkflowError with every mistake in its form."""
        from nodegraph.workflow import document

        return cls._of(document.parse(text, file=file), base)

    def dump(self) -> str:
        """The workflow as YAML: reading it gives the same workflow."""
        from nodegraph.workflow import document

        return document.dump(self)

    @classmethod
    def parse_parts(cls, text: str, *, file: str, name: str, base: Path) -> tuple[Workflow, list[Problem]]:
        """What can be read of a workflow, and every mistake in its form. Raises WorkflowError if no nodes can be read."""
        from nodegraph.workflow import document

        parts, problems = document.parse_parts(text, file=file, name=name)
        return cls._of(parts, base), problems

    @classmethod
    def _of(cls, document: Document, base: Path | None) -> Workflow:
        workflow = cls(document.name, document.description, base=base)
        workflow.params, workflow.nodes, workflow.outputs = document.params, document.nodes, document.outputs
        workflow.unread = document.unread
        return workflow

    def _free_name(self, type: str) -> str:
        """The type's name in lower case with words separated, and a number if it is taken: ReadText gives read_text_2."""
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z]{2})(?=[A-Z][a-z])", "_", type).lower()
        stem = re.sub(r"[^a-z0-9_-]", "_", words).lstrip("-0123456789") or "node"
        names = (stem, *(f"{stem}_{k}" for k in range(2, len(self.nodes) + 4)))
        return next(name for name in names if name not in self.nodes and name != PARAMS)

    def _linked(self, value: Any) -> Any:
        """`value` with links instead of handles, through lists and mappings, which are copied."""
        if isinstance(value, NodeHandle | PortHandle):
            if value._workflow is not self:
                raise ValueError(f"{described(value)} is a node of another workflow. A link cannot leave its workflow")
            return link_of(value)
        if isinstance(value, list | tuple):
            return [self._linked(item) for item in value]
        if isinstance(value, dict):
            return {key: self._linked(item) for key, item in value.items()}
        return value


def _checked_name(what: str, name: str, taken: Iterable[str]) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(f"{what} '{name}': this is not a valid name. {NAME_RULE}")
    if name in taken:
        raise ValueError(f"{what} '{name}': this name is taken. Choose another")
    return name


def _calling_line() -> Location:
    """Where the caller of this function's caller is: the line that added something to a workflow."""
    caller = sys._getframe(2)
    return Location(relative_path(caller.f_code.co_filename), caller.f_lineno, 1)
