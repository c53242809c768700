"""Makes one graph of what an editor's file holds: what ComfyUI would run.

Subgraphs are written out, reroutes and bypassed nodes are skipped, primitives become values, and values get the names of their
inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any, Final, TypeAlias

from nodegraph.plugin_api import Problem, WorkflowError, dataclass
from nodegraph_comfyui.reading.editor import BYPASSED, INPUTS, MUTED, OUTPUTS, EditorGraph, EditorNode, Level, Slot
from nodegraph_comfyui.reading.graph import MOST_NODES, ComfyGraph, ComfyNode, Muted, Shared, Widget, Wire, problem, shortened
from nodegraph_comfyui.reading.groups import Group

WidgetsOf: TypeAlias = Callable[[str], Sequence[Widget] | None]
"""The values of a class in the order of the editor's lists; None for a class that is not known."""

CONTROLS: Final = ("fixed", "increment", "decrement", "randomize")
_ONLY_IN_EDITOR: Final = ("Note", "MarkdownNote", "Reroute", "PrimitiveNode")
_VALUES: Final = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
_MOST_HOPS: Final = 10_000
_DEEPEST: Final = 32


@dataclass(frozen=True, eq=False)
class _Place:
    """A use of a level: the node that uses it, in its own place, and the ids that lead here."""

    level: Level
    path: tuple[str, ...] = ()
    user: EditorNode | None = None
    outer: _Place | None = None
    kinds: tuple[str, ...] = ()
    overrides: Mapping[tuple[str, str], Any] = field(default_factory=dict)

    def id_of(self, node: str) -> str:
        return ":".join((*self.path, node))


def flatten(graph: EditorGraph, widgets_of: WidgetsOf, file: str) -> ComfyGraph:
    """The nodes that would run.

    Raises WorkflowError for links that lead nowhere or round in a circle, and for endless subgraphs.
    """
    flattener = _Flattener(graph, widgets_of, file)
    return flattener.graph()


class _Flattener:
    def __init__(self, graph: EditorGraph, widgets_of: WidgetsOf, file: str) -> None:
        self._graph, self._widgets_of, self._file = graph, widgets_of, file
        self._problems: list[Problem] = []
        self._places: dict[tuple[str, ...], _Place] = {}

    def graph(self) -> ComfyGraph:
        top = _Place(self._graph.top)
        nodes: dict[str, ComfyNode] = {}
        pending, count = [top], 0
        self._places[()] = top
        while pending:
            place = pending.pop()
            for node in place.level.nodes.values():
                count += 1
                if count > MOST_NODES:
                    message = f"{self._file} has more than {MOST_NODES:,} nodes with those of its subgraphs; that is too many"
                    raise WorkflowError([problem(message)])
                if node.mode != 0 or node.kind in _ONLY_IN_EDITOR:
                    continue
                if node.kind in self._graph.subgraphs:
                    pending.append(self._inside(place, node))
        for place in self._places.values():
            for node in place.level.nodes.values():
                if node.mode == 0 and node.kind not in _ONLY_IN_EDITOR and node.kind not in self._graph.subgraphs:
                    nodes[place.id_of(node.id)] = self._node(place, node)
        if self._problems:
            raise WorkflowError(self._problems)
        names = {path: _name_of(place) for path, place in self._places.items() if path}
        notes = (self._graph.top.notes, *(level.notes for level in self._graph.subgraphs.values()))
        groups = (
            Group(group.title, tuple(map(place.id_of, group.nodes)))
            for place in self._places.values()
            for group in place.level.groups
        )
        return ComfyGraph(nodes=nodes, subgraphs=names, notes=tuple(note for part in notes for note in part), groups=tuple(groups))

    def _inside(self, place: _Place, node: EditorNode) -> _Place:
        path = (*place.path, node.id)
        if path in self._places:
            return self._places[path]
        if node.kind in place.kinds or len(path) > _DEEPEST:
            name = self._graph.subgraphs[node.kind].name
            what = "contains itself" if node.kind in place.kinds else f"is inside more than {_DEEPEST} others"
            raise WorkflowError([problem(f"{self._file}: subgraph '{shortened(name)}' {what}", "Remove one use of it in ComfyUI.")])
        level = self._graph.subgraphs[node.kind]
        kinds = (*place.kinds, node.kind)
        inner = _Place(level, path, user=node, outer=place, kinds=kinds, overrides=dict(_overrides(node, level)))
        self._places[path] = inner
        return inner

    def _node(self, place: _Place, node: EditorNode) -> ComfyNode:
        known = self._widgets_of(node.kind)
        inputs = dict(_named_values(node, known))
        inputs |= {name: value for (owner, name), value in place.overrides.items() if owner == node.id}
        for slot in node.inputs:
            if slot.link is None:
                continue
            found = self._source(place, slot.link, f"'{shortened(slot.name)}' of {node}")
            if found is not None:
                inputs[slot.widget or slot.name] = found.value if isinstance(found, _Override) else found
        unnamed = tuple(node.widgets) if known is None and isinstance(node.widgets, list) else ()
        title = "" if node.title == node.properties.get("Node name for S&R") else node.title
        return ComfyNode(
            id=place.id_of(node.id),
            kind=node.kind,
            title=title,
            inputs=inputs,
            widgets=unnamed,
            level=place.path,
            output_types=tuple(slot.type for slot in node.outputs),
        )

    def _source(self, place: _Place, link: str, user: str) -> Wire | Shared | Muted | _Override | None:
        """Where a link comes from, past everything that only passes values on; None if the input is not connected."""
        current: str | None = link
        for _ in range(_MOST_HOPS):
            if current is None:
                return None
            found = place.level.links.get(current)
            if found is None:
                return None  # ComfyUI, too, ignores such links
            if found.origin == INPUTS and place.user is not None:
                outer, slot = place.outer, _at(place.level.inputs, found.origin_slot)
                if outer is None or slot is None:
                    return None
                key = (INPUTS, slot.name)
                current = next((other.link for other in place.user.inputs if other.name == slot.name), None)
                if current is None:
                    return _Override(place.overrides[key]) if key in place.overrides else None
                place = outer
                continue
            node = place.level.nodes.get(found.origin)
            if node is None:
                message = f"{self._file}: {user} comes from node {shortened(found.origin)}, which does not exist"
                self._problems.append(problem(message, "Save the graph again in ComfyUI."))
                return None
            if node.mode == MUTED:
                return Muted(place.id_of(node.id))
            if node.mode == BYPASSED:
                current = _bypassed(node, found.origin_slot)
            elif node.kind == "Reroute":
                current = node.inputs[0].link if node.inputs else None
            elif node.kind == "PrimitiveNode":
                return _primitive(place.id_of(node.id), node)
            elif node.kind in self._graph.subgraphs:
                place = self._inside(place, node)
                links = place.level.links.items()
                ends = (id for id, end in links if end.target == OUTPUTS and end.target_slot == found.origin_slot)
                current = next(ends, None)
            else:
                return Wire(place.id_of(node.id), found.origin_slot)
        self._problems.append(
            problem(f"{self._file}: the links to {user} lead round in a circle", "Remove one of them in ComfyUI.")
        )
        return None


@dataclass(frozen=True)
class _Override:
    """A value that the user of a subgraph gives to one of its inputs."""

    value: Any


def _at(slots: Sequence[Slot], index: int) -> Slot | None:
    return slots[index] if index < len(slots) else None


def _bypassed(node: EditorNode, output: int) -> str | None:
    """The link to the input that a bypassed node passes on: the one at the same place, else the first of the same type."""
    out = _at(node.outputs, output)
    if out is None:
        return None
    beside = _at(node.inputs, output)
    if beside is not None and beside.widget is None and beside.type == out.type:
        return beside.link
    return next((slot.link for slot in node.inputs if slot.type == out.type and slot.widget is None), None)


def _primitive(id: str, node: EditorNode) -> Shared | None:
    values = node.widgets if isinstance(node.widgets, list) else []
    usual = ("", "PrimitiveNode", "Primitive", *_VALUES)
    return Shared(values[0], id, "" if node.title in usual else node.title) if values else None


def _named_values(node: EditorNode, known: Sequence[Widget] | None) -> Iterator[tuple[str, Any]]:
    """The values of a node by the names of their inputs."""
    values = node.widgets
    if isinstance(values, dict):
        yield from ((name, value) for name, value in values.items() if isinstance(name, str))
        return
    if not isinstance(values, list):
        return
    if known is None:
        known = [Widget(slot.widget) for slot in node.inputs if slot.widget is not None]
    pending = list(values)
    for widget in known:
        if not pending:
            return
        yield widget.name, pending.pop(0)
        if widget.control and pending and (isinstance(pending[0], bool) or pending[0] in CONTROLS):  # early files: a bool
            pending.pop(0)


def _overrides(user: EditorNode, level: Level) -> Iterator[tuple[tuple[str, str], Any]]:
    """The values that a node gives to the inside of its subgraph, by the node inside and its input.

    `INPUTS` instead of a node means the inputs of the subgraph itself.
    """
    listed = user.properties.get("proxyWidgets")
    values = user.widgets if isinstance(user.widgets, list) else []
    if isinstance(user.widgets, dict):
        yield from (((INPUTS, name), value) for name, value in user.widgets.items() if isinstance(name, str))
        return
    if isinstance(listed, list):
        pairs = [tuple(map(str, pair[:2])) for pair in listed if isinstance(pair, list) and len(pair) >= 2]
        names = [(INPUTS if owner == "-1" else owner, name) for owner, name in pairs]
    else:
        names = [(INPUTS, slot.name) for slot in level.inputs if slot.type in _VALUES]
    if len(names) == len(values):
        yield from zip(names, values, strict=True)


def _name_of(place: _Place) -> str:
    assert place.user is not None
    return place.user.title or place.level.name
