"""Names of the nodes inside composed ones: `outer/inner`, and `small[2]/sampled` in an item."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

UNKNOWN: Final = "[?]"
"""What the name of an item has instead of its index while the number of items is not known."""

_INDEX: Final = re.compile(r"\[(?:\d+|\?)\]")


def without_indexes(name: str) -> str:
    """The name that means every item."""
    return _INDEX.sub("", name) if "[" in name else name


def matches(pattern: str, name: str) -> bool:
    """Whether `pattern` means the node `name`: a part of it without an index means every item."""
    return pattern == name or (pattern.count("/") == name.count("/") and contains(pattern, name))


def contains(pattern: str, name: str) -> bool:
    """Whether `name` is a node that `pattern` means, or is inside one."""
    parts, others = pattern.split("/"), name.split("/")
    if len(parts) > len(others):
        return False
    return all(map(_means, parts, others))


def _means(part: str, other: str) -> bool:
    if part == other:
        return True
    return without_indexes(part) == without_indexes(other) and ("[" not in part or UNKNOWN in other)


def nodes_inside(pattern: str, names: Iterable[str]) -> list[str]:
    """The nodes that `pattern` means: a node, all items of one, or all nodes inside a sub-workflow."""
    return [name for name in names if contains(pattern, name)]
