"""Port types: links, returned values, literals and the JSON schema agree because they share one description of each type."""

from __future__ import annotations

import functools
import math
import operator
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import jsonschema
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nodegraph.node_types.literals import LiteralError, coerce
from nodegraph.node_types.port_types import accepts, element_type, fits, has_marks, parse, type_name, without_marks
from nodegraph.plugins.codecs import Codecs
from nodegraph.workflow.editors.json_schema import literal_schema

ROOT = Path(__file__).parents[2]


class Animal:
    pass


class Cat(Animal):
    pass


class Speaks(Protocol):
    voice: str


SCALARS = [str, int, float, bool, type(None), Animal, Cat, object]
CHOICES = ["a", "b", "1", 1, 2, 0, True, False]
choices = st.lists(st.sampled_from(CHOICES), min_size=1, max_size=3).map(lambda values: Literal[tuple(values)])


def union(parts: Iterable[Any]) -> Any:
    return functools.reduce(operator.or_, parts)


def types(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def inside(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.one_of(
            inner.map(lambda item: list[item]),
            inner.map(lambda value: dict[str, value]),
            inner.map(lambda item: tuple[item, ...]),
            st.lists(inner, min_size=1, max_size=3).map(lambda items: tuple[tuple(items)]),
            st.lists(inner, min_size=2, max_size=3).map(union),
            inner.map(lambda part: part | None),
        )

    return st.recursive(leaves, inside, max_leaves=5)


known_types = types(st.one_of(st.sampled_from(SCALARS), choices))
all_types = types(st.one_of(st.sampled_from([*SCALARS, Any, list, dict, tuple, Path]), choices))
yaml_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from([0.5, -1.5, math.pi]), st.sampled_from(["a", "b", "1", ""])
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("ab"), inner, max_size=2)),
    max_leaves=5,
)
python_values = st.recursive(
    st.one_of(yaml_values, st.builds(Animal), st.builds(Cat)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    ),
    max_leaves=4,
)


def type_of(value: Any) -> Any:
    """A type that `value` has, its items included."""
    if isinstance(value, tuple) and value:
        return tuple[tuple(map(type_of, value))]
    if isinstance(value, list) and value:
        return list[union(map(type_of, value))]
    if isinstance(value, dict) and value:
        return dict[str, union(map(type_of, value.values()))]
    return type(value)


def holds_path(kind: Any) -> bool:
    return "Path" in repr(kind)


@settings(max_examples=150, deadline=None)
@given(all_types, python_values)
def test_accepted_literals_fit_their_port(kind, value):
    assume(not holds_path(kind))  # a path stays text until the function gets it
    try:
        found = coerce(kind, value)
    except LiteralError:
        return
    assert fits(kind, found)
    assert fits(kind, coerce(kind, found))


@settings(max_examples=150, deadline=None)
@given(all_types, python_values)
def test_values_of_linked_outputs_fit(kind, value):
    given_type = type_of(value)
    assume(value not in ([], (), {}))  # the item type of an empty container is unknown
    assert fits(given_type, value)
    if "[]" not in repr(value) and "()" not in repr(value) and "{}" not in repr(value) and accepts(kind, given_type):
        assert fits(kind, value)


@settings(max_examples=150, deadline=None)
@given(known_types, known_types, python_values)
def test_output_values_fit_every_linked_input(wanted, given_type, value):
    if accepts(wanted, given_type) and fits(given_type, value):
        assert fits(wanted, value)


@given(all_types)
def test_types_link_to_themselves_and_their_optional(kind):
    assert accepts(kind, kind)
    assert accepts(kind | None, kind)


@settings(max_examples=300, deadline=None)
@given(all_types, yaml_values)
def test_json_schema_allows_accepted_values(kind, value):
    try:
        coerce(kind, value)
    except LiteralError:
        is_taken = False
    else:
        is_taken = True
    schema = {"definitions": {"link": {"type": "string", "pattern": r"^\$\w+$"}}, "anyOf": [False, *literal_schema(kind)]}
    assert jsonschema.Draft7Validator(schema).is_valid(value) == is_taken


@pytest.mark.parametrize(
    ("wanted", "given_type", "expected"),
    [
        (Literal[1], Literal[True], False),
        (tuple[int, int], tuple[int], False),
        (tuple[int, ...], tuple[int, int], True),
        (tuple[int, int], tuple[int, ...], False),
        (Speaks | None, Speaks, True),
        (int, Annotated[int, "mark"], True),
        (None, type(None), True),
    ],
)
def test_links_follow_the_types(wanted, given_type, expected):
    assert accepts(wanted, given_type) == expected


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (tuple[int, int], (1, "a"), False),
        (tuple[int, int], (1,), False),
        (tuple[int, ...], (1, 2, 3), True),
        (dict[str, int], {"a": "b"}, False),
        (list[Literal[1]], [True], False),
        (Speaks, Cat(), True),
        (Speaks, None, False),
    ],
)
def test_values_follow_the_types(kind, value, expected):
    assert fits(kind, value) == expected


def test_unions_keep_their_order():
    assert [type_name(kind) for kind in (int | str, str | int, list[int | str], list[str | int])] == [
        "int or text",
        "text or int",
        "list[int or text]",
        "list[text or int]",
    ]


def test_annotations_are_parsed_once():
    kind = list[int] | None
    assert parse(kind) is parse(kind)
    assert parse(kind).optional
    assert [type_name(part.annotation) for part in parse(kind).required_alternatives] == ["list[int]"]
    assert element_type(kind) is int


def test_markers_are_removed():
    assert without_marks(Annotated[Annotated[int, 1], 2]) == (int, (1, 2))
    assert without_marks(Annotated[int, 1] | None) == (int | None, (1,))
    assert without_marks(int | str) == (int | str, ())
    assert has_marks(list[Annotated[int, 1]])
    assert not has_marks(list[int])


@pytest.mark.parametrize(
    ("kind", "is_stored"),
    [
        (int | None, True),
        (Literal["a", 1], True),
        (list[dict[str, Any]], True),
        (tuple[int, int], False),
        (list[Cat], False),
        (Cat | int, False),
        (Any, False),
        (Speaks, False),
    ],
)
def test_codecs_follow_the_type(kind, is_stored):
    assert (Codecs().for_type(kind) is not None) == is_stored


def test_only_one_module_analyses_types():
    apart = re.compile(r"\bget_origin\b|\bget_args\b|\bUnionType\b|typing\.Union\b|__args__|__origin__")
    folders = (ROOT / "nodegraph", ROOT / "nodes/nodegraph_nodes")
    found = {path.relative_to(ROOT) for folder in folders for path in folder.rglob("*.py") if apart.search(path.read_text("utf-8"))}
    assert found == {Path("nodegraph/node_types/port_types.py")}
