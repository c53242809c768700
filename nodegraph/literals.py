"""What a port takes: which outputs may be linked to it, and what a literal given to it comes to."""

from __future__ import annotations

import difflib
import math
import os
import types
import typing
from pathlib import Path
from typing import Any

from nodegraph.spec import Port


class Unfit(ValueError):
    """A value does not fit its port: what was expected and what was found, and perhaps what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


_WORDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a mapping",
}
_PLAIN = {str: "text", int: "int", float: "float", bool: "bool", type(None): "nothing"}


def type_name(kind: Any) -> str:
    """A port type as people read it."""
    if kind is Any:
        return "anything"
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return " or ".join(type_name(part) for part in typing.get_args(kind))
    if typing.get_origin(kind) is typing.Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(kind)))
    arguments = typing.get_args(kind)
    name = str(_PLAIN.get(kind) or getattr(typing.get_origin(kind) or kind, "__name__", kind))
    return f"{name}[{', '.join(map(type_name, arguments))}]" if arguments else name


def accepts(wanted: Any, given: Any) -> bool:
    """Whether an output of type `given` may be linked to an input of type `wanted`."""
    if wanted is Any or given is Any:
        return True
    if parts := _union(given):
        return all(accepts(wanted, part) for part in parts)
    if parts := _union(wanted):
        return any(accepts(part, given) for part in parts)
    if wanted is float and given is int:
        return True
    if wanted is int and given is bool:
        return False
    wanted_origin, given_origin = typing.get_origin(wanted) or wanted, typing.get_origin(given) or given
    if wanted_origin is typing.Literal:
        return given_origin is typing.Literal and set(typing.get_args(given)) <= set(typing.get_args(wanted))
    if given_origin is typing.Literal:
        return all(isinstance(value, wanted_origin) for value in typing.get_args(given))
    if not (isinstance(wanted_origin, type) and isinstance(given_origin, type) and issubclass(given_origin, wanted_origin)):
        return False
    wanted_arguments, given_arguments = typing.get_args(wanted), typing.get_args(given)
    return not wanted_arguments or not given_arguments or all(map(accepts, wanted_arguments, given_arguments))


def coerce(kind: Any, value: Any) -> Any:
    """A literal as the type of its port has it: whole numbers widen to float, a list is made of such values.

    Raises Unfit with what was expected and found.
    """
    if kind is Any:
        return _canonical(value)
    if parts := _union(kind):
        return _coerce_union(kind, parts, value)
    origin = typing.get_origin(kind) or kind
    if origin is typing.Literal:
        return _coerce_literal(typing.get_args(kind), value)
    if isinstance(origin, type) and issubclass(origin, os.PathLike):
        origin = str
        value = os.fspath(value) if isinstance(value, os.PathLike) else value
    if origin is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if origin in (list, tuple) and isinstance(value, list | tuple):
        inner = (*typing.get_args(kind), Any)[0]
        return [coerce(inner, item) for item in value]
    if origin is dict and isinstance(value, dict):
        return _canonical(value)
    if not isinstance(origin, type) or not isinstance(value, origin) or (origin is int and isinstance(value, bool)):
        raise _unfit(kind, value)
    if isinstance(value, float) and math.isnan(value):
        raise Unfit("expected a number, found NaN")
    return value


def check_range(port: Port, value: Any) -> None:
    """Raise Unfit where `value` lies outside the port's range."""
    if port.range is None or not isinstance(value, int | float):
        return
    low, high = port.range.low, port.range.high
    if (low is not None and value < low) or (high is not None and value > high):
        if low is not None and high is not None:
            raise Unfit(f"expected a value from {low} to {high}, found {value}")
        raise Unfit(f"expected a value of at {f'least {low}' if low is not None else f'most {high}'}, found {value}")


def from_text(port: Port, text: str) -> Any:
    """What `--set` says, for this port: text inputs take it as it is typed, others read it as YAML. Raises Unfit."""
    from nodegraph.document import parse_scalar

    if takes_text(port):
        return text
    try:
        return parse_scalar(text)
    except ValueError as error:
        raise Unfit(str(error)) from None


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
    parts = _union(port.type) or (port.type,)
    return takes_text(port) or any((typing.get_origin(part) or part) in _WORDS for part in parts)


def element_type(kind: Any) -> Any:
    """The type of the items of a list type; None for a type that is no list."""
    for part in _union(kind) or (kind,):
        if part is Any or (typing.get_origin(part) or part) is list:
            return (*typing.get_args(part), Any)[0]
    return None


def _union(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union else ()


def _coerce_union(kind: Any, parts: tuple[Any, ...], value: Any) -> Any:
    if value is None and type(None) in parts:
        return None
    exact = [part for part in parts if type(value) is part]  # an int stays one where int and float are both allowed
    for part in (*exact, *parts):
        try:
            return coerce(part, value)
        except Unfit as error:
            last = error
    named = [part for part in parts if part is not type(None)]
    raise last if len(named) == 1 else _unfit(kind, value)


def _coerce_literal(allowed: tuple[Any, ...], value: Any) -> Any:
    for choice in allowed:
        if type(choice) is type(value) and choice == value:
            return value
    close = difflib.get_close_matches(str(value), map(str, allowed), n=1)
    hint = f"Did you mean '{close[0]}'?" if close else ""
    raise Unfit(f"expected one of {', '.join(map(str, allowed))}; found {value!r}", hint)


def _canonical(value: Any) -> Any:
    """A value of any type, its containers copied, so that nobody changes it behind the key."""
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise Unfit(f"expected names as keys of a mapping, found {key!r}")
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, float) and math.isnan(value):
        raise Unfit("expected a number, found NaN")
    return value


def _unfit(kind: Any, value: Any) -> Unfit:
    origin = typing.get_origin(kind) or kind
    expected = _WORDS.get(origin)
    if expected is None and isinstance(origin, type):
        return Unfit(
            f"expected the {type_name(kind)} of another node, found {_shown(value)}",
            "Link it: '$node' or '$node.port'.",
        )
    hint = "Put it in quotes." if origin is str and isinstance(value, int | float) else ""
    return Unfit(f"expected {expected or type_name(kind)}, found {_shown(value)}", hint)


def _shown(value: Any) -> str:
    text = "nothing" if value is None else repr(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
