"""Dataclasses that are imported ten times as fast as those of the standard library.

`dataclasses.dataclass` compiles up to seven methods for each class, which takes about a millisecond: a quarter of a cached run.
`dataclass` here is used in the same way, and the class behaves in the same way, but only its `__init__` is compiled, when the
first object is made.
"""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

__all__ = ["dataclass"]

Fields = tuple[dataclasses.Field[Any], ...]

_MADE: Final = object()  # the default of a parameter whose field has a default factory

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(cls=None, /, *, repr=True, eq=True, frozen=False, kw_only=False, slots=False):
        """As `dataclasses.dataclass`."""
        if cls is None:
            return lambda cls: dataclass(cls, repr=repr, eq=eq, frozen=frozen, kw_only=kw_only, slots=slots)
        if slots:  # needs another class
            return dataclasses.dataclass(repr=repr, eq=eq, frozen=frozen, kw_only=kw_only, slots=slots)(cls)
        if cls.__doc__ is None:
            cls.__doc__ = cls.__name__  # the library would write the signature, which takes long
        extends_another = any(map(dataclasses.is_dataclass, cls.__mro__[1:]))  # then the library checks that both are frozen
        dataclasses.dataclass(init=False, repr=False, eq=False, kw_only=kw_only, frozen=frozen and extends_another)(cls)
        made = cls.__dataclass_params__  # which the library reads when a dataclass extends this one
        made.init, made.repr, made.eq, made.frozen = True, repr, eq, frozen
        _add_methods(cls, dataclasses.fields(cls), has_repr=repr, has_eq=eq, is_frozen=frozen)
        return cls


def _add_methods(cls: Any, fields: Fields, *, has_repr: bool, has_eq: bool, is_frozen: bool) -> None:
    """Give a class the methods of a dataclass, except those that it has itself."""
    own = set(vars(cls))
    methods: dict[str, Any] = {"__init__": _init(cls, fields, is_frozen)}
    if has_repr:
        methods["__repr__"] = _repr([field.name for field in fields if field.repr])
    if has_eq:
        methods["__eq__"] = _eq(_values([field.name for field in fields if field.compare]))
        is_hashed = [field.name for field in fields if (field.compare if field.hash is None else field.hash)]
        methods["__hash__"] = _hash(_values(is_hashed)) if is_frozen else None
    if is_frozen:
        names = frozenset(field.name for field in fields)
        methods["__setattr__"], methods["__delattr__"] = _refuse_set(cls, names), _refuse_delete(cls, names)
    if "__eq__" in own and vars(cls).get("__hash__") is None:
        own.discard("__hash__")  # Python itself writes `__hash__ = None` beside `__eq__`
    for name, method in methods.items():
        if name not in own:
            if method is not None:
                method.__qualname__ = f"{cls.__qualname__}.{name}"
            setattr(cls, name, method)


def _init(cls: Any, fields: Fields, is_frozen: bool) -> Callable[..., None]:
    def __init__(self: Any, *args: Any, **values: Any) -> None:
        if vars(cls).get("__init__") is __init__:
            cls.__init__ = _compiled_init(cls, fields, is_frozen)
        cls.__init__(self, *args, **values)

    return __init__


def _compiled_init(cls: Any, fields: Fields, is_frozen: bool) -> Callable[..., None]:
    """The `__init__` that the standard library would give to a dataclass with these fields."""
    known: dict[str, Any] = {"_MADE": _MADE, "_set": object.__setattr__}
    lines = []
    for field in fields:
        value = field.name
        if field.default_factory is not dataclasses.MISSING:
            known[f"_make_{field.name}"] = field.default_factory
            value = f"_make_{field.name}() if {value} is _MADE else {value}" if field.init else f"_make_{field.name}()"
        elif not field.init:
            continue
        elif field.default is not dataclasses.MISSING:
            known[f"_default_{field.name}"] = field.default
        lines.append(f"_set(_self, '{field.name}', {value})" if is_frozen else f"_self.{field.name} = {value}")
    if hasattr(cls, "__post_init__"):
        lines.append("_self.__post_init__()")
    by_position = [_parameter(field) for field in fields if field.init and not field.kw_only]
    by_name = [_parameter(field) for field in fields if field.init and field.kw_only]
    parameters = ", ".join(["_self", *by_position, *(["*", *by_name] if by_name else [])])
    exec(f"def __init__({parameters}):\n    " + "\n    ".join(lines or ["pass"]), known)
    made: Callable[..., None] = known["__init__"]
    made.__qualname__, made.__module__ = f"{cls.__qualname__}.__init__", cls.__module__
    made.__annotations__ = {field.name: field.type for field in fields if field.init} | {"return": None}
    return made


def _parameter(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return f"{field.name}=_MADE"
    return field.name if field.default is dataclasses.MISSING else f"{field.name}=_default_{field.name}"


def _values(names: Iterable[str]) -> Callable[[Any], tuple[Any, ...]]:
    """A function that returns these attributes of an object."""
    names = tuple(names)
    if len(names) > 1:
        return attrgetter(*names)
    return lambda self: tuple(getattr(self, name) for name in names)


def _repr(names: Iterable[str]) -> Callable[[Any], str]:
    names = tuple(names)

    @reprlib.recursive_repr()
    def __repr__(self: Any) -> str:
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    return __repr__


def _eq(values: Callable[[Any], tuple[Any, ...]]) -> Callable[[Any, Any], bool]:
    def __eq__(self: Any, other: Any) -> bool:
        return values(self) == values(other) if type(other) is type(self) else NotImplemented

    return __eq__


def _hash(values: Callable[[Any], tuple[Any, ...]]) -> Callable[[Any], int]:
    def __hash__(self: Any) -> int:
        return hash(values(self))

    return __hash__


def _refuse_set(cls: Any, names: frozenset[str]) -> Callable[[Any, str, Any], None]:
    def __setattr__(self: Any, name: str, value: Any) -> None:
        if type(self) is cls or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
        super(cls, self).__setattr__(name, value)

    return __setattr__


def _refuse_delete(cls: Any, names: frozenset[str]) -> Callable[[Any, str], None]:
    def __delattr__(self: Any, name: str) -> None:
        if type(self) is cls or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
        super(cls, self).__delattr__(name)

    return __delattr__
