"""Whether registered things still are what their plugins registered: code can be replaced in memory, too."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from types import CellType, FunctionType
from typing import Any, Final

from nodegraph.plugins.registry import Entry

_Parts = Mapping[Any, object]
_Content = str | Mapping[Any, str]

_PLAIN: Final = frozenset({type(None), bool, int, float, complex, str, bytes})
_CONTAINERS: Final = frozenset({list, tuple, dict, set, frozenset})
_MOST_VALUES: Final = 10_000  # in a container that is compared
_HAS_CONTAINERS: Final = object()  # instead of the code of a thing with containers, which a quick look does not see

_OURS: Final = "__nodegraph"  # the beginning of attributes in which the engine keeps what a plugin declared
_NOT_CODE: Final = frozenset({"__annotations__", "__dict__", "__doc__", "__weakref__"})


class RegisteredThings:
    """What was registered, as it was then.

    Noticed are another object, another function in it or below its decorator, other defaults, other attributes of the object or
    its class, and other plain values in a list, set or mapping among these that was not empty. Not noticed are new entries of a
    mapping, in which a function may remember what it computed, changes inside other objects, and functions that the registered
    ones call.
    """

    def __init__(self) -> None:
        self._parts: dict[int, tuple[Entry[Any], _Parts]] = {}  # by the entry's id
        self._containers: dict[int, dict[Any, _Content]] = {}  # of the lists, sets and mappings in a thing, by the entry's id
        self._codes: dict[int, object] = {}

    def add(self, entry: Entry[Any], thing: object) -> None:
        """Note that `thing` was registered as `entry`."""
        parts = dict(_parts(thing))
        found = [(name, _content_of(part)) for name, part in parts.items() if type(part) in _CONTAINERS and part]
        containers = {name: content for name, content in found if content is not None} if found else {}
        if containers:
            self._containers[id(entry)] = containers
        self._parts[id(entry)] = entry, parts
        self._codes[id(entry)] = _HAS_CONTAINERS if containers else getattr(thing, "__code__", None)

    def is_unchanged(self, entry: Entry[Any], thing: object) -> bool:
        """Whether `entry` was registered, with `thing`, as it is now."""
        before = self._parts.get(id(entry))
        if before is None:
            return False
        now = dict(_parts(thing))
        if not all(name in now and now[name] is part for name, part in before[1].items()):
            return False
        return all(_has_content(now[name], content) for name, content in self._containers.get(id(entry), {}).items())

    def has_same_code(self, entry: Entry[Any], thing: object) -> bool:
        """Whether `thing` has the code and the containers that were registered as `entry`. A quick look, for what runs often."""
        code = self._codes.get(id(entry))
        return getattr(thing, "__code__", None) is code or (code is _HAS_CONTAINERS and self.is_unchanged(entry, thing))


def _parts(thing: object) -> Iterator[tuple[Any, object]]:
    """What makes up a thing, by names that tell the parts from each other."""
    yield "itself", thing
    if isinstance(thing, FunctionType):
        yield from _function_parts("function", thing)
        yield from ((("attribute", name), part) for name, part in vars(thing).items() if not name.startswith(_OURS))
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


def _content_of(part: Any) -> _Content | None:
    """What differs once a plain value in a container is changed; None if it cannot be changed, or has values that are not plain."""
    if isinstance(part, tuple | frozenset) and _PLAIN.issuperset(map(type, part)):
        return None
    pending: list[Any] = [part]
    for item in pending:  # it grows
        if type(item) in _CONTAINERS:
            if len(pending) + len(item) > _MOST_VALUES:
                return None
            pending += item
            if type(item) is dict:
                pending += item.values()
        elif type(item) not in _PLAIN:
            return None
    try:
        return {key: repr(value) for key, value in part.items()} if isinstance(part, dict) else repr(part)
    except RecursionError:
        return None


def _has_content(part: Any, content: _Content) -> bool:
    """Whether a container still has its content. A mapping may have more."""
    if isinstance(content, str):
        return repr(part) == content
    return all(key in part and repr(part[key]) == text for key, text in content.items())
