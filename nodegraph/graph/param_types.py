"""The types that params declare: words, names of port types, and `list[...]` of these."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal

from nodegraph.node_types.literals import LiteralError
from nodegraph.node_types.port_types import Class, PortType, Union, is_written, parse
from nodegraph.plugins.manager import Plugins
from nodegraph.text import did_you_mean
from nodegraph.workflow.definitions import PARAM_TYPES

_LIST: Final = "list["
_SEED_ITEM: Final = int | Literal["random"]  # see RANDOM


def param_type(text: str, plugins: Plugins) -> Any:
    """The port type that a param's `type` names. Raises LiteralError if there is no such type."""
    if text in PARAM_TYPES:
        return PARAM_TYPES[text]
    if text.startswith(_LIST) and text.endswith("]"):
        inner = text.removeprefix(_LIST).removesuffix("]")
        item = _SEED_ITEM if inner == "seed" else param_type(inner, plugins)
        return list[item]  # type: ignore[valid-type]
    classes = _port_classes(plugins)
    if text in classes:
        return classes[text]
    known = [*PARAM_TYPES, *classes]
    hint = did_you_mean(text, known) or f"The types are {', '.join(known)}, and list[...] of these."
    raise LiteralError(f"there is no param type '{text}'", hint)


def _port_classes(plugins: Plugins) -> dict[str, type]:
    """The classes of values that come through links, by name: those of all inputs and outputs of the installed node types."""
    classes: dict[str, type] = {}
    for entry in plugins.nodes.entries():
        for port in (*entry.value.inputs, *entry.value.outputs):
            for part in _parts(parse(port.type)):
                if isinstance(part, Class) and isinstance(part.cls, type) and not is_written(part):
                    classes.setdefault(part.cls.__name__, part.cls)
    return classes


def _parts(port_type: PortType) -> Iterator[PortType]:
    inside = port_type.parts if isinstance(port_type, Union) else port_type.arguments if isinstance(port_type, Class) else ()
    yield port_type
    for part in inside:
        yield from _parts(part)
