"""What a diagram shows: a box for each node and output, and an arrow for each link."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nodegraph.light_dataclass import dataclass
from nodegraph.workflow.definitions import Link, NodeDef, references


@dataclass(frozen=True, kw_only=True)
class Box:
    """A node, with its type as subtitle, or an output of the workflow."""

    id: str
    title: str
    subtitle: str = ""
    is_output: bool = False


@dataclass(frozen=True, kw_only=True)
class Arrow:
    """A link from one box to another, with the input that it feeds."""

    source: str
    target: str
    input: str = ""


@dataclass(frozen=True, kw_only=True)
class Diagram:
    """The boxes, those of nodes first, and the arrows, which lead only to boxes that are there."""

    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


def diagram_of(nodes: Mapping[str, NodeDef], outputs: Iterable[tuple[str, str]]) -> Diagram:
    """The diagram of nodes, and of outputs as pairs of a name and the node that it comes from."""
    ids = {name: f"n{index}" for index, name in enumerate(nodes)}
    wanted = [(f"o{index}", name, node) for index, (name, node) in enumerate(outputs)]
    boxes = [Box(id=ids[name], title=name, subtitle=node.type) for name, node in nodes.items()]
    boxes += [Box(id=id, title=name, is_output=True) for id, name, _ in wanted]
    arrows = [
        Arrow(source=ids[link.node], target=ids[name], input=input)
        for name, node in nodes.items()
        for input, value in node.inputs.items()
        for link in references(value)
        if isinstance(link, Link) and link.node in ids
    ]
    arrows += [Arrow(source=ids[node], target=id) for id, _, node in wanted if node in ids]
    return Diagram(boxes=tuple(boxes), arrows=tuple(arrows))
