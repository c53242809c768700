"""Reads the groups of an editor's graph: rectangles with a title, and the nodes inside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from nodegraph.plugin_api import dataclass
from nodegraph_comfyui.reading.numbers import is_usable

_UNNAMED: Final = ("", "Group")
_MOST: Final = 200

Box = tuple[float, float, float, float]
"""Left, top, width and height."""


@dataclass(frozen=True)
class Group:
    """A group with a title of its own, and the ids of the nodes whose centre is inside."""

    title: str
    nodes: tuple[str, ...]


def read_groups(part: Any, centres: Mapping[str, tuple[float, float]]) -> tuple[Group, ...]:
    """The groups of a level in their order, without those that hold no node. A node is in the smallest group that is around it."""
    found = [group for item in (part if isinstance(part, list) else [])[:_MOST] if (group := _titled(item)) is not None]
    inside: dict[int, list[str]] = {}
    for id, centre in centres.items():
        around = [index for index, (_, box) in enumerate(found) if _holds(box, centre)]
        if around:
            smallest = min(around, key=lambda index: found[index][1][2] * found[index][1][3])
            inside.setdefault(smallest, []).append(id)
    return tuple(Group(found[index][0], tuple(inside[index])) for index in sorted(inside))


def centre_of(node: Mapping[str, Any]) -> tuple[float, float] | None:
    """The centre of a node on the canvas; None if its place is not written."""
    place, size = (_numbers(node.get(name), 2) for name in ("pos", "size"))
    if place is None:
        return None
    width, height = (0.0, 0.0) if size is None else size
    return place[0] + width / 2, place[1] + height / 2


def _titled(item: Any) -> tuple[str, Box] | None:
    if not isinstance(item, dict) or not isinstance(item.get("title"), str):
        return None
    title, sides = " ".join(item["title"].split()), _numbers(item.get("bounding"), 4)
    if title in _UNNAMED or sides is None:
        return None
    left, top, width, height = sides
    return title[:200], (left, top, width, height)


def _holds(box: Box, point: tuple[float, float]) -> bool:
    return 0 <= point[0] - box[0] <= box[2] and 0 <= point[1] - box[1] <= box[3]


def _numbers(value: Any, count: int) -> list[float] | None:
    """Numbers in a list, or in a mapping with the keys 0, 1, ..."""
    values: Iterable[Any] = (value.get(str(k)) for k in range(count)) if isinstance(value, dict) else value
    listed = list(values) if isinstance(value, list | dict) else []
    fine = len(listed) == count and all(isinstance(number, int | float) and is_usable(number) for number in listed)
    return [float(number) for number in listed] if fine else None
