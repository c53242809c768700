"""What a port takes: which outputs may be linked to it, and what a literal given to it comes to."""

from __future__ import annotations

import math
import numbers
import os
import re
import types
import typing
from pathlib import Path
from typing import Any

from nodegraph.errors import NodegraphError
from nodegraph.node_types.spec import Port
from nodegraph.node_types.yaml_core import core_value
from nodegraph.text import described, did_you_mean, number


class LiteralError(NodegraphError):
    """A value does not fit its port: what was expected and what was found, and perhaps what to do."""

    def __init__(self, message: str, hint: str = "", code: str = "E110") -> None:
        super().__init__(message)
        self.message, self.hint, self.code = message, hint, code


_WORDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    tuple: "a list",
    dict: "a mapping",
    Path: "a path",
    type(None): "nothing",
}
_PLAIN = {str: "text", Path: "path", type(None): "nothing"}
_NOT_UNICODE = re.compile("[\ud800-\udfff]")


def type_name(kind: Any) -> str:
    """A port type as people read it."""
    if kind is Any:
        return "anything"
    if parts := _union(kind):
        return " or ".join(map(type_name, parts))
    if typing.get_origin(kind) is typing.Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(kind)))
    if kind is Ellipsis:
        return "..."
    arguments = typing.get_args(kind)
    name = str(_PLAIN.get(kind) or getattr(typing.get_origin(kind) or kind, "__name__", kind))
    return f"{name}[{', '.join(map(type_name, arguments))}]" if arguments else name


def accepts(wanted: Any, given: Any) -> bool:
    """Whether an output of type `given` may be linked to an input of type `wanted`."""
    if wanted is Any or given is Any or wanted == given:
        return True
    if parts := _union(given) or _each(given):
        return all(accepts(wanted, part) for part in parts)
    if parts := _union(wanted):
        return any(accepts(part, given) for part in parts)
    if wanted is float and given is int:
        return True
    if wanted is int and given is bool:
        return False
    wanted_origin, given_origin = typing.get_origin(wanted) or wanted, typing.get_origin(given) or given
    if wanted_origin is typing.Literal:
        return given_origin is typing.Literal and typing.get_args(given)[0] in typing.get_args(wanted)
    if given_origin is typing.Literal:
        return accepts(wanted, type(typing.get_args(given)[0]))
    try:
        if not issubclass(given_origin, wanted_origin):
            return False
    except TypeError:  # no class, or a protocol that cannot be asked
        return False
    wanted_arguments, given_arguments = typing.get_args(wanted), typing.get_args(given)
    return not wanted_arguments or not given_arguments or all(map(accepts, wanted_arguments, given_arguments))


def coerce(kind: Any, value: Any) -> Any:
    """A literal as the type of its port has it: whole numbers widen to float, a list is made of such values.

    Numbers and text of other classes (numpy's, an enum's) become plain ones; containers are copied, so that nobody changes them
    behind a key. Raises LiteralError with what was expected and found.
    """
    if parts := _union(kind):
        return _coerce_union(kind, parts, value)
    origin = typing.get_origin(kind) or kind
    if origin is typing.Literal:
        return _coerce_literal(typing.get_args(kind), value)
    if origin in (list, tuple) and isinstance(value, list | tuple):
        return _coerce_items(kind, origin, value)
    if (origin is dict or kind is Any) and isinstance(value, dict):
        return _coerce_mapping((*typing.get_args(kind), Any, Any)[1], value)
    if kind is Any and isinstance(value, list | tuple):
        return [coerce(Any, item) for item in value]
    if isinstance(origin, type) and issubclass(origin, os.PathLike) and isinstance(value, str | os.PathLike):
        return coerce(str, os.fspath(value))
    value = _plain(value)
    if origin is float and type(value) is int:
        value = _widened(value)
    if kind is not Any and not _is_instance(value, origin):
        raise _unfit(kind, value)
    return value


def check_range(port: Port, value: Any) -> None:
    """Raise LiteralError where `value`, or an item of it, lies outside the port's range."""
    if port.range is None:
        return
    if isinstance(value, list | tuple):
        for item in value:
            check_range(port, item)
        return
    if not isinstance(value, int | float):
        return
    low, high = port.range.low, port.range.high
    if (low is None or value >= low) and (high is None or value <= high):
        return
    if low is not None and high is not None:
        expected = f"a value from {number(low)} to {number(high)}"
    elif low is not None:
        expected = f"a value of at least {number(low)}"
    else:
        expected = f"a value of at most {number(high or 0)}"
    raise LiteralError(f"expected {expected}, found {number(value)}", code="E111")


def takes_text(port: Port) -> bool:
    """Whether the port's literals are text: words, names of registered things, paths."""
    if port.choice is not None or port.reads is not None:
        return True
    parts = [part for part in _union(port.type) or (port.type,) if part is not type(None)]
    return all(
        part is str
        or (typing.get_origin(part) is typing.Literal and all(isinstance(a, str) for a in typing.get_args(part)))
        or (isinstance(part, type) and issubclass(part, Path))
        for part in parts
    )


def is_plain(port: Port) -> bool:
    """Whether the port takes values that a person writes down, rather than another node's output."""
    parts = [part for part in _union(port.type) or (port.type,) if part is not type(None)]
    return takes_text(port) or any((typing.get_origin(part) or part) in (*_WORDS, typing.Literal, Any) for part in parts)


def element_type(kind: Any) -> Any:
    """The type of the items of a list type; None for a type that is no list."""
    for part in _union(kind) or (kind,):
        if part is Any or (typing.get_origin(part) or part) is list:
            return (*typing.get_args(part), Any)[0]
    return None


def member_type(kind: Any) -> Any:
    """The type of the values of a mapping type; None for a type that is no mapping."""
    for part in _union(kind) or (kind,):
        if part is Any or (typing.get_origin(part) or part) is dict:
            return (*typing.get_args(part), Any, Any)[1]
    return None


def _union(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union else ()


def _each(kind: Any) -> tuple[Any, ...]:
    """Each of several values of a Literal, as a Literal of its own."""
    values = typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()
    return tuple(typing.Literal[value] for value in values) if len(values) > 1 else ()


def _plain(value: Any) -> Any:
    """Numbers and text as the built-in types; what a key could not tell apart, or a file not hold, is refused."""
    if isinstance(value, str):
        text = str.__str__(value)
        if _NOT_UNICODE.search(text):
            raise LiteralError(f"expected text, found bytes that are no UTF-8 in {described(text)}")
        return text
    if isinstance(value, bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        if math.isnan(value):
            raise LiteralError("expected a number, found NaN")
        return float(value)
    return value


def _widened(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        raise LiteralError("expected a number up to 1.8e308, found one beyond it") from None


def _is_instance(value: Any, kind: Any) -> bool:
    if kind is int and isinstance(value, bool):
        return False
    try:
        return isinstance(value, kind)
    except TypeError:  # no class, or a protocol that cannot be asked
        return False


def _coerce_union(kind: Any, parts: tuple[Any, ...], value: Any) -> Any:
    if value is None and type(None) in parts:
        return None
    named = [part for part in parts if part is not type(None)]
    if len(named) == 1:
        return coerce(named[0], value)
    exact = [part for part in named if type(value) is part]  # an int stays one where int and float are both allowed
    for part in (*exact, *named):
        try:
            return coerce(part, value)
        except LiteralError:
            continue
    raise _unfit(kind, value)


def _coerce_literal(allowed: tuple[Any, ...], value: Any) -> Any:
    value = _plain(value)
    for choice in allowed:
        if type(choice) is type(value) and choice == value:
            return value
    hint = did_you_mean(str(value), map(str, allowed))
    raise LiteralError(f"expected one of {', '.join(map(str, allowed))}; found {described(value)}", hint)


def _coerce_items(kind: Any, origin: Any, items: list[Any] | tuple[Any, ...]) -> Any:
    inner = typing.get_args(kind)
    if origin is list or not inner or inner[-1] is Ellipsis:
        return origin(coerce((*inner, Any)[0], item) for item in items)
    if len(inner) != len(items):
        raise LiteralError(f"expected a list of {len(inner)}, found one of {len(items)}")
    return tuple(map(coerce, inner, items))


def _coerce_mapping(inner: Any, mapping: dict[Any, Any]) -> dict[str, Any]:
    for key in mapping:
        if not isinstance(key, str):
            raise LiteralError(f"expected names as keys of a mapping, found {described(key)}")
    return {_plain(key): coerce(inner, item) for key, item in mapping.items()}


def _unfit(kind: Any, value: Any) -> LiteralError:
    origin = typing.get_origin(kind) or kind
    named = [part for part in _union(kind) if part is not type(None)]
    expected = _WORDS.get(origin) or " or ".join(_WORDS.get(typing.get_origin(part) or part, type_name(part)) for part in named)
    if not expected:
        return LiteralError(
            f"expected the {type_name(kind)} of another node, found {described(value)}",
            "Link it: '$node' or '$node.port'.",
        )
    return LiteralError(f"expected {expected}, found {described(value)}", _quotes_hint(origin, value))


def _quotes_hint(origin: Any, value: Any) -> str:
    if origin is str and isinstance(value, int | float):
        return "Put it in quotes."
    if origin in (int, float, bool) and isinstance(value, str):
        try:
            return "Remove the quotes." if type(core_value(value.strip())) is origin else ""
        except ValueError:
            return ""
    return ""
