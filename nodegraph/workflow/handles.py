"""Handles of nodes and their outputs, which are passed to inputs of other nodes, and params and outputs by attribute."""

from __future__ import annotations

from collections.abc import Iterable

from nodegraph.text import did_you_mean
from nodegraph.workflow.definitions import Document, Link, OutputDef, ParamDef, ParamRef


class PortHandle:
    """One output of a node that was added, to pass to an input of another node."""

    __slots__ = ("_node", "_port", "_workflow")

    def __init__(self, workflow: Document, node: str, port: str) -> None:
        self._workflow, self._node, self._port = workflow, node, port

    def __repr__(self) -> str:
        return f"<{self._node}.{self._port}>"


class NodeHandle:
    """A node that was added. It stands for its only output; its attributes are its outputs by name."""

    __slots__ = ("_node", "_workflow")

    def __init__(self, workflow: Document, node: str) -> None:
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


class CheckedHandle(NodeHandle):
    """A node whose outputs are known. They are its attributes; another name raises AttributeError."""

    __slots__ = ("_outputs",)

    def __init__(self, workflow: Document, node: str, outputs: Iterable[str]) -> None:
        super().__init__(workflow, node)
        self._outputs = tuple(outputs)

    def __getattr__(self, port: str) -> PortHandle:
        if port.startswith("_"):
            raise AttributeError(port)
        if port not in self._outputs:
            hint = did_you_mean(port, self._outputs) or f"Its outputs are {', '.join(self._outputs)}"
            raise AttributeError(f"node '{self._node}' has no output '{port}'. {hint}")
        return super().__getattr__(port)


class Params(dict[str, ParamDef]):
    """The params of a workflow by name. As attributes, they are references to pass to inputs."""

    def __getattr__(self, name: str) -> ParamRef:
        if name.startswith("_") or name not in self:
            raise AttributeError(f"the workflow has no param '{name}'. {did_you_mean(name, self)}".rstrip())
        return ParamRef(name)


class Outputs(dict[str, OutputDef]):
    """The outputs of a workflow by name. As attributes, they are the handles of what they name."""

    def __init__(self, workflow: Document) -> None:
        super().__init__()
        self._workflow = workflow

    def __getattr__(self, name: str) -> Handle:
        if name.startswith("_") or name not in self:
            raise AttributeError(f"the workflow has no output '{name}'. {did_you_mean(name, self)}".rstrip())
        link = self[name].link
        return PortHandle(self._workflow, link.node, link.port) if link.port else NodeHandle(self._workflow, link.node)
