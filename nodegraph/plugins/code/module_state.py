"""What modules hold: functions, classes and plain values. A plugin can put others into a module that is not its own."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any, Final, TypeAlias

from nodegraph.plugins.code.installed import is_installed_file
from nodegraph.plugins.code.loads import LOADS, PLUGIN_NAMES
from nodegraph.plugins.code.running import ENGINE_FOLDER, RUNNING

ModuleState: TypeAlias = Mapping[tuple[Any, ...], Any]
"""What a module holds by name: text for plain values, the object itself for others."""

_PLAIN: Final = frozenset({type(None), bool, int, float, complex, str, bytes})
_CONTAINERS: Final = frozenset({list, tuple, dict, set, frozenset, deque, defaultdict, OrderedDict})
_FUNCTIONS: Final = (FunctionType, BuiltinFunctionType, MethodType, functools.partial, property, staticmethod, classmethod)
_MOST_ITEMS: Final = 2_000  # in a container that is compared,
_MOST_INSIDE: Final = 50  # and in one inside of it
_DEEPEST: Final = 6
_OF_THE_PROCESS: Final = frozenset(map(id, (*vars(sys).values(), LOADS, PLUGIN_NAMES, RUNNING)))  # change with each import
_MISSING: Final = object()


def state_of(module: ModuleType) -> ModuleState:
    """What a module holds, with the content of its containers, and the attributes of its functions, classes and objects."""
    state: dict[tuple[Any, ...], Any] = {}
    for name, value in tuple(vars(module).items()):
        if name.startswith("__") or issubclass(type(value), ModuleType):
            continue
        state[name,] = _token(value)
        for inner, part in _inner_parts(value, module.__name__):
            state[name, inner] = _token(part)
    return state


def state_of_library(module: ModuleType) -> ModuleState:
    """What a module of a library holds that only others would replace: functions, classes, methods, and public plain values."""
    state: dict[tuple[Any, ...], Any] = {}
    for name, value in tuple(vars(module).items()):
        kind = type(value)
        if kind in _PLAIN:
            if name[:1] != "_":
                state[name,] = _text(value)
        elif issubclass(kind, type):
            state[name,] = value
            if vars(value).get("__module__") == module.__name__:
                state.update(((name, inner), part) for inner, part in tuple(vars(value).items()) if type(part) in _FUNCTIONS)
        elif kind in _FUNCTIONS:
            state[name,] = value
    return state


def is_changed(module: ModuleType, before: ModuleState, *, may_have_more: bool = False) -> bool:
    """Whether a module holds something else than in `state_of` before, or more: with `may_have_more`, mappings may."""
    now = state_of(module)
    if may_have_more:
        return any(name not in now or not _holds(now[name], part) for name, part in before.items())
    return not are_same(before, now)


def are_same(one: ModuleState, other: ModuleState) -> bool:
    """Whether two states are of the same content."""
    return one.keys() == other.keys() and all(_is_same(other[name], part) for name, part in one.items())


def _is_same(now: Any, before: Any) -> bool:
    return now is before or (type(now) is type(before) and type(now) in (str, _Entries) and now == before)


def _holds(now: Any, before: Any) -> bool:
    return _is_same(now, before) or (type(now) is type(before) is _Entries and before.items() <= now.items())


class _Entries(dict[str, str]):
    """The entries of a mapping, as text."""


def is_library_changed(module: ModuleType, before: ModuleState) -> bool:
    """Whether something that is in `state_of_library` was replaced by code from elsewhere, or by another plain value."""
    holder, top = vars(module), module.__name__.partition(".")[0]
    for name, part in before.items():
        value = holder.get(name[0], _MISSING)
        if len(name) == 2:
            value = vars(value).get(name[1], _MISSING) if issubclass(type(value), type) else _MISSING
        if value is part or value is _MISSING:
            continue
        if type(part) is str:
            if type(value) in _PLAIN and _text(value) != part:
                return True
        elif _package_of(value) != top:
            return True
    return False


def _inner_parts(value: Any, module: str) -> Iterator[tuple[Any, Any]]:
    """The parts of a value that a module holds, by names. No code of the value's class runs: it may import, or warn."""
    kind = type(value)
    if id(value) in _OF_THE_PROCESS:
        return
    if kind in _CONTAINERS:
        yield "content", _content(value)
    elif kind is FunctionType:
        yield from (("code", value.__code__), ("defaults", _text(value.__defaults__)), ("keywords", _text(value.__kwdefaults__)))
        yield from _attributes(vars(value))
    elif issubclass(kind, type):
        if vars(value).get("__module__") == module:
            yield from _attributes(vars(value))
    elif kind is SimpleNamespace or not _is_of_library(kind):
        with contextlib.suppress(AttributeError):
            yield from _attributes(object.__getattribute__(value, "__dict__"))


def _is_of_library(kind: type) -> bool:
    """Whether a class is the standard library's or of an installed one: its objects, such as loggers, change by themselves."""
    name = kind.__dict__.get("__module__", "builtins")
    file = getattr(sys.modules.get(name if isinstance(name, str) else ""), "__file__", None)
    return not isinstance(file, str) or is_installed_file(file) or file.startswith(ENGINE_FOLDER)


def _attributes(attributes: Mapping[str, Any]) -> Iterable[tuple[Any, Any]]:
    for name, part in tuple(attributes.items()):
        if not name.startswith("__") or name == "__call__":
            yield name, part
            if type(part) in _CONTAINERS:
                yield (name, "content"), _content(part)


def _content(container: Any, depth: int = 0) -> str | _Entries:
    """What differs once something in a container, or in one inside of it, is replaced, added or removed."""
    if len(container) > (_MOST_INSIDE if depth else _MOST_ITEMS) or depth > _DEEPEST:
        return f"{id(container)} {len(container)}"
    if isinstance(container, dict):
        return _Entries((_text(key, depth), _text(item, depth)) for key, item in tuple(container.items()))
    texts = [_text(item, depth) for item in tuple(container)]
    return str(sorted(texts) if isinstance(container, set | frozenset) else texts)


def _text(value: Any, depth: int = 0) -> str:
    """Text for a plain value or a container; for another object, which one it is."""
    if type(value) in _PLAIN:
        return repr(value)
    if type(value) in _CONTAINERS:
        return f"{type(value).__name__} {_content(value, depth + 1)}"
    return f"{type(value).__qualname__} {id(value)}"


def _token(value: Any) -> Any:
    """What stands for a value in a state: itself, or the text of a plain one, of which there may be several equal ones."""
    return repr(value) if type(value) in _PLAIN else value


def _package_of(value: Any) -> str:
    """The top-level package that defines a function or class; "" if it is unknown."""
    while isinstance(value, functools.partial):
        value = value.func
    function = value.__func__ if type(value) is MethodType else value
    if type(function) is FunctionType:
        return str(function.__globals__.get("__name__", "")).partition(".")[0]
    name = getattr(value, "__module__", "") if type(value) in _FUNCTIONS or issubclass(type(value), type) else ""
    return str(name or "").partition(".")[0]
