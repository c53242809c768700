"""Where each value of a checked graph came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nodegraph.graph.expansion.flat import Chosen
from nodegraph.graph.overrides import InputValue
from nodegraph.graph.params import InputValues
from nodegraph.workflow.definitions import Document, ParamRef

DEFAULT = "default"


class Origins:
    """Finds the origin of a value: a line of a file, what `--set` or a preset gave, "default", or "drawn" for a seed."""

    def __init__(self, document: Document, input_values: InputValues) -> None:
        self._nodes, self._values = document.nodes, input_values

    def of_param(self, name: str) -> str:
        """The origin of the value of a param."""
        return "drawn" if name in self._values.drawn_seeds else _origin(self._values.params[name])

    def of_input(self, node: str, input: str) -> str:
        """The origin of what an input of a node receives."""
        definition, outside = self._nodes[node], self._values.inputs.get((node, input))
        value: Any = outside if outside is not None else definition.inputs.get(input)
        if outside is None and input not in definition.inputs:
            return "drawn" if f"{node}.{input}" in self._values.drawn_seeds else DEFAULT
        origin = "" if outside is None else _origin(outside)
        seen: Mapping[str, InputValue] = self._values.params
        for _ in range(len(seen) + 3):
            if isinstance(value, ParamRef) and value.name in seen:
                if value.name in self._values.drawn_seeds:
                    return "drawn"
                value = seen[value.name]
            elif isinstance(value, InputValue):
                origin, value = _origin(value), value.value
            elif isinstance(value, Chosen):
                value = value.value
            else:
                break
        if f"{node}.{input}" in self._values.drawn_seeds:
            return "drawn"
        return origin or str(definition.location(input) or "Python")


def _origin(value: InputValue) -> str:
    from_outside = value.source.startswith("--set ")
    return value.source if from_outside else str(value.where or value.source or "Python")
