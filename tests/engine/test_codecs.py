"""The codec of each type, and exact JSON."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, TypedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodegraph import PluginError
from nodegraph.plugins.codecs import Codecs, JSONCodec
from nodegraph.plugins.registry import Origin

json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(exclude_categories=["Cs"])),
    ),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=10,
)


class Pot:
    pass


class Teapot(Pot):
    pass


class PotCodec(JSONCodec):
    name = "pot"


class Kept(TypedDict):
    a: int


class Pair(NamedTuple):
    a: int
    b: int


@pytest.fixture
def codec() -> JSONCodec:
    return JSONCodec()


@pytest.fixture
def codecs() -> Codecs:
    codecs = Codecs()
    codecs.add(Pot, PotCodec(), Origin("pots", "1", place="here"))
    return codecs


@settings(max_examples=40, deadline=None)
@given(json_values)
def test_json_is_restored_exactly(tmp_path_factory, value):
    codec = JSONCodec()
    path = tmp_path_factory.getbasetemp() / "value.json"
    assert codec.check(value) is None
    codec.save(value, path)
    again = codec.load(path)
    assert again == value
    assert repr(again) == repr(value) or isinstance(value, dict | list)
    assert codec.digest(again) == codec.digest(value)
    assert codec.size(value) == path.stat().st_size


@settings(max_examples=40, deadline=None)
@given(json_values, json_values)
def test_equal_digests_mean_equal_values(a, b):
    codec = JSONCodec()
    if codec.digest(a) == codec.digest(b):
        assert a == b


@pytest.mark.parametrize(
    ("a", "b"), [(1, 1.0), (1, True), (0, False), (None, "null"), ("1", 1), ([], {}), (0.0, -0.0), ("é", "e\u0301")]
)
def test_digests_distinguish_types(codec, a, b):
    assert codec.digest(a) != codec.digest(b)


def test_digests_ignore_the_order_of_names(codec):
    assert codec.digest({"a": 1, "b": 2}) == codec.digest({"b": 2, "a": 1})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (math.nan, "it cannot be written as JSON (Out of range float values are not JSON compliant"),
        ([math.inf], "it cannot be written as JSON (Out of range float values are not JSON compliant"),
        ({1, 2}, "it cannot be written as JSON (Object of type set is not JSON serializable"),
        (Pot(), "it cannot be written as JSON (Object of type Pot is not JSON serializable"),
        ("\ud800", "it cannot be written as JSON ('utf-8' codec can't encode"),
        ((1, 2), "JSON would change it (tuples, and keys that are not text, do not survive)"),
        ([Pair(1, 2)], "JSON would change it (tuples, and keys that are not text, do not survive)"),
        ({1: 2}, "JSON would change it (tuples, and keys that are not text, do not survive)"),
    ],
)
def test_values_outside_json_are_errors(codec, value, message):
    assert str(codec.check(value)).startswith(message)


def test_endless_values_are_errors(codec):
    endless: list[Any] = []
    endless.append(endless)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert "Circular reference" in str(codec.check(endless))
    assert "recursion" in str(codec.check(deep))
    while deep:  # so that freeing it does not recurse
        deep = deep[0]


def test_exported_json_is_readable(codec):
    (data,) = codec.export({"name": "家", "n": [1]})
    assert data.decode() == '{\n  "name": "家",\n  "n": [\n    1\n  ]\n}\n'
    assert codec.embed(data, {"nodegraph": "..."}) is data


@pytest.mark.parametrize(
    "kind",
    [
        *(int, float, str, bool, list, dict, type(None), int | None, str | None, int | str, float | int | None, Literal["a", 1]),
        *(list[int], list[list[str]], list[Any], dict[str, Any], dict[str, list[int | None]], Kept),
    ],
)
def test_plain_types_use_json(codecs, kind):
    assert codecs.for_type(kind) is codecs.by_name("json")


@pytest.mark.parametrize("kind", [Any, object, bytes, set, list[bytes], dict[str, Pot], int | bytes, Pot | int, list[Pot | int]])
def test_other_types_have_no_codec(codecs, kind):
    assert codecs.for_type(kind) is None


@pytest.mark.parametrize("kind", [list[Pot], list[Pot | None], list[Pot] | None])
def test_a_list_has_the_codec_of_its_items(codecs, kind):
    codec = codecs.for_type(kind)
    assert (codec.name, codec.extension) == ("list of pot", codecs.by_name("pot").extension)
    assert codecs.for_type(list[kind]).item is codec
    assert codecs.by_stored_name(codecs.stored_name(codec)) is codec
    assert codecs.by_stored_name("list of nothing 0123456789abcdef") is None


def test_codec_serves_a_type_and_its_subtypes(codecs):
    pot = codecs.by_name("pot")
    assert pot is not None
    for kind in (Pot, Teapot, Pot | None, Pot | Teapot):
        assert codecs.for_type(kind) is pot
    assert codecs.by_name("unknown") is None


def test_one_codec_can_serve_several_types(codecs):
    codec = codecs.by_name("pot")
    codecs.add(set, codec, Origin("pots", "1"))
    assert codecs.for_type(set[int]) is codec


@pytest.mark.parametrize(
    ("kind", "codec", "message"),
    [
        (Pot, PotCodec(), "[E301] plugin 'mine' (there) registers a codec for Pot, which has one from 'pots'. Remove one"),
        (int, PotCodec(), "[E301] plugin 'mine' (there) registers a codec for int, which has one from 'nodegraph'. Remove one"),
        (
            bytes,
            PotCodec(),
            "[E301] plugin 'mine' (there) registers a codec called 'pot' for bytes; 'pots' has one for Pot. Rename one",
        ),
        (
            "Pot",
            PotCodec(),
            "[E302] plugin 'mine' (there) registers a codec for 'Pot', which is not a class. Expected register(type, codec)",
        ),
    ],
)
def test_clashing_codecs_are_both_named(codecs, kind, codec, message):
    with pytest.raises(PluginError) as caught:
        codecs.add(kind, codec, Origin("mine", "1", place="there"))
    assert str(caught.value) == message
