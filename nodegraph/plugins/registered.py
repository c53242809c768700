"""Whether registered things still are what their plugins registered: code can be replaced in memory, too."""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Iterator, Mapping
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any, Final

from nodegraph.plugins.registry import Entry

_Name = tuple[Any, ...]
_Parts = Mapping[_Name, object]
_Content = str | Mapping[Any, str]

_PLAIN: Final = frozenset({type(None), bool, int, float, complex, str, bytes})
_CONTAINERS: Final = frozenset({list, tuple, dict, set, frozenset})
_MOST_VALUES: Final = 10_000  # in a container that is compared
_HAS_CONTAINERS: Final = object()  # instead of the code of a thing with containers, which a quick look does not see

_OURS: Final = "__nodegraph"  # the beginning of attributes in which the engine keeps what a plugin declared
_NOT_CODE: Final = frozenset({"__annotations__", "__dict__", "__doc__", "__weakref__"})
_CALLED: Final = (FunctionType, MethodType, functools.partial)  # whose parts are parts of what holds them
_DEEPEST: Final = 6  # how many functions are looked into below each other


class RegisteredThings:
    """What was registered, as it was then.

    Noticed are another object, another function in it or below its decorators, other defaults, other attributes of the object or
    its class, and other plain values in a list, set or mapping among these that was not empty. Not noticed are new entries of a
    mapping, in which a function may remember what it computed, changes inside other objects, and functions that the registered
    ones call.
    """

    def __init__(self) -> None:
        self._parts: dict[int, tuple[Entry[Any], _Parts]] = {}  # by the entry's id
        self._containers: dict[int, dict[_Name, _Content]] = {}  # of the lists, sets and mappings in a thing, by the entry's id
        self._codes: dict[int, object] = {}
        self._choices: dict[int, str] = {}

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

    def choice(self, entry: Entry[Any]) -> str:
        """Text that differs if the plugin's code registers another thing as `entry`, as it may do in another environment.

        It has the places of functions in the code, and the plain values that they and the thing hold.
        """
        found = self._choices.get(id(entry))
        if found is None:
            parts, containers = self._parts[id(entry)][1], self._containers.get(id(entry), {})
            own = {name: part for name, part in parts.items() if not (name and isinstance(name[0], type))}
            texts = [f"{_text(name)}={_choice(part, containers.get(name))}" for name, part in own.items()]
            whole = "\n".join([type(parts[()]).__qualname__, *sorted(texts)])
            found = self._choices[id(entry)] = hashlib.sha256(whole.encode("utf-8", "replace")).hexdigest()[:16]
        return found


def _parts(thing: object) -> Iterator[tuple[_Name, object]]:
    """What makes up a thing, by names that tell the parts from each other."""
    yield (), thing
    pending, seen = [((), thing)], {id(thing)}
    for name, part in pending:  # it grows
        for inner_name, inner in _direct_parts(part, is_thing=not name):
            yield (*name, *inner_name), inner
            is_of_class = not name and isinstance(inner_name[0], type)
            if isinstance(inner, _CALLED) and not is_of_class and len(name) < _DEEPEST and id(inner) not in seen:
                seen.add(id(inner))
                pending.append(((*name, *inner_name), inner))


def _direct_parts(part: Any, *, is_thing: bool) -> Iterator[tuple[_Name, object]]:
    """The parts of a function, a method or a `functools.partial`; of another object only if it `is_thing`."""
    if isinstance(part, FunctionType):
        yield ("code",), part.__code__
        for index, default in enumerate(part.__defaults__ or ()):
            yield ("default", index), default
        for keyword, default in (part.__kwdefaults__ or {}).items():
            yield ("default", keyword), default
        for index, cell in enumerate(part.__closure__ or ()):
            yield ("cell", index), _content(cell)
        if part.__dict__:
            yield from ((("attribute", name), value) for name, value in vars(part).items() if not name.startswith(_OURS))
    elif isinstance(part, MethodType):
        yield ("function",), part.__func__
        yield from _object_parts(part.__self__)
    elif isinstance(part, functools.partial):
        yield ("function",), part.func
        yield ("arguments",), part.args
        yield ("keywords",), part.keywords
    elif is_thing:
        yield from _object_parts(part)


def _object_parts(thing: object) -> Iterator[tuple[_Name, object]]:
    """The attributes of an object and of its class, or of a class."""
    for name, part in getattr(thing, "__dict__", {}).items():
        if name not in _NOT_CODE:
            yield ("attribute", name), part
    for cls in (thing if isinstance(thing, type) else type(thing)).__mro__:
        if cls.__module__ in sys.stdlib_module_names:
            continue
        for name, part in vars(cls).items():
            if name not in _NOT_CODE:
                yield (cls, name), part
                if type(part) is _Slot and not isinstance(thing, type):
                    yield ("slot", cls, name), getattr(thing, name, None)


class _WithSlot:
    __slots__ = ("slot",)


_Slot: Final = type(_WithSlot.slot)  # type: ignore[attr-defined] # of the descriptors that `__slots__` makes


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


def _choice(part: Any, content: _Content | None) -> str:
    """Text for a part, the same in each process: the place of code, or plain values as they were. "" for other objects."""
    if isinstance(part, CodeType):
        return f"{part.co_qualname}:{part.co_firstlineno}"
    if isinstance(part, FunctionType):
        return f"{part.__code__.co_qualname}:{part.__code__.co_firstlineno}"
    if isinstance(content, dict):  # it may have more by now
        return _plain_text({name: part[name] for name in content})
    return _plain_text(part) if content is not None or type(part) not in _CONTAINERS or type(part) is tuple else ""


def _plain_text(part: Any) -> str:
    """Plain values as text, the same in each process; "" for another object."""
    kind = type(part)
    if kind is dict:
        return f"{sorted((_plain_text(name), _plain_text(item)) for name, item in part.items())}"
    if kind in _CONTAINERS:
        items = [_plain_text(item) for item in part]
        return f"{kind.__name__} {sorted(items) if kind in (set, frozenset) else items}"
    return repr(part) if kind in _PLAIN else ""


def _text(name: _Name) -> str:
    return " ".join(part.__qualname__ if isinstance(part, type) else str(part) for part in name)
