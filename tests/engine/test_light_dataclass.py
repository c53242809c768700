"""Our dataclasses behave as those of the standard library do."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import re
from collections.abc import Callable
from dataclasses import KW_ONLY, FrozenInstanceError, asdict, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import pytest

from nodegraph.light_dataclass import dataclass

T = TypeVar("T")
Decorate = Callable[..., Any]


def plain(decorate: Decorate) -> Any:
    @decorate
    class Plain:
        name: str
        sizes: list[int] = field(default_factory=list)
        limit: float = 1.5
        shared: ClassVar[int] = 3

    return Plain


def frozen(decorate: Decorate) -> Any:
    @decorate(frozen=True)
    class Frozen:
        name: str
        size: int = 2
        _: KW_ONLY
        help: str = ""
        note: str = field(default="", compare=False, repr=False)
        weight: int = field(default=0, hash=False)

    return Frozen


def by_name(decorate: Decorate) -> Any:
    @decorate(frozen=True, kw_only=True)
    class ByName:
        size: int = 4
        name: str
        parts: dict[str, int] = field(default_factory=dict, hash=False)

    return ByName


def silent(decorate: Decorate) -> Any:
    @decorate(eq=False, repr=False)
    class Silent:
        name: str
        size: int = 1

        def __repr__(self) -> str:
            return f"<Silent {self.name}>"

    return Silent


def own_methods(decorate: Decorate) -> Any:
    @decorate(frozen=True)
    class Own:
        name: str

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 7

        def __repr__(self) -> str:
            return "own"

    return Own


def own_eq(decorate: Decorate) -> Any:
    @decorate(frozen=True)
    class OwnEq:
        name: str

        def __eq__(self, other: object) -> bool:
            return isinstance(other, OwnEq)

    return OwnEq


def own_init(decorate: Decorate) -> Any:
    @decorate
    class OwnInit:
        name: str

        def __init__(self, name: str) -> None:
            self.name = name.upper()

    return OwnInit


def derived(decorate: Decorate) -> Any:
    @decorate(frozen=True)
    class Base(Generic[T]):
        name: str
        size: int = field(init=False, default=5)
        double: int = field(init=False, default_factory=lambda: 8)

    @decorate(frozen=True)
    class Derived(Base[int]):
        more: T | None = None  # type: ignore[valid-type]

        def __post_init__(self) -> None:
            object.__setattr__(self, "size", len(self.name))

    return Derived


def empty(decorate: Decorate) -> Any:
    @decorate
    class Empty:
        pass

    return Empty


def slotted(decorate: Decorate) -> Any:
    @decorate(frozen=True, slots=True)
    class Slotted:
        name: str
        size: int = 2

    return Slotted


KINDS = [plain, frozen, by_name, silent, own_methods, own_eq, own_init, derived, empty, slotted]
CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}),
    (("a",), {}),
    (("b",), {}),
    (("a", 2), {}),
    (("a", 2, 3), {}),
    (("a", 2, 3, 4), {}),
    ((), {"name": "a"}),
    (("a",), {"name": "a"}),
    (("a",), {"help": "x", "note": "y"}),
    (("a",), {"help": "x", "weight": 3}),
    ((), {"name": "a", "parts": {"x": 1}}),
    ((), {"name": "a", "size": 3}),
    (("a",), {"unknown": 1}),
]


def outcome(call: Callable[[], Any]) -> str:
    """What a call returns or raises, as text without addresses."""
    try:
        text = repr(call())
    except (TypeError, FrozenInstanceError, AttributeError) as error:
        text = f"{type(error).__name__}: {error}"
    return re.sub(r" at 0x\w+", "", text)


def made(kind: Any) -> list[Any]:
    objects = []
    for arguments, values in CALLS:
        try:
            objects.append(kind(*arguments, **values))
        except TypeError:
            objects.append(None)
    return objects


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_objects_are_those_of_the_standard_library(kind: Callable[[Decorate], Any]) -> None:
    ours, theirs = kind(dataclass), kind(dataclasses.dataclass)
    for arguments, values in CALLS:
        assert outcome(lambda: ours(*arguments, **values)) == outcome(lambda: theirs(*arguments, **values))  # noqa: B023
    one, other = made(ours), made(theirs)
    assert [each is None for each in one] == [each is None for each in other]
    assert any(each is not None for each in one)
    equal = [[a == b for b in one] for a in one]
    assert equal == [[a == b for b in other] for a in other]
    assert (ours.__hash__ is None) == (theirs.__hash__ is None)
    if ours.__hash__ is not None and "eq=False" not in inspect.getsource(kind):
        assert [outcome(lambda: hash(a)) for a in one if a] == [outcome(lambda: hash(a)) for a in other if a]  # noqa: B023
    for a, b in zip(one, other, strict=True):
        if a is None:
            continue
        assert vars_of(a) == vars_of(b)
        assert asdict(a) == asdict(b)
        for name in [each.name for each in fields(b)] + ["strange"]:
            assert outcome(lambda: setattr(copy.copy(a), name, 1)) == outcome(lambda: setattr(copy.copy(b), name, 1))  # noqa: B023
            assert outcome(lambda: delattr(copy.copy(a), name)) == outcome(lambda: delattr(copy.copy(b), name))  # noqa: B023
        assert outcome(lambda: replace(a, name="new")) == outcome(lambda: replace(b, name="new"))  # noqa: B023
    assert ours.__match_args__ == theirs.__match_args__


def vars_of(thing: Any) -> dict[str, Any]:
    return {each.name: getattr(thing, each.name) for each in fields(thing)}


@dataclass(frozen=True, eq=True)
class Known:
    """A class that pickle finds."""

    name: str
    path: Path = Path("x")


STANDARD = dataclasses.dataclass


@pytest.mark.parametrize("base", [dataclass, STANDARD])
@pytest.mark.parametrize("extending", [dataclass, STANDARD])
@pytest.mark.parametrize("is_frozen", [True, False])
def test_dataclasses_of_both_kinds_extend_each_other(base: Decorate, extending: Decorate, is_frozen: bool) -> None:
    @base(frozen=is_frozen)
    class Shape:
        name: str
        sides: int = 4

    @extending(frozen=is_frozen)
    class Box(Shape):
        depth: int = 1

    box = Box("crate", depth=3)
    assert (repr(box).rsplit(".", 1)[1], box) == ("Box(name='crate', sides=4, depth=3)", replace(Box("crate"), depth=3))
    assert asdict(box) == {"name": "crate", "sides": 4, "depth": 3}
    if is_frozen:
        assert hash(box) == hash(Box("crate", depth=3))
        for name in ("name", "depth"):
            with pytest.raises(FrozenInstanceError):
                setattr(box, name, 5)
    else:
        box.sides = 5  # type: ignore[misc]
        assert box.sides == 5


@pytest.mark.parametrize("base", [dataclass, STANDARD])
@pytest.mark.parametrize("extending", [dataclass, STANDARD])
@pytest.mark.parametrize("is_frozen", [True, False])
def test_only_one_of_them_cannot_be_frozen(base: Decorate, extending: Decorate, is_frozen: bool) -> None:
    @base(frozen=is_frozen)
    class Shape:
        name: str

    class Box(Shape):
        depth: int = 1

    with pytest.raises(TypeError, match="cannot inherit"):
        extending(frozen=not is_frozen)(Box)


def test_objects_can_be_copied_and_sent() -> None:
    value = Known("a")
    assert pickle.loads(pickle.dumps(value)) == copy.deepcopy(value) == value
    match value:
        case Known(name, path):
            assert (name, path) == ("a", Path("x"))


def test_class_itself_can_be_asked_before_an_object_is_made() -> None:
    kind = frozen(dataclass)
    assert [each.name for each in fields(kind)] == ["name", "size", "help", "note", "weight"]
    assert kind.size == 2


def test_init_is_compiled_once() -> None:
    kind = plain(dataclass)
    before = kind.__init__
    kind("a")
    first = kind.__init__
    kind("b")
    assert before is not first
    assert kind.__init__ is first
    before(kind.__new__(kind), "c")  # another thread may have fetched it before
    assert kind.__init__ is first
