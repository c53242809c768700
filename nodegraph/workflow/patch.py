"""Changes values in the text of a workflow file, and leaves comments, order and style as they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import yaml

from nodegraph.workflow.definitions import PARAMS

Path = tuple[str | int, ...]

_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_BLOCK_TEXT: Final = ("|", ">")


def patched(text: str, before: str, after: str) -> str | None:
    """`text` with other values: `before` and `after` are what `dump` writes for its workflow without and with the changes.

    None if more than values has changed, or if a value stands where it cannot be replaced by itself.
    """
    old, new = _tree(before), _tree(after)
    replacements = []
    for path, value in _changes(old, new, ()):
        place = _at(_tree(text), path)
        if place is None:
            return None
        start, end = _offset(text, place.start_mark), _offset(text, place.end_mark)
        written = after[_offset(after, value.start_mark) : _offset(after, value.end_mark)]
        replacements.append((start, end, _fitted(written, place, text[:start])))
    if len({start for start, _, _ in replacements}) < len(replacements):
        return None  # an alias: two values are one in the text
    for start, end, written in sorted(replacements, reverse=True):
        text = text[:start] + written + text[end:]
    return text


def _tree(text: str) -> yaml.Node:
    node = yaml.compose(text, Loader=_LOADER)
    assert node is not None  # the text of a workflow, which was read before
    return node


def _changes(old: yaml.Node, new: yaml.Node, path: Path) -> Iterator[tuple[Path, yaml.Node]]:
    """Where the trees differ, and the new value there."""
    if isinstance(old, yaml.MappingNode) and isinstance(new, yaml.MappingNode):
        members, others = _members(old), _members(new)
        if members.keys() == others.keys():
            for key, value in others.items():
                yield from _changes(members[key], value, (*path, key))
            return
    elif isinstance(old, yaml.SequenceNode) and isinstance(new, yaml.SequenceNode):
        if len(old.value) == len(new.value):
            for index, (item, other) in enumerate(zip(old.value, new.value, strict=True)):
                yield from _changes(item, other, (*path, index))
            return
    elif (
        isinstance(old, yaml.ScalarNode)
        and isinstance(new, yaml.ScalarNode)
        and (old.value, _is_quoted(old)) == (new.value, _is_quoted(new))
    ):
        return
    yield path, new


def _at(root: yaml.Node, path: Path) -> yaml.Node | None:
    """The value at a path; None if it is not there, or is written over several lines with other values."""
    node = root
    for depth, key in enumerate(path):
        node = _default_of(node, path[:depth])
        if isinstance(node, yaml.MappingNode) and key in (members := _members(node)):
            node = members[str(key)]
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
        else:
            return None
    node = _default_of(node, path)
    return node if isinstance(node, yaml.ScalarNode) or (isinstance(node, yaml.CollectionNode) and node.flow_style) else None


def _default_of(node: yaml.Node, path: Path) -> yaml.Node:
    """The default of a param that has nothing but a default: `dump` writes only that."""
    if len(path) == 2 and path[0] == PARAMS and isinstance(node, yaml.MappingNode):
        members = _members(node)
        if members.keys() == {"default"}:
            return members["default"]
    return node


def _members(node: yaml.MappingNode) -> dict[str, yaml.Node]:
    return {key.value: value for key, value in node.value}


def _is_quoted(node: yaml.ScalarNode) -> bool:
    return bool(node.style)


def _fitted(written: str, place: yaml.Node, before: str) -> str:
    """A value as it is written where another one was."""
    if isinstance(place, yaml.ScalarNode) and place.style in _BLOCK_TEXT:
        return f"{written}\n"
    return written if before[-1:].isspace() or before[-1:] in "[{" else f" {written}"


def _offset(text: str, mark: yaml.Mark) -> int:
    """The position of a mark, which counts lines and columns as YAML does."""
    position = 0
    for line in text.splitlines(keepends=True)[: mark.line]:
        position += len(line)
    return position + mark.column
