"""A graph in API format as the editor saves it, with a place for each node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from nodegraph_comfyui.classes.node_class import ClassInput
from nodegraph_comfyui.classes.table import TABLE

_COLUMN, _GAP, _LINE, _WIDTH = 360, 40, 26, 300
_TEXT_HEIGHT: Final = 120
_WITH_BUTTON: Final = ("LoadImage", "LoadImageMask")
"""Classes with a button that uploads a picture, which is a value behind all others."""


def as_editor(nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The same graph, schema 0.4: each node to the right of those that feed it."""
    links: list[list[Any]] = []
    found = [_node(id, node, nodes, links) for id, node in nodes.items()]
    column: dict[str, int] = {}
    height: dict[int, int] = {}
    for part, (id, node) in zip(found, nodes.items(), strict=True):
        column[id] = max((column[value[0]] + 1 for value in node["inputs"].values() if isinstance(value, list)), default=0)
        top = height.get(column[id], 0)
        part["pos"] = [column[id] * _COLUMN, top]
        height[column[id]] = top + part["size"][1] + 2 * _GAP
    for link in links:
        found[int(link[1]) - 1]["outputs"][link[2]]["links"].append(link[0])
    last = {"last_node_id": len(nodes), "last_link_id": len(links)}
    return {**last, "nodes": found, "links": links, "groups": [], "config": {}, "extra": {}, "version": 0.4}


def _node(id: str, node: Mapping[str, Any], nodes: Mapping[str, Mapping[str, Any]], links: list[list[Any]]) -> dict[str, Any]:
    known = TABLE[node["class_type"]]
    slots: list[dict[str, Any]] = []
    widgets: list[Any] = []
    for name, input in known.known.items():
        value = node["inputs"].get(name, input.default)
        if input.is_value:
            widgets += _values(value, input)
            continue
        link = None
        if isinstance(value, list):
            link = len(links) + 1
            links.append([link, int(value[0]), value[1], int(id), len(slots), input.kind])
        slots.append({"name": name, "type": input.kind, "link": link})
    if known.name in _WITH_BUTTON:
        widgets.append("image")
    lines = max(len(slots), len(known.outputs)) + len(widgets)
    texts = sum(isinstance(value, str) and len(value) > 40 for value in widgets)
    title = node["_meta"]["title"]
    return {
        "id": int(id),
        "type": known.name,
        "pos": [0, 0],
        "size": [_WIDTH, _GAP + lines * _LINE + texts * _TEXT_HEIGHT],
        "flags": {},
        "order": int(id) - 1,
        "mode": 0,
        "title": title,
        "inputs": slots,
        "outputs": [{"name": kind, "type": kind, "links": [], "slot_index": slot} for slot, kind in enumerate(known.outputs)],
        "properties": {"Node name for S&R": known.name},
        "widgets_values": widgets,
    }


def _values(value: Any, input: ClassInput) -> list[Any]:
    """A value as it is in the editor's list: with what happens to a seed after a run."""
    return [value, "fixed"] if input.control else [value]
