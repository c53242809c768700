"""The locale, which changes how `format(1.5, "n")` and libraries written in C write numbers, changes no result."""

from __future__ import annotations

import locale
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nodegraph import Engine, Workflow

PLUGIN = """
import locale
from nodegraph import hookimpl, node

@node("Write")
def write(number: float) -> str:
    return f"{number:n} {locale.setlocale(locale.LC_NUMERIC)}"

@node("Order")
def order(text: str) -> str:
    return locale.setlocale(locale.LC_COLLATE)

@node("SetLocale")
def set_locale(to: str) -> str:
    return locale.setlocale(locale.LC_NUMERIC, to)

@hookimpl
def register_nodes(register):
    for function in (write, order, set_locale):
        register(function)
"""


@pytest.fixture
def other() -> Iterator[str]:
    """A locale other than "C", with a decimal comma if the system has one."""
    for name in ("de_DE.UTF-8", "fr_FR.UTF-8", "C.UTF-8", "C.utf8"):
        try:
            found = locale.setlocale(locale.LC_NUMERIC, name)
        except locale.Error:
            continue
        locale.setlocale(locale.LC_NUMERIC, "C")
        if found != "C":
            yield name
            locale.setlocale(locale.LC_NUMERIC, "C")
            return
    pytest.skip("the system has only the locale C")


@pytest.fixture
def make_engine(tmp_path: Path) -> Callable[[], Engine]:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "writing.py").write_text(PLUGIN)
    return lambda: Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"])


def one(type: str, **inputs: object) -> Workflow:
    workflow = Workflow("one")
    workflow.output("out", workflow.add(type, name="node", **inputs))
    return workflow


def test_locale_of_the_program_changes_no_result_and_is_restored(make_engine: Callable[[], Engine], other: str) -> None:
    locale.setlocale(locale.LC_NUMERIC, other)
    before = locale.setlocale(locale.LC_NUMERIC)
    assert make_engine().run(one("Write", number=1.5))["out"] == "1.5 C"
    assert locale.setlocale(locale.LC_NUMERIC) == before
    locale.setlocale(locale.LC_NUMERIC, "C")
    assert make_engine().run(one("Write", number=1.5)).cached == ("node",)


def test_locale_that_a_node_sets_is_restored_with_a_note(make_engine: Callable[[], Engine], other: str) -> None:
    workflow = Workflow("w")
    changed = workflow.add("SetLocale", name="changed", to=other)
    workflow.output("out", workflow.add("Write", name="node", number=1.5))
    workflow.output("changed", changed)
    result = make_engine().run(workflow)
    assert result["out"] == "1.5 C"
    assert [notice.message for notice in result.notices if notice.node == "changed"] == [
        "it changed the locale of the process; the change was undone"
    ]


def test_order_of_words_in_another_locale_is_not_noticed(make_engine: Callable[[], Engine], other: str) -> None:
    first = make_engine().run(one("Order", text=""))["out"]
    before = locale.setlocale(locale.LC_COLLATE)
    try:
        locale.setlocale(locale.LC_COLLATE, other)
        hit = make_engine().run(one("Order", text=""))
        assert (hit["out"], hit.cached) == (first, ("node",))
        assert first != locale.setlocale(locale.LC_COLLATE)
    finally:
        locale.setlocale(locale.LC_COLLATE, before)
