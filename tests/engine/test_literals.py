"""Which literals a port accepts, and how they are converted."""

from __future__ import annotations

import enum
import fractions
import math
import typing
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pytest

from nodegraph.graph.overrides import from_text
from nodegraph.node_types.literals import (
    LiteralError,
    check_range,
    coerce,
    is_plain,
    takes_text,
)
from nodegraph.node_types.port_types import accepts, element_type, member_type, type_name
from nodegraph.node_types.spec import Choice, Port, Range, Reads


class Animal:
    pass


class Cat(Animal):
    pass


class Speaks(Protocol):
    voice: str


class Colour(enum.StrEnum):
    RED = "red"


class Old(str, enum.Enum):  # noqa: UP042
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


@pytest.mark.parametrize(
    ("wanted", "offered"),
    [
        (Animal, Cat),
        (Animal | None, Cat),
        (Animal | None, Cat | None),
        (float, int),
        (int | float, int),
        (Any, Animal),
        (Animal, Any),
        (list, list[int]),
        (list[int], list),
        (list[float], list[int]),
        (list[Animal], list[Cat]),
        (dict[str, Any], dict[str, int]),
        (Literal["a", "b"], Literal["a"]),
        (str, Literal["a"]),
        (str | int, Literal["a", 1]),
        (typing.Optional[int], int),  # noqa: UP045
        (typing.Union[int, str], str),  # noqa: UP007
        (tuple[int, ...], tuple[int, ...]),
        (Speaks, Speaks),
        (Speaks | None, Speaks),
        (object, Cat),
        (int | None, None | int),
    ],
)
def test_matching_links_fit(wanted, offered):
    assert accepts(wanted, offered)


@pytest.mark.parametrize(
    ("wanted", "offered"),
    [
        (Cat, Animal),
        (Animal, Cat | None),
        (int, float),
        (int, bool),
        (float, bool),
        (str, int),
        (list[int], list[str]),
        (list, int),
        (Literal["a"], Literal["a", "b"]),
        (Literal["a"], str),
        (int, Literal["a"]),
        (Speaks, Cat),
        (int | str, float),
        (Cat, "Cat"),
    ],
)
def test_other_links_do_not_fit(wanted, offered):
    assert not accepts(wanted, offered)


@pytest.mark.parametrize(
    ("kind", "value", "comes_to"),
    [
        (float, 3, 3.0),
        (float, np.float64(0.5), 0.5),
        (float, fractions.Fraction(1, 4), 0.25),
        (float, math.inf, math.inf),
        (float, Level.LOW, 1.0),
        (int, np.int64(7), 7),
        (int, Level.LOW, 1),
        (int, -0, 0),
        (int | float, 3, 3),
        (float | int, 3, 3),
        (float | str, 3, 3.0),
        (str, Colour.RED, "red"),
        (str, Old.RED, "red"),
        (str, "", ""),
        (bool, True, True),
        (int | None, None, None),
        (Any, None, None),
        (list[float], [1, 2.5], [1.0, 2.5]),
        (list, (1, "a"), [1, "a"]),
        (list[list[int]], [[np.int8(1)]], [[1]]),
        (list[Any], [Old.RED], ["red"]),
        (tuple[int, int], [1, 2], (1, 2)),
        (tuple[float, ...], [1], (1.0,)),
        (tuple, [1, "a"], (1, "a")),
        (tuple[int, int] | None, [1, 2], (1, 2)),
        (dict[str, float], {"a": 1}, {"a": 1.0}),
        (dict, {"a": [np.float32(0.5)]}, {"a": [0.5]}),
        (Any, {"a": (1,)}, {"a": [1]}),
        (Literal["a", 1], "a", "a"),
        (Literal["a", 1], 1, 1),
        (Path, "a/b", "a/b"),
        (Path, Path("a"), "a"),
        (Path | None, None, None),
        (Animal | None, None, None),
    ],
)
def test_literals_are_converted(kind, value, comes_to):
    found = coerce(kind, value)
    assert found == comes_to
    assert type(found) is type(comes_to)
    if isinstance(comes_to, list | tuple):
        assert list(map(type, found)) == list(map(type, comes_to))


def test_containers_are_copied():
    inner = {"a": [1]}
    found = coerce(Any, [inner])
    inner["a"].append(2)
    assert found == [{"a": [1]}]


def test_objects_are_not_copied():
    cat = Cat()
    assert coerce(Animal, cat) is cat
    assert coerce(Any, cat) is cat
    assert coerce(list[Animal], [cat]) == [cat]


@pytest.mark.parametrize(
    ("kind", "value", "message", "hint"),
    [
        (int, 1.5, "expected a whole number, found 1.5", ""),
        (int, True, "expected a whole number, found true", ""),
        (int, "20", "expected a whole number, found '20'", "Remove the quotes."),
        (int, None, "expected a whole number, found nothing", ""),
        (int | None, "x", "expected a whole number, found 'x'", ""),
        (float, "0.5", "expected a number, found '0.5'", "Remove the quotes."),
        (float, "[", "expected a number, found '['", ""),
        (float, math.nan, "expected a number, found NaN", ""),
        (Any, [math.nan], "expected a number, found NaN", ""),
        (float, 10**400, "expected a number up to 1.8e308, found a larger one", ""),
        (bool, "yes", "expected true or false, found 'yes'", ""),
        (bool, "true", "expected true or false, found 'true'", "Remove the quotes."),
        (bool, 1, "expected true or false, found 1", ""),
        (str, 16, "expected text, found 16", "Put it in quotes."),
        (str, True, "expected text, found true", "Put it in quotes."),
        (str, ["a"], "expected text, found ['a']", ""),
        (str, "a\udcff", r"expected text, found bytes that are not UTF-8 in 'a\udcff'", ""),
        (str, b"a", "expected text, found b'a'", ""),
        (list[int], 3, "expected a list, found 3", ""),
        (list[int], [1, "a"], "expected a whole number, found 'a'", ""),
        (tuple[int, int], [1], "expected a list of 2 items, found 1", ""),
        (dict, [1], "expected a mapping, found [1]", ""),
        (dict, {1: 2}, "expected text as keys of a mapping, found 1", ""),
        (dict[str, int], {"a": "b"}, "expected a whole number, found 'b'", ""),
        (Path, 3, "expected a path, found 3", ""),
        (int | str, [], "expected a whole number or text, found []", ""),
        (Literal["hot", "iced"], "icd", "expected one of 'hot', 'iced'; found 'icd'", "Did you mean 'iced'?"),
        (Literal[1, 2], True, "expected one of 1, 2; found true", ""),
        (Animal, "cat", "expected a link to an output of type Animal, found 'cat'", "Write '$node' or '$node.port'."),
        (Animal | None, 3, "expected a link to an output of type Animal, found 3", "Write '$node' or '$node.port'."),
        (Speaks, 3, "expected a link to an output of type Speaks, found 3", "Write '$node' or '$node.port'."),
        (int, "x" * 100, f"expected a whole number, found '{'x' * 56}...", ""),
    ],
)
def test_wrong_literals_are_errors(kind, value, message, hint):
    with pytest.raises(LiteralError) as caught:
        coerce(kind, value)
    assert (caught.value.message, caught.value.hint, caught.value.code) == (message, hint, "E110")


@pytest.mark.parametrize(
    ("low", "high", "value", "message"),
    [
        (0, 1, 1.5, "expected a value from 0 to 1, found 1.5"),
        (0, 1, -1, "expected a value from 0 to 1, found -1"),
        (1, None, 0, "expected a value of at least 1, found 0"),
        (None, 1.5, 2, "expected a value of at most 1.5, found 2"),
        (0, 1, [0.5, 3], "expected a value from 0 to 1, found 3"),
        (0, 1, math.inf, "expected a value from 0 to 1, found inf"),
    ],
)
def test_ranges_are_enforced(low, high, value, message):
    port = Port("x", Any, range=Range(low, high))
    with pytest.raises(LiteralError) as caught:
        check_range(port, value)
    assert (caught.value.message, caught.value.code) == (message, "E111")


@pytest.mark.parametrize("value", [0, 1, 0.5, None, "text", [0, 1]])
def test_values_within_the_range_are_accepted(value):
    check_range(Port("x", Any, range=Range(0, 1)), value)
    check_range(Port("x", Any), value)


@pytest.mark.parametrize(
    ("port", "text", "value"),
    [
        (Port("x", str), "no", "no"),
        (Port("x", str), "$model", "$model"),
        (Port("x", str), " 3 ", " 3 "),
        (Port("x", str | None), "~", "~"),
        (Port("x", int), "3", 3),
        (Port("x", Any), "no", "no"),
        (Port("x", float), "1e-4", 1e-4),
        (Port("x", bool), "true", True),
        (Port("x", list[int]), "[1, 2]", [1, 2]),
        (Port("x", Literal["1", "2"]), "1", "1"),
        (Port("x", Literal[1, 2]), "1", 1),
        (Port("x", str, choice=Choice("filters")), "123", "123"),
        (Port("x", Path, reads=Reads(lambda t, b: None)), "1", "1"),
        (Port("x", Path), "1", "1"),
        (Port("x", int, seed=True), "random", "random"),
        (Port("x", int | None), "", None),
    ],
)
def test_set_reads_text_by_port_type(port, text, value):
    assert from_text(port, text) == value
    assert type(from_text(port, text)) is type(value)


def test_set_refuses_malformed_yaml():
    with pytest.raises(LiteralError, match="not well-formed YAML: while parsing a flow sequence"):
        from_text(Port("x", list[int]), "[1, 2")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (str, "text"),
        (int, "int"),
        (Path, "path"),
        (Any, "anything"),
        (Animal, "Animal"),
        (int | None, "int or nothing"),
        (list[str], "list[text]"),
        (dict[str, float], "dict[text, float]"),
        (tuple[int, ...], "tuple[int, ...]"),
        (Literal["a", 1], "one of 'a', 1"),
        (typing.Optional[Cat], "Cat or nothing"),  # noqa: UP045
    ],
)
def test_types_have_readable_names(kind, name):
    assert type_name(kind) == name


def test_plain_and_text_ports_are_recognised():
    assert takes_text(Port("x", str | None))
    assert takes_text(Port("x", Literal["a"] | None))
    assert not takes_text(Port("x", str | int))
    assert not takes_text(Port("x", Any))
    for kind in (str, int, float, bool, list[int], dict, Any, int | None, Literal[1], Path):
        assert is_plain(Port("x", kind)), kind
    for kind in (Animal, Animal | None):
        assert not is_plain(Port("x", kind)), kind


def test_item_types_of_lists_and_mappings():
    assert element_type(list[int]) is int
    assert element_type(list[int] | None) is int
    assert element_type(list) is Any
    assert element_type(int) is None
    assert member_type(dict[str, float]) is float
    assert member_type(Any) is Any
    assert member_type(str) is None
