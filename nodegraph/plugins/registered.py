"""Whether registered things still are what their plugins registered: code can be replaced in memory, too."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from types import CellType, FunctionType
from typing import Any, Final

from nodegraph.plugins.registry import Entry

_Parts = Mapping[Any, object]

_NOT_CODE: Final = frozenset({"__annotations__", "__dict__", "__doc__", "__weakref__"})


class RegisteredThings:
    """What was registered, as it was then.

    Noticed are another object, another function in it or below its decorator, other defaults, and other attributes of the object or
    its class. Not noticed are changes inside a list or mapping, and of functions that the registered ones call.
    """

    def __init__(self) -> None:
        self._parts: dict[int, tuple[Entry[Any], _Parts]] = {}  # by the entry's id
        self._codes: dict[int, object] = {}

    def add(self, entry: Entry[Any], thing: object) -> None:
        """Note that `thing` was registered as `entry`."""
        self._parts[id(entry)] = entry, dict(_parts(thing))
        self._codes[id(entry)] = getattr(thing, "__code__", None)

    def is_unchanged(self, entry: Entry[Any], thing: object) -> bool:
        """Whether `entry` was registered, with `thing`, as it is now."""
        before = self._parts.get(id(entry))
        if before is None:
            return False
        now = dict(_parts(thing))
        return all(name in now and now[name] is part for name, part in before[1].items())

    def has_same_code(self, entry: Entry[Any], thing: object) -> bool:
        """Whether `thing` has the code that was registered as `entry`. A quick look, for what runs often."""
        return getattr(thing, "__code__", None) is self._codes.get(id(entry))


def _parts(thing: object) -> Iterator[tuple[Any, object]]:
    """What makes up a thing, by names that tell the parts from each other."""
    yield "itself", thing
    if isinstance(thing, FunctionType):
        yield from _function_parts("function", thing)
        return
    for name, part in getattr(thing, "__dict__", {}).items():
        if name not in _NOT_CODE:
            yield name, part
            if isinstance(part, FunctionType):
                yield from _function_parts(name, part)
    for cls in (thing if isinstance(thing, type) else type(thing)).__mro__:
        if cls.__module__ in sys.stdlib_module_names:
            continue
        for name, part in vars(cls).items():
            if name not in _NOT_CODE:
                yield (cls, name), part


def _function_parts(name: str, function: FunctionType) -> Iterator[tuple[Any, object]]:
    yield (name, "code"), function.__code__
    for index, default in enumerate(function.__defaults__ or ()):
        yield (name, "default", index), default
    for keyword, default in (function.__kwdefaults__ or {}).items():
        yield (name, "default", keyword), default
    for index, cell in enumerate(function.__closure__ or ()):
        content = _content(cell)
        yield (name, "cell", index), content
        if isinstance(content, FunctionType):  # the function below a decorator
            yield (name, "cell", index, "code"), content.__code__


def _content(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # empty so far
        return None
