"""What a node's function returned, by port, checked against the types that it declares."""

from __future__ import annotations

from typing import Any

from nodegraph.errors import NodegraphError
from nodegraph.node_types.port_types import fits, type_name
from nodegraph.node_types.spec import SINGLE_OUTPUT, NodeSpec


class ReturnTypeError(NodegraphError):
    """A node type returned something other than it declares."""


def by_port(spec: NodeSpec, returned: Any) -> dict[str, Any]:
    """The outputs by name. Raises ReturnTypeError with what was expected and what was returned."""
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
