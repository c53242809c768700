"""Literals: the values that a person writes down for a port, converted to the port's type."""

from __future__ import annotations

import math
import numbers
import os
import re
from pathlib import Path
from typing import Any

from nodegraph.errors import NodegraphError
from nodegraph.node_types.port_types import (
    ANY,
    AnyType,
    Choices,
    Class,
    List,
    Mapping,
    PortType,
    Tuple,
    Union,
    expected,
    is_written,
    parse,
    type_name,
)
from nodegraph.node_types.spec import RANDOM, Port
from nodegraph.node_types.yaml_core import core_value
from nodegraph.text import described, did_you_mean, number


class LiteralError(NodegraphError):
    """A value does not fit its port. The message says what was expected and found, the hint what to do."""

    def __init__(self, message: str, hint: str = "", code: str = "E110") -> None:
        super().__init__(message)
        self.message, self.hint, self.code = message, hint, code


_SCALARS = (str, int, float, bool)
_NOT_UNICODE = "[\ud800-\udfff]"


def coerce(annotation: Any, value: Any) -> Any:
    """`value` converted to a port type: whole numbers become floats, the items of lists and mappings are converted, too.

    Numbers and text of other classes (NumPy's, an enum's) become plain ones. A path stays text. Containers are copied, so that
    later changes to them do not reach the graph. A mapping is sorted by its names, as one that comes through a link is: its order
    is not in keys. Raises LiteralError with what was expected and found.
    """
    return _coerce(parse(annotation), value)


def check_range(port: Port, value: Any) -> None:
    """Raise LiteralError if `value`, or an item of it, is outside the port's range."""
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
        limits = f"from {number(low)} to {number(high)}"
    else:
        bounds = (("least", low), ("most", high))
        limits = " ".join(f"of at {word} {number(bound)}" for word, bound in bounds if bound is not None)
    hint = f"Write '{RANDOM}' for a number that is drawn." if port.seed and value < 0 else ""
    raise LiteralError(f"expected a value {limits}, found {number(value)}", hint, code="E111")


def takes_text(port: Port) -> bool:
    """Whether the port's literals are text: words, names of registered things, paths."""
    if port.choice is not None or port.reads is not None:
        return True
    return all(_is_text(part) for part in parse(port.type).required_alternatives)


def is_plain(port: Port) -> bool:
    """Whether the port takes values that a person writes down, rather than only outputs of other nodes."""
    if takes_text(port):
        return True
    return any(map(is_written, parse(port.type).required_alternatives))


def _is_text(part: PortType) -> bool:
    if isinstance(part, Choices):
        return all(isinstance(value, str) for value in part.values)
    return isinstance(part, Class) and (part.cls is str or (isinstance(part.cls, type) and issubclass(part.cls, Path)))


def _coerce(port_type: PortType, value: Any) -> Any:
    if type(port_type) is Class:  # first, as most ports are of a plain class
        return _coerce_scalar(port_type, value)
    if isinstance(port_type, Union):
        return _coerce_union(port_type, value)
    if isinstance(port_type, Choices):
        return _coerce_choice(port_type, value)
    if isinstance(port_type, AnyType):
        if isinstance(value, list | tuple):
            return [_coerce(ANY, item) for item in value]
        return _coerce_mapping(ANY, value) if isinstance(value, dict) else _plain(value)
    assert isinstance(port_type, Class)
    if isinstance(port_type, List) and isinstance(value, list | tuple):
        return [_coerce(port_type.item, item) for item in value]
    if isinstance(port_type, Tuple) and isinstance(value, list | tuple):
        return _coerce_tuple(port_type, value)
    if isinstance(port_type, Mapping) and isinstance(value, dict):
        return _coerce_mapping(port_type.value, value)
    return _coerce_scalar(port_type, value)


def _coerce_scalar(port_type: Class, value: Any) -> Any:
    cls = port_type.cls
    if cls not in _SCALARS and isinstance(cls, type) and issubclass(cls, os.PathLike) and isinstance(value, str | os.PathLike):
        return _plain(os.fsdecode(value))
    value = _plain(value)
    if cls is float and type(value) is int:
        value = _widened(value)
    if not _is_instance(value, cls):
        raise _mismatch(port_type, value)
    return value


def _coerce_union(port_type: Union, value: Any) -> Any:
    if value is None and port_type.optional:
        return None
    parts = port_type.required_alternatives
    if len(parts) == 1:
        return _coerce(parts[0], value)
    exact = [part for part in parts if isinstance(part, Class) and part.cls is type(value)]  # for int | float, 1 stays an int
    for part in (*exact, *parts):
        try:
            return _coerce(part, value)
        except LiteralError:
            continue
    raise _mismatch(port_type, value)


def _coerce_choice(port_type: Choices, value: Any) -> Any:
    value = _plain(value)
    if port_type.contains(value):
        return value
    hint = did_you_mean(str(value), map(str, port_type.values))
    raise LiteralError(f"expected {expected(port_type)}; found {described(value)}", hint)


def _coerce_tuple(port_type: Tuple, items: list[Any] | tuple[Any, ...]) -> tuple[Any, ...]:
    if port_type.length not in (None, len(items)):
        raise LiteralError(f"expected a list of {port_type.length} items, found {len(items)}")
    return tuple(_coerce(port_type.item(index), item) for index, item in enumerate(items))


def _coerce_mapping(inner: PortType, mapping: dict[Any, Any]) -> dict[str, Any]:
    for key in mapping:
        if not isinstance(key, str):
            raise LiteralError(f"expected text as keys of a mapping, found {described(key)}")
    converted = {_plain(key): _coerce(inner, item) for key, item in mapping.items()}
    return dict(sorted(converted.items(), key=_key_of_item)) if len(converted) > 1 else converted


def _key_of_item(item: tuple[str, Any]) -> str:
    return item[0]


def _plain(value: Any) -> Any:
    """Numbers and text as built-in types. Text that a file cannot hold and NaN, which equals nothing, are refused."""
    if isinstance(value, str):
        text = str.__str__(value)
        if not text.isascii() and re.search(_NOT_UNICODE, text):
            raise LiteralError(f"expected text, found bytes that are not UTF-8 in {described(text)}")
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
        raise LiteralError("expected a number up to 1.8e308, found a larger one") from None


def _is_instance(value: Any, cls: Any) -> bool:
    if cls is int and isinstance(value, bool):
        return False
    try:
        return isinstance(value, cls)
    except TypeError:  # not a class, or a protocol that cannot be checked
        return False


def _mismatch(port_type: PortType, value: Any) -> LiteralError:
    parts = port_type.required_alternatives or port_type.alternatives
    cls = parts[0].cls if len(parts) == 1 and isinstance(parts[0], Class) else None
    if len(parts) == 1 and not is_written(parts[0]):
        message = f"expected a link to an output of type {type_name(port_type.annotation)}, found {described(value)}"
        return LiteralError(message, "Write '$node' or '$node.port'.")
    return LiteralError(f"expected {' or '.join(map(expected, parts))}, found {described(value)}", _quotes_hint(cls, value))


def _quotes_hint(cls: Any, value: Any) -> str:
    if cls is str and isinstance(value, int | float):
        return "Put it in quotes."
    if cls in (int, float, bool) and isinstance(value, str):
        try:
            return "Remove the quotes." if type(core_value(value.strip())) is cls else ""
        except ValueError:
            return ""
    return ""
