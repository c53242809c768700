"""The check: the values of a run against the meanings of its nodes. Nothing here knows about keys, digests or the cache."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.fuzz.graphs import Graph, Input, Link, Literal, Node, ReadFile, Several
from tests.fuzz.values import bits

UNKNOWN: Any = object()
"""The value of a node that follows from a source whose value was not delivered."""


class Meaning:
    """What the values of a graph must be, given the `delivered` values of its sources.

    `possible(input)` lists what a file or a value given in Python may have been.
    """

    def __init__(
        self, graph: Graph, types: Mapping[str, Any], delivered: Mapping[Link, Any], possible: Callable[[Input], list[Any]]
    ) -> None:
        self._graph, self._types, self._delivered, self._possible = graph, types, delivered, possible
        self._values: dict[int, dict[str, Any]] = {}

    def value(self, link: Link) -> Any:
        """The right value of an output; UNKNOWN if it cannot be known."""
        values = self._values.get(link.node)
        if values is None:
            values = self._values[link.node] = self._compute(link.node)
        return values[link.port]

    def is_right(self, link: Link, value: Any) -> bool | None:
        """Whether a delivered value is right. None if that cannot be known."""
        node = self._graph.nodes[link.node]
        node_type = self._types[node.type]
        if node_type.allows is not None:
            inputs = self.inputs(node)
            return None if any(input is UNKNOWN for input in inputs.values()) else bool(node_type.allows(value, **inputs))
        expected = self.value(link)
        return None if expected is UNKNOWN else bits(expected) == bits(value)

    def is_right_for_another_state(self, link: Link, value: Any) -> bool:
        """Whether a delivered value is right if nodes above it read their files in other states than those that were delivered.

        A file that is changed during a run may be read before and after the change.
        """
        return any(other.is_right(link, value) for other in self._other_states(link))

    def inputs(self, node: Node) -> dict[str, Any]:
        """The right values of a node's inputs, by port."""
        return {port: self._input(input) for port, input in node.inputs.items()}

    def _other_states(self, link: Link) -> Iterator[Meaning]:
        above, pending = set[int](), [link.node]
        while pending:
            new = {source.node for source in self._graph.nodes[pending.pop()].links()} - above
            above |= new
            pending += new
        options = []
        for number in above:
            node = self._graph.nodes[number]
            for port, input in node.inputs.items():
                if isinstance(input, ReadFile):
                    inputs, meaning = self.inputs(node), self._types[node.type].meaning
                    contents = dict.fromkeys(inputs[port])
                    options.append([(Link(number, "output"), meaning(**{**inputs, port: content})) for content in contents])
        for values in itertools.product(*options):
            yield Meaning(self._graph, self._types, {**self._delivered, **dict(values)}, self._possible)

    def _compute(self, number: int) -> dict[str, Any]:
        node = self._graph.nodes[number]
        node_type = self._types[node.type]
        if node_type.allows is not None:
            return {port: self._delivered.get(Link(number, port), UNKNOWN) for port in node.returns}
        inputs = self.inputs(node)
        if any(value is UNKNOWN for value in inputs.values()):
            return dict.fromkeys(node.returns, UNKNOWN)
        result = node_type.meaning(**inputs)
        return dict(result) if len(node.returns) > 1 else {"output": result}

    def _input(self, input: Input) -> Any:
        if isinstance(input, Link):
            return self.value(input)
        if isinstance(input, Literal):
            return input.value
        if isinstance(input, Several):
            items = [self._input(item) for item in input.items]
            return UNKNOWN if any(item is UNKNOWN for item in items) else items
        return self._possible(input)
