"""Registries: unique names, aliases and suggestions."""

from __future__ import annotations

import pytest

from nodegraph import PluginError
from nodegraph.plugins.registry import Entry, Origin, Registry
from nodegraph.text import did_you_mean


@pytest.fixture
def teas() -> Registry[int]:
    registry: Registry[int] = Registry("teas")
    registry.add(Entry("sencha", 1, Origin("japan", "1.0", place="/plugins/japan.py")))
    registry.add(Entry("Assam", 2, Origin("india", "2.0"), {"strength": "strong"}))
    return registry


def test_names_are_sorted_and_found(teas):
    assert teas.names() == ["Assam", "sencha"]
    assert [entry.value for entry in teas.entries()] == [2, 1]
    assert len(teas) == 2
    assert "sencha" in teas
    assert "Sencha" not in teas
    assert teas.get("Assam").meta == {"strength": "strong"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sencah", "there is no 'sencah' among the teas. Did you mean 'sencha'?"),
        ("ASSAM", "there is no 'ASSAM' among the teas. Did you mean 'Assam'?"),
        ("coffee", "there is no 'coffee' among the teas. 'nodegraph teas' lists them."),
        ("", "there is no '' among the teas. 'nodegraph teas' lists them."),
    ],
)
def test_unknown_name_gets_suggestions(teas, name, said):
    with pytest.raises(KeyError) as caught:
        teas.get(name)
    assert caught.value.args == (said,)


def test_double_registration_names_both_plugins(teas):
    with pytest.raises(PluginError) as caught:
        teas.add(Entry("sencha", 3, Origin("mine", "0", place="/home/mine.py")))
    assert str(caught.value) == (
        "[E301] two plugins register 'sencha' among the teas: 'japan' (/plugins/japan.py) "
        "and 'mine' (/home/mine.py). Rename or remove one"
    )
    assert teas.get("sencha").value == 1


def test_double_registration_in_one_plugin_is_its_error(teas):
    with pytest.raises(PluginError, match=r"plugin 'japan' \(/plugins/japan.py\) registers 'sencha' twice among the teas"):
        teas.add(Entry("sencha", 3, Origin("japan", "1.0", place="/plugins/japan.py")))


def test_entries_are_found_by_aliases():
    registry: Registry[int] = Registry("teas")
    registry.add(Entry("sencha", 1, Origin("japan", "1.0", place="/plugins/japan.py"), aliases=("Green tea",)))
    assert registry.get("Green tea").name == "sencha"
    assert "Green tea" in registry
    assert registry.names() == ["sencha"]
    assert registry.suggest("green te") == "Did you mean 'Green tea'?"
    for clash in (Entry("Green tea", 2, Origin("china", "1.0")), Entry("other", 2, Origin("china", "1.0"), aliases=("sencha",))):
        with pytest.raises(PluginError, match="two plugins register"):
            registry.add(clash)
    assert len(registry) == 1


def test_foreign_names_suggest_our_entries(teas):
    teas.add(Entry("pot", 3, Origin("mine", "0"), foreign_names=("Samowar", "Kettle")))
    teas.add(Entry("cup", 4, Origin("mine", "0"), foreign_names=("Samowar",)))
    assert teas.suggest("Kettle") == "Here 'pot' does that."
    assert teas.suggest("Samowar") == "Here 'cup' and 'pot' do that."
    assert "Kettle" not in teas


@pytest.mark.parametrize("name", ["", " ", 3, None, len])
def test_invalid_names_are_refused(teas, name):
    with pytest.raises(
        PluginError, match=r"\[E302\] plugin 'mine' \(there\) registers something among the teas under .*, which is not a name"
    ):
        teas.add(Entry(name, 3, Origin("mine", "0", place="there")))


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
        ("green tea with lemon", "green tea"),  # not 'green tea with milk', which is spelt nearly alike
        ("GREEN TEA leaves", "green tea"),
        ("gre", None),  # the beginning of two names
        ("cham", "chamomile from the mountains"),
        ("ch", None),  # too short to decide
        ("Greentea", "green tea"),
    ],
)
def test_equal_beginnings_are_similar(name, meant):
    known = ["green tea", "green tea with milk", "chamomile from the mountains"]
    assert did_you_mean(name, known) == (f"Did you mean '{meant}'?" if meant else "")


def test_matching_alias_comes_before_similar_names():
    registry: Registry[int] = Registry("teas")
    registry.add(Entry("assam", 1, Origin("india", "1.0")))
    registry.add(Entry("green", 2, Origin("japan", "1.0"), aliases=("Assam b", "GREEN")))
    assert registry.suggest("assam B") == "Did you mean 'Assam b'?"
    assert registry.suggest("grren") == "Did you mean 'green'?"
