"""Reads the editor's format into levels: the graph itself and its subgraphs, each with nodes and links as they are written.

Versions 0.4 and 1 differ in the form of links: lists in the first, mappings in the second and in subgraphs. The editor's own
reroutes (`reroutes` and `floatingLinks` in the second, in `extra` in the first) are points that a link is drawn through. A link
names the nodes at its ends all the same, so they need not be read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any, Final

from nodegraph.plugin_api import Problem, WorkflowError, dataclass
from nodegraph_comfyui.reading.graph import MOST_NODES, problem, shortened, shown
from nodegraph_comfyui.reading.groups import Group, centre_of, read_groups

INPUTS, OUTPUTS = "-10", "-20"
"""The ids of the two ends of a subgraph."""

ACTIVE, MUTED, BYPASSED = 0, 2, 4

_NOTES: Final = ("Note", "MarkdownNote")
_AGAIN: Final = "Save the graph again in ComfyUI."


@dataclass(frozen=True)
class Slot:
    """An input or output of a node. `widget` is the name of the value that a link to it replaces, if there is one."""

    name: str
    type: str
    link: str | None = None
    widget: str | None = None


@dataclass(frozen=True, kw_only=True)
class EditorNode:
    """A node as it is written."""

    id: str
    kind: str
    title: str
    mode: int
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]
    widgets: Any
    properties: Mapping[str, Any]

    def __str__(self) -> str:
        title = f" '{shortened(self.title)}'" if self.title and self.title != self.kind else ""
        return f"node {shortened(self.id)}{title} ({shortened(self.kind)})"


@dataclass(frozen=True)
class EditorLink:
    """A link from an output of a node to an input of another one."""

    origin: str
    origin_slot: int
    target: str
    target_slot: int


@dataclass(frozen=True, kw_only=True)
class Level:
    """The nodes and links of a graph, or of a subgraph, whose `inputs` and `outputs` are its ends."""

    name: str
    nodes: Mapping[str, EditorNode]
    links: Mapping[str, EditorLink]
    inputs: tuple[Slot, ...] = ()
    outputs: tuple[Slot, ...] = ()
    notes: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()


@dataclass(frozen=True)
class EditorGraph:
    """The whole file: the graph, and the subgraphs by the id that nodes have as their class."""

    top: Level
    subgraphs: Mapping[str, Level] = field(default_factory=dict)


def read_editor(content: Mapping[str, Any], file: str) -> EditorGraph:
    """What a file holds. Raises WorkflowError with every mistake in its form."""
    reader = _Reader(file)
    definitions = content.get("definitions")
    listed = definitions.get("subgraphs") if isinstance(definitions, dict) else None
    subgraphs = {}
    for part in reader.mappings(listed or [], "'definitions'"):
        if isinstance(part.get("id"), str):
            subgraphs[part["id"]] = reader.level(part, str(part.get("name") or "subgraph"))
    top = reader.level(content, "")
    if reader.problems:
        raise WorkflowError(reader.problems)
    return EditorGraph(top, subgraphs)


class _Reader:
    """Reads parts of a file, and collects the mistakes in their form."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []

    def level(self, part: Mapping[str, Any], name: str) -> Level:
        nodes: dict[str, EditorNode] = {}
        centres: dict[str, tuple[float, float]] = {}
        notes = []
        written = part.get("nodes")
        if isinstance(written, list) and len(written) > MOST_NODES:
            raise WorkflowError([problem(f"{self.file} has {len(written):,} nodes; at most {MOST_NODES:,} are supported")])
        for item in self.mappings(written, "'nodes'"):
            node = self._node(item)
            if node is None:
                continue
            if node.id in nodes:
                self.wrong(f"two nodes have the id {shortened(node.id)}")
            nodes[node.id] = node
            if (centre := centre_of(item)) is not None:
                centres[node.id] = centre
            if node.kind in _NOTES:
                notes.append(_note(node))
        links = dict(self._links(part.get("links")))
        ends = {"inputs": self._slots(part.get("inputs")), "outputs": self._slots(part.get("outputs"))}
        groups = read_groups(part.get("groups"), centres)
        return Level(name=name, nodes=nodes, links=links, **ends, notes=tuple(filter(None, notes)), groups=groups)

    def mappings(self, part: Any, what: str) -> Iterator[Mapping[str, Any]]:
        if not isinstance(part, list):
            self.wrong(f"{what} must be a list")
            return
        for item in part:
            if isinstance(item, dict):
                yield item
            else:
                self.wrong(f"an entry of {what} is not a mapping")

    def wrong(self, message: str) -> None:
        self.problems.append(problem(f"{self.file}: {message}", _AGAIN))

    def _node(self, item: Mapping[str, Any]) -> EditorNode | None:
        id, kind, title = _id(item.get("id")), item.get("type"), item.get("title")
        if id is None:
            self.wrong(f"the id of a node is {shown(item.get('id'))}, which is not a number or text")
            return None
        if not isinstance(kind, str) or not kind.strip():
            self.wrong(f"node {shortened(id)} has no class ('type')")
            return None
        mode, properties = item.get("mode", 0), item.get("properties")
        return EditorNode(
            id=id,
            kind=kind.strip(),  # early versions wrote "ConditioningAverage "
            title=title if isinstance(title, str) else "",
            mode=mode if mode in (MUTED, BYPASSED) else ACTIVE,
            inputs=self._slots(item.get("inputs")),
            outputs=self._slots(item.get("outputs")),
            widgets=item.get("widgets_values"),
            properties=properties if isinstance(properties, dict) else {},
        )

    def _slots(self, part: Any) -> tuple[Slot, ...]:
        slots = []
        for item in part if isinstance(part, list) else ():
            if not isinstance(item, dict):
                slots.append(Slot("", ""))
                continue
            widget = item.get("widget")
            name = widget.get("name") if isinstance(widget, dict) else None
            kind = item.get("type")
            slots.append(
                Slot(
                    str(item.get("name", "")),
                    kind if isinstance(kind, str) else "*",
                    _id(item.get("link")),
                    name if isinstance(name, str) else None,
                )
            )
        return tuple(slots)

    def _links(self, part: Any) -> Iterator[tuple[str, EditorLink]]:
        items = list(part.values()) if isinstance(part, dict) else part
        if items is None:
            return
        if not isinstance(items, list):
            self.wrong("'links' must be a list")
            return
        for item in items:
            if item is None:
                continue
            if isinstance(item, dict):
                names = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
                fields = [item.get(name) for name in names]
            else:
                fields = list(item[:5]) if isinstance(item, list) else []
            link = _link(fields)
            if link is None:
                self.wrong(f"a link is {shown(item)}, which is not one")
            else:
                yield link


def _link(fields: list[Any]) -> tuple[str, EditorLink] | None:
    """A link and its id; None if the fields are not those of one."""
    if len(fields) != 5:
        return None
    (id, origin, target), slots = (_id(fields[k]) for k in (0, 1, 3)), (fields[2], fields[4])
    if id is None or origin is None or target is None or not all(isinstance(slot, int) and 0 <= slot < 1000 for slot in slots):
        return None
    return id, EditorLink(origin, slots[0], target, slots[1])


def _id(value: Any) -> str | None:
    """The text of an id, which is a number or text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        return None
    return str(value) if isinstance(value, str) or abs(value) < 1 << 64 else None


def _note(node: EditorNode) -> str:
    values = node.widgets.values() if isinstance(node.widgets, dict) else node.widgets
    text = next((value for value in values or () if isinstance(value, str)), "") if not isinstance(values, str) else values
    title = "" if node.title in ("", "Note", "MarkdownNote", "Markdown Note") else f"{node.title}\n"
    return f"{title}{text}".strip()
