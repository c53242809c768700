"""What the composed nodes of a checked graph stand for: lists of outputs, and the nodes inside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from nodegraph.errors import Problem
from nodegraph.graph.expansion.embedded import Paths, embedded
from nodegraph.graph.expansion.expand import Expansion
from nodegraph.graph.expansion.names import UNKNOWN, nodes_inside, without_indexes
from nodegraph.graph.expansion.values import waits_of
from nodegraph.graph.graph import Awaited, ResolvedLink
from nodegraph.workflow.definitions import EACH, Link, NodeDef, Wrapped, is_composed
from nodegraph.workflow.workflow import Workflow

Links: TypeAlias = "ResolvedLink | list[Links]"


class Composed:
    """Finds what the names of composed nodes mean. `resolve` finds the output that a link leads to; None if there is none."""

    def __init__(self, expansion: Expansion, resolve: Callable[[Link], ResolvedLink | None]) -> None:
        self._expansion, self._resolve = expansion, resolve

    @property
    def nodes(self) -> Mapping[str, NodeDef]:
        """The definitions of all nodes, in terms of the graph."""
        return self._expansion.flat.nodes

    def links(self, name: str) -> Links | None:
        """The outputs that `node` or `node.port` stands for: one, or a list for each `each`. None if it stands for none."""
        value = self._expansion.value_of(name)
        return None if value is None else self.resolved(value)

    def resolved(self, value: Any) -> Links | None:
        """The outputs in a value; None if something in it is not the output of a node."""
        while isinstance(value, Wrapped):
            value = value.value
        if isinstance(value, Link):
            return self._resolve(value)
        if not isinstance(value, list):
            return None
        items = [self.resolved(item) for item in value]
        return None if None in items else items  # type: ignore[return-value]

    def embedded(self, workflow: Workflow, paths: Paths) -> Workflow:
        """`workflow` with its sub-workflows inside."""
        return embedded(workflow, paths, self._expansion.top, self._expansion.reader.find)

    def folders(self) -> set[Path]:
        """The folders that relative paths in the sub-workflows start from."""
        return self._expansion.reader.folders()

    def waits(self, value: Any) -> tuple[Awaited, ...]:
        """What decides what a value is, if that is not known."""
        return waits_of(value)

    def inside(self, name: str) -> list[str]:
        """The nodes that the name of a composed node means, and those inside it."""
        return nodes_inside(name, self._expansion.flat.nodes)


def leaves(links: Links) -> Iterator[ResolvedLink]:
    """The outputs in nested lists, in order."""
    if isinstance(links, list):
        for item in links:
            yield from leaves(item)
    else:
        yield links


def once_for_all_items(problems: Iterable[Problem]) -> list[Problem]:
    """The problems, but only one of those that differ in nothing but the index of an item."""
    found: dict[tuple[Any, ...], Problem] = {}
    for problem in problems:
        found.setdefault((problem.code, problem.where, without_indexes(problem.message)), problem)
    return list(found.values())


def write_back(
    workflow: Workflow, changed: Mapping[tuple[str, str], Any], seeds: Mapping[str, int], sizes: Mapping[str, int]
) -> None:
    """Write values from outside, and seeds that were drawn, into the composed nodes of `workflow`.

    `sizes` are the numbers of items of its nodes with `each`. Seeds deeper inside are only in the record of the run.
    """
    nodes = {name: dict(node.inputs) for name, node in workflow.nodes.items() if is_composed(node)}
    for (name, input), value in changed.items():
        if name in nodes:
            nodes[name][input] = value
    drawn: dict[tuple[str, str], dict[int, int]] = {}  # by node and input: the seeds of items
    for full, seed in seeds.items():
        name, _, input = full.partition(".")
        if name in nodes:
            nodes[name][input] = seed
        elif "/" not in name and UNKNOWN not in name and without_indexes(name) in nodes:
            node, index = name.removesuffix("]").split("[")
            drawn.setdefault((node, input), {})[int(index)] = seed
    for (name, input), by_index in drawn.items():
        each = nodes[name].get(EACH, {})
        before = each.get(input)
        if len(by_index) == sizes.get(name):
            nodes[name].pop(input, None)
            nodes[name][EACH] = {**each, input: list(by_index.values())}
        elif isinstance(before, list):
            nodes[name][EACH] = {**each, input: [by_index.get(index, value) for index, value in enumerate(before)]}
    for name, inputs in nodes.items():
        definition = workflow.nodes[name]
        workflow.nodes[name] = replace(definition, inputs=inputs)
