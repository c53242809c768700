"""Port types, taken apart once. This is the only module that knows unions, optionals, lists and `Annotated`.

It is also the only place where a type becomes text. `parse` describes an annotation as a `PortType`. What can be linked
(`accepts`), what a node may return (`fits`), which literals a port takes (`literals.coerce`), the schema for editors
(`workflow.editors.json_schema`) and what can be stored (`plugins.codecs`) all follow from that description.
"""

from __future__ import annotations

import copy
import types
import typing
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final

from nodegraph.text import described


class PortType:
    """The base class of all port types. `annotation` is what the type was parsed from.

    These are plain classes: as eight dataclasses they would take 2 % of the start-up time.
    """

    def __init__(self, annotation: Any) -> None:
        self.annotation = annotation

    @property
    def alternatives(self) -> tuple[PortType, ...]:
        """The types that a value can have: the parts of a union, or the type itself."""
        return (self,)

    @cached_property
    def required_alternatives(self) -> tuple[PortType, ...]:
        """The types that a value can have, without None."""
        return tuple(part for part in self.alternatives if not is_none(part))

    @cached_property
    def optional(self) -> bool:
        """Whether None is a value of the type."""
        return any(is_none(part) for part in self.alternatives)


class AnyType(PortType):
    """`Any`: every value, and every link."""


class Union(PortType):
    """`X | Y`, `Optional[X]`."""

    def __init__(self, annotation: Any, parts: tuple[PortType, ...]) -> None:
        super().__init__(annotation)
        self.parts = parts

    @property
    def alternatives(self) -> tuple[PortType, ...]:
        return self.parts


class Choices(PortType):
    """`Literal[...]`: one of these values."""

    def __init__(self, annotation: Any, values: tuple[Any, ...]) -> None:
        super().__init__(annotation)
        self.values = values

    def contains(self, value: Any) -> bool:
        """Whether `value` is one of the choices; 1, 1.0 and True are different."""
        return any(type(choice) is type(value) and choice == value for choice in self.values)


class Class(PortType):
    """A class. For `X[Y]`, `cls` is X and `arguments` are (Y,); the subclasses below know what their arguments mean."""

    def __init__(self, annotation: Any, cls: Any, arguments: tuple[PortType, ...] = ()) -> None:
        super().__init__(annotation)
        self.cls, self.arguments = cls, arguments


class List(Class):
    """`list[X]`, or `list`."""

    @property
    def item(self) -> PortType:
        return self.arguments[0] if self.arguments else ANY


class Mapping(Class):
    """`dict[str, X]`, or `dict`. The type of the keys is not checked: a workflow file has text only."""

    @property
    def value(self) -> PortType:
        return self.arguments[1] if len(self.arguments) == 2 else ANY


class Tuple(Class):
    """`tuple[X, Y]`, `tuple[X, ...]` (`repeated`), or `tuple`."""

    def __init__(self, annotation: Any, cls: Any, arguments: tuple[PortType, ...] = (), *, repeated: bool = False) -> None:
        super().__init__(annotation, cls, arguments)
        self.repeated = repeated

    @property
    def length(self) -> int | None:
        """The number of items; None if it can vary."""
        return None if self.repeated or not self.arguments else len(self.arguments)

    def item(self, index: int) -> PortType:
        return self.arguments[0 if self.repeated else index] if self.arguments else ANY


ANY: Final = AnyType(Any)
_NONE: Final = type(None)
_WORDS: Final = {
    str: ("text", "text"),
    int: ("int", "a whole number"),
    float: ("float", "a number"),
    bool: ("bool", "true or false"),
    list: ("list", "a list"),
    tuple: ("tuple", "a list"),
    dict: ("dict", "a mapping"),
    Path: ("path", "a path"),
    _NONE: ("nothing", "nothing"),
}
"""For the classes whose values a person writes down: the name of the class, and what a message expects."""

_MOST_PARSED: Final = 10_000
_parsed: dict[int, PortType] = {}  # by the annotation's id; each PortType keeps its annotation, and so the id


def parse(annotation: Any) -> PortType:
    """The port type that `annotation` describes. Parsed once for each annotation object."""
    found = _parsed.get(id(annotation))
    if found is not None:
        return found
    if len(_parsed) >= _MOST_PARSED:  # annotations that are made again and again
        _parsed.clear()
    return _parsed.setdefault(id(annotation), _parse(annotation))


def _parse(annotation: Any) -> PortType:
    if annotation is Any:
        return ANY
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        marked = copy.copy(parse(arguments[0]))
        marked.annotation = annotation
        return marked
    if origin in (typing.Union, types.UnionType):
        return Union(annotation, tuple(map(parse, arguments)))
    if origin is typing.Literal:
        return Choices(annotation, arguments)
    cls = _NONE if annotation is None else origin or annotation
    if cls is tuple:
        repeated = len(arguments) == 2 and arguments[1] is Ellipsis
        return Tuple(annotation, cls, tuple(map(parse, arguments[:1] if repeated else arguments)), repeated=repeated)
    kind = List if cls is list else Mapping if cls is dict else Class
    return kind(annotation, cls, tuple(map(parse, arguments)))


def is_none(port_type: PortType) -> bool:
    """Whether None is the only value of the type."""
    return isinstance(port_type, Class) and port_type.cls is _NONE


def is_written(port_type: PortType) -> bool:
    """Whether a person writes down the values of the type; those of other classes come through links."""
    return not isinstance(port_type, Class) or port_type.cls in _WORDS


def type_name(annotation: Any) -> str:
    """A port type as messages and listings show it, such as `list[text]` or `float or nothing`."""
    return _name(parse(annotation))


def expected(port_type: PortType) -> str:
    """What a message expects of a value of this type, such as `a whole number` or `one of 'left', 'right'`."""
    word = _WORDS.get(port_type.cls) if isinstance(port_type, Class) else None
    return word[1] if word else _name(port_type)


def _name(port_type: PortType) -> str:
    if isinstance(port_type, AnyType):
        return "anything"
    if isinstance(port_type, Union):
        return " or ".join(map(_name, port_type.parts))
    if isinstance(port_type, Choices):
        return "one of " + ", ".join(map(described, port_type.values))
    assert isinstance(port_type, Class)
    word = _WORDS.get(port_type.cls)
    name = word[0] if word else str(getattr(port_type.cls, "__name__", port_type.cls))
    arguments = [*map(_name, port_type.arguments)]
    if isinstance(port_type, Tuple) and port_type.repeated:
        arguments.append("...")
    return f"{name}[{', '.join(arguments)}]" if arguments else name


# --- links: types of inputs and outputs


def accepts(wanted: Any, offered: Any) -> bool:
    """Whether an output of type `offered` may be linked to an input of type `wanted`."""
    return wanted is offered or _accepts(parse(wanted), parse(offered))


def _accepts(wanted: PortType, offered: PortType) -> bool:
    if isinstance(wanted, AnyType) or isinstance(offered, AnyType):
        return True
    if isinstance(offered, Union):
        return all(_accepts(wanted, part) for part in offered.parts)
    if isinstance(offered, Choices):
        return all(_accepts_choice(wanted, value) for value in offered.values)
    if isinstance(wanted, Union):
        return any(_accepts(part, offered) for part in wanted.parts)
    if not (isinstance(wanted, Class) and isinstance(offered, Class)):
        return False  # an output of any text may be none of the choices
    if wanted.cls is float and offered.cls is int:
        return True
    if wanted.cls is int and offered.cls is bool:
        return False
    try:
        if not issubclass(offered.cls, wanted.cls):
            return False
    except TypeError:  # not a class, or a protocol that cannot be checked
        return bool(wanted.annotation == offered.annotation)
    return _accepts_arguments(wanted, offered)


def _accepts_choice(wanted: PortType, value: Any) -> bool:
    if isinstance(wanted, Union):
        return any(_accepts_choice(part, value) for part in wanted.parts)
    return wanted.contains(value) if isinstance(wanted, Choices) else _accepts(wanted, parse(type(value)))


def _accepts_arguments(wanted: Class, offered: Class) -> bool:
    if not wanted.arguments or not offered.arguments:
        return True  # what a bare list holds is unknown
    if isinstance(wanted, Tuple) and isinstance(offered, Tuple):
        if wanted.repeated:
            return all(_accepts(wanted.arguments[0], item) for item in offered.arguments)
        if offered.length != wanted.length:
            return False
    return all(map(_accepts, wanted.arguments, offered.arguments))


# --- values


def fits(annotation: Any, value: Any) -> bool:
    """Whether `value` is of a port type. A whole number is a float; a boolean is not a number."""
    return annotation is type(value) or value_fits(parse(annotation), value)


def value_fits(port_type: PortType, value: Any) -> bool:
    """Whether `value` is of this port type, its items included."""
    if isinstance(port_type, AnyType):
        return True
    if isinstance(port_type, Union):
        return (value is None and port_type.optional) or any(value_fits(part, value) for part in port_type.parts)
    if isinstance(port_type, Choices):
        return port_type.contains(value)
    assert isinstance(port_type, Class)
    if isinstance(value, bool) and port_type.cls in (int, float):
        return False
    if port_type.cls is float and isinstance(value, int):
        return True
    try:
        if not isinstance(value, port_type.cls):
            return False
    except TypeError:  # a protocol that cannot be checked
        return value is not None
    if not port_type.arguments:
        return True
    if isinstance(port_type, List):
        return all(value_fits(port_type.item, item) for item in value)
    if isinstance(port_type, Mapping):
        return all(value_fits(port_type.value, item) for item in value.values())
    if isinstance(port_type, Tuple):
        has_length = port_type.length in (None, len(value))
        return has_length and all(value_fits(port_type.item(index), item) for index, item in enumerate(value))
    return True


# --- parts


def element_type(annotation: Any) -> Any:
    """The type of the items of a list type; None for a type without lists."""
    for part in parse(annotation).alternatives:
        if isinstance(part, AnyType | List):
            return Any if isinstance(part, AnyType) else part.item.annotation
    return None


def member_type(annotation: Any) -> Any:
    """The type of the values of a mapping type; None for a type without mappings."""
    for part in parse(annotation).alternatives:
        if isinstance(part, AnyType | Mapping):
            return Any if isinstance(part, AnyType) else part.value.annotation
    return None


def without_marks(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """The type in `Annotated[X, ...]`, and its marks. `Annotated[X, ...] | None` is `X | None` with the marks of X."""
    if type(hint) is type:  # a plain class, as most are
        return hint, ()
    if typing.get_origin(hint) is Annotated:
        inner, *marks = typing.get_args(hint)
        bare, inner_marks = without_marks(inner)
        return bare, (*inner_marks, *marks)
    port_type = parse(hint)
    if isinstance(port_type, Union) and port_type.optional and len(port_type.required_alternatives) == 1:
        bare, marks_inside = without_marks(port_type.required_alternatives[0].annotation)
        return bare | None, marks_inside
    return hint, ()


def has_marks(hint: Any) -> bool:
    """Whether `Annotated` is anywhere in the type."""
    return type(hint) is not type and (typing.get_origin(hint) is Annotated or any(map(has_marks, typing.get_args(hint))))
