"""What node types themselves find wrong with their inputs before anything runs: their `check`, and the `outline` of nodes above."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from nodegraph.errors import Problem
from nodegraph.graph.graph import GraphNode, ResolvedLink, Value
from nodegraph.graph.inputs import Inputs
from nodegraph.graph.overrides import InputValue
from nodegraph.workflow.definitions import NodeDef

T = TypeVar("T")

_NOTHING: Final[Mapping[str, Any]] = {}


class NodeChecks:
    """Runs the checks of the nodes that have all their inputs. Mistakes are added to the problems of `inputs`."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._outlines: dict[str, Mapping[str, Any]] = {}

    def run(self, nodes: Iterable[GraphNode]) -> None:
        """Check the nodes, of which each should come after those that feed it: their outlines are known then."""
        for node in nodes:
            spec = node.spec
            if (spec.check is not None or spec.outline is not None) and len(node.inputs) == len(spec.inputs):
                known = self._known(node)
                if self._is_right(node, known) and spec.outline is not None:
                    self._outlines[node.name] = self._call(node, "outline", spec.outline, dict, known=known) or _NOTHING

    def _known(self, node: GraphNode) -> dict[str, Any]:
        """What is known about a node's inputs: literals, and outlines of what is linked."""
        known = {}
        for name, input in node.inputs.items():
            if isinstance(input, Value) and input.not_fetched is None:
                known[name] = input.value
            elif isinstance(input, ResolvedLink) and input.port in (outline := self._outlines.get(input.node, _NOTHING)):
                known[name] = outline[input.port]
        return known

    def _is_right(self, node: GraphNode, known: Mapping[str, Any]) -> bool:
        """Whether the node type's own check finds nothing wrong; otherwise it is reported."""
        if node.spec.check is None:
            return True
        messages = self._call(node, "check", node.spec.check, list, known=known)
        for message in messages or ():
            about = next((name for name in node.inputs if message.startswith((f"{name} ", f"{name}: "))), None)
            definition = self._inputs.workflow.nodes[node.name]
            source = self._whole(definition) if about is None else self._inputs.input_value(definition, about)
            self._inputs.problems.append(source.problem("E116", f"{message.removesuffix('.')} (node '{node.name}')"))
        return messages == []

    def _call(
        self, node: GraphNode, what: str, function: Callable[..., Any], read: Callable[[Any], T], *, known: Mapping[str, Any]
    ) -> T | None:
        """What a plugin's function returns; None if it fails, which is reported as the plugin's mistake."""
        try:
            return read(function(**known))
        except Exception as error:
            literals = [input for input in node.inputs.values() if isinstance(input, Value)]
            if all(literal.not_fetched is None for literal in literals):  # else it may need that; the run checks again
                message = f"the {what} of {node.spec.name} failed: {type(error).__name__}: {error} (node '{node.name}')"
                hint = f"This is a mistake in plugin '{node.origin.plugin}'."
                self._inputs.problems.append(Problem("E116", message, node.where, hint))
            return None

    def _whole(self, node: NodeDef) -> InputValue:
        base = self._inputs.base_of(node)
        return InputValue(value=None, base=base, home=base, where=node.where)
