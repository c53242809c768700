"""What a node's function returned, by port, and whether that is what its type promised."""

from __future__ import annotations

import types
import typing
from typing import Any

from nodegraph.errors import NodegraphError
from nodegraph.node_types.literals import type_name
from nodegraph.node_types.spec import SINGLE_OUTPUT, NodeSpec


class ReturnTypeError(NodegraphError):
    """A node type returned something other than it declares."""


def by_port(spec: NodeSpec, returned: Any) -> dict[str, Any]:
    """The outputs by name. Raises ReturnTypeError, saying what was promised and what came."""
    names = [port.name for port in spec.outputs]
    if names == [SINGLE_OUTPUT]:
        values = {SINGLE_OUTPUT: returned}
    elif isinstance(returned, tuple) and len(returned) == len(names):
        values = dict(zip(names, returned, strict=True))
    else:
        found = f"a tuple of {len(returned)}" if isinstance(returned, tuple) else type(returned).__name__
        raise ReturnTypeError(f"expected {len(names)} outputs ({', '.join(names)}), it returned {found}")
    for port in spec.outputs:
        if not fits(port.type, values[port.name]):
            expected, found = type_name(port.type), type_name(type(values[port.name]))
            raise ReturnTypeError(f"expected {expected} as '{port.name}', it returned {found}")
    return values


def fits(kind: Any, value: Any) -> bool:
    """Whether `value` is of the port type `kind`; a whole number is a float, a boolean is no number."""
    if kind is Any or kind is type(value):
        return True
    if kind is None or value is None:
        return kind in (None, type(None), object) or (_is_union(kind) and type(None) in typing.get_args(kind))
    if _is_union(kind):
        return any(fits(part, value) for part in typing.get_args(kind))
    origin, arguments = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin is typing.Literal:
        return any(type(value) is type(choice) and value == choice for choice in arguments)
    if isinstance(value, bool) and origin in (int, float):
        return False
    if origin is float and isinstance(value, int):
        return True
    try:
        if not isinstance(value, origin):
            return False
    except TypeError:
        return True  # a protocol that cannot be asked
    if origin is list and arguments:
        return all(fits(arguments[0], item) for item in value)
    return True


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (types.UnionType, typing.Union)
