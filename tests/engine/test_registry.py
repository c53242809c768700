"""Registries: unique names, aliases and suggestions."""

from __future__ import annotations

import pytest

from nodegraph import PluginError
from nodegraph.plugins.registry import Entry, Origin, Registry
from nodegraph.text import did_you_mean


@pytest.fixture
def filters() -> Registry[int]:
    registry: Registry[int] = Registry("filters")
    registry.add(Entry("blur", 1, Origin("first", "1.0", place="/plugins/first.py")))
    registry.add(Entry("Edges", 2, Origin("second", "2.0"), meta={"strength": "strong"}))
    return registry


def test_names_are_sorted_and_found(filters):
    assert filters.names() == ["Edges", "blur"]
    assert [entry.value for entry in filters.entries()] == [2, 1]
    assert len(filters) == 2
    assert "blur" in filters
    assert "Blur" not in filters
    assert filters.get("Edges").meta == {"strength": "strong"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("blru", "there is no filter 'blru'. Did you mean 'blur'?"),
        ("EDGES", "there is no filter 'EDGES'. Did you mean 'Edges'?"),
        ("invert", "there is no filter 'invert'. 'nodegraph filters' lists them."),
        ("", "there is no filter ''. 'nodegraph filters' lists them."),
    ],
)
def test_unknown_name_gets_suggestions(filters, name, message):
    with pytest.raises(KeyError) as caught:
        filters.get(name)
    assert caught.value.args == (message,)


def test_double_registration_names_both_plugins(filters):
    with pytest.raises(PluginError) as caught:
        filters.add(Entry("blur", 3, Origin("mine", "0", place="/home/mine.py")))
    assert str(caught.value) == (
        "[E301] two plugins register the filter 'blur': 'first' (/plugins/first.py) "
        "and 'mine' (/home/mine.py). Rename or remove one"
    )
    assert filters.get("blur").value == 1


def test_double_registration_in_one_plugin_is_its_error(filters):
    with pytest.raises(PluginError, match=r"plugin 'first' \(/plugins/first.py\) registers the filter 'blur' twice"):
        filters.add(Entry("blur", 3, Origin("first", "1.0", place="/plugins/first.py")))


def test_entries_are_found_by_aliases():
    registry: Registry[int] = Registry("filters")
    registry.add(Entry("blur", 1, Origin("first", "1.0", place="/plugins/first.py"), aliases=("Small blur",)))
    assert registry.get("Small blur").name == "blur"
    assert "Small blur" in registry
    assert registry.names() == ["blur"]
    assert registry.suggest("small blu") == "Did you mean 'Small blur'?"
    for clash in (Entry("Small blur", 2, Origin("third", "1.0")), Entry("other", 2, Origin("third", "1.0"), aliases=("blur",))):
        with pytest.raises(PluginError, match="two plugins register"):
            registry.add(clash)
    assert len(registry) == 1


def test_foreign_names_suggest_our_entries(filters):
    filters.add(Entry("flip", 3, Origin("mine", "0"), foreign_names=("Transform", "Mirror")))
    filters.add(Entry("crop", 4, Origin("mine", "0"), foreign_names=("Transform",)))
    assert filters.suggest("Mirror") == "Use 'flip' instead."
    assert filters.suggest("Transform") == "Use 'crop' or 'flip' instead."
    assert "Mirror" not in filters


@pytest.mark.parametrize("name", ["", " ", 3, None, len])
def test_invalid_names_are_refused(filters, name):
    with pytest.raises(PluginError, match=r"\[E302\] plugin 'mine' \(there\), filters: .* is not a name"):
        filters.add(Entry(name, 3, Origin("mine", "0", place="there")))


def test_origin_identifies_the_code():
    assert Origin("pack", "1.2").identity == "pack 1.2"
    assert Origin("pack", "1.2", "abc").identity == "pack abc"


def test_suggestions_ignore_case_and_need_similarity():
    assert did_you_mean("Seed", ["seed", "steps"]) == "Did you mean 'seed'?"
    assert did_you_mean("x", ["seed"]) == ""
    assert did_you_mean("x", []) == ""


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("small model with noise", "small model"),  # not 'small model with masks', which is spelt nearly alike
        ("SMALL MODEL weights", "small model"),
        ("sma", None),  # the beginning of two names
        ("temp", "template of another workflow"),
        ("te", None),  # too short to decide
        ("Smallmodel", "small model"),
    ],
)
def test_equal_beginnings_are_similar(name, meant):
    known = ["small model", "small model with masks", "template of another workflow"]
    assert did_you_mean(name, known) == (f"Did you mean '{meant}'?" if meant else "")


def test_matching_alias_comes_before_similar_names():
    registry: Registry[int] = Registry("filters")
    registry.add(Entry("edges", 1, Origin("second", "1.0")))
    registry.add(Entry("gamma", 2, Origin("first", "1.0"), aliases=("Edges b", "GAMMA")))
    assert registry.suggest("edges B") == "Did you mean 'Edges b'?"
    assert registry.suggest("gmma") == "Did you mean 'gamma'?"


@pytest.fixture
def named() -> dict[str, Registry[int]]:
    """Two registries whose names other programs write together."""
    filters: Registry[int] = Registry("filters")
    filters.add(Entry("blur_small", 1, Origin("first", "1.0"), aliases=("Blur s", "BLUR++ 2")))
    filters.add(Entry("blur_wide", 2, Origin("first", "1.0"), aliases=("Blur w",)))
    filters.add(Entry("edges", 3, Origin("first", "1.0"), aliases=("Blur-W",)))
    orders: Registry[int] = Registry("orders")
    orders.add(Entry("rows_first", 1, Origin("first", "1.0"), aliases=("Rows",)))
    return {"filters": filters, "orders": orders}


def test_aliases_are_found_in_any_case_if_they_mean_one_thing(named):
    filters = named["filters"]
    for name in ("BLUR S", "blur_s", "blur-s", "blur++  2"):
        assert name in filters
        assert filters.get(name).name == "blur_small"
    assert filters.get("Blur w").name == "blur_wide"
    assert "blur w" not in filters  # it could be one of two
    assert "BLUR_WIDE" not in filters  # not a name of another program


def test_names_of_two_things_are_split(named):
    filters = named["filters"]
    for name in ("Blur++ 2 Rows", "blur_small_rows_first"):
        assert filters.split(name, named.values()) == "Did you mean the filter 'blur_small' and the order 'rows_first'?"
    for name in ("Blur++ 2", "Blur++ 2 Columns", "Columns Rows", "", "rows"):
        assert filters.split(name, named.values()) == ""


def test_shared_words_are_closer_than_shared_letters():
    assert did_you_mean("ddpm_2m", ["dpm_2", "dpmpp_2m", "ddpm_x"]) == "Did you mean 'dpmpp_2m'?"
