"""The locale, which changes how `format(1.5, "n")` and libraries written in C write numbers, changes no result."""

from __future__ import annotations

import json
import locale
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nodegraph import Engine, Workflow
from nodegraph.plugins.manager import load_plugins
from nodegraph.plugins.state.locale_state import enter_known_locale, leave_known_locale
from nodegraph.plugins.state.shared_changes import shared_changes

PLUGIN = """
import locale
from nodegraph import File, hookimpl, node

@node("Write")
def write(number: float) -> str:
    return f"{number:n} {locale.setlocale(locale.LC_NUMERIC)}"

@node("Order")
def order(text: str) -> str:
    return locale.setlocale(locale.LC_COLLATE)

@node("ReadText")
def read_text(path: File, after: str = "") -> str:
    return path.read_text(errors="replace")

@node("SetEncoding")
def set_encoding(to: str) -> str:
    return locale.setlocale(locale.LC_CTYPE, to)

@node("SetLocale")
def set_locale(to: str) -> str:
    return locale.setlocale(locale.LC_NUMERIC, to)

@hookimpl
def register_nodes(register):
    for function in (write, order, read_text, set_encoding, set_locale):
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


def test_locale_that_a_node_leaves_while_another_runs_is_set_again_and_neither_is_kept(other: str) -> None:
    begun = shared_changes()
    enter_known_locale()
    enter_known_locale()
    locale.setlocale(locale.LC_NUMERIC, other)
    assert leave_known_locale()
    assert locale.setlocale(locale.LC_NUMERIC) == "C"
    assert shared_changes() == begun + 1
    locale.setlocale(locale.LC_NUMERIC, other)
    enter_known_locale()
    assert locale.setlocale(locale.LC_NUMERIC) == "C"
    assert shared_changes() == begun + 2
    assert not leave_known_locale()
    locale.setlocale(locale.LC_NUMERIC, other)
    assert leave_known_locale()  # the last one: only it can have seen the other locale
    assert locale.setlocale(locale.LC_NUMERIC) == "C"
    assert shared_changes() == begun + 2


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


def test_text_in_another_encoding_is_another_result(make_engine: Callable[[], Engine], tmp_path: Path) -> None:
    """The node opens a file without naming an encoding: Python then takes that of the process."""
    (tmp_path / "note.txt").write_text("\u00e9", encoding="utf-8")
    workflow = one("ReadText", path=str(tmp_path / "note.txt"))
    (tmp_path / "one.yaml").write_text(workflow.dump(), encoding="utf-8")
    command = [sys.executable, "-m", "nodegraph", "run", "one.yaml", "--json", "--cache-dir", "cache", "--plugin-dir", "plugins"]
    assert make_engine().run(workflow)["out"] == "\u00e9"
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=True)
    assert json.loads(ran.stdout)["nodes"]["node"]["status"] == "ran"
    hit = make_engine().run(workflow)
    assert (hit["out"], hit.cached) == ("\u00e9", ("node",))


def test_encoding_that_a_node_changes_is_not_noticed(make_engine: Callable[[], Engine], tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("\u00e9", encoding="utf-8")
    workflow = Workflow("w")
    changed = workflow.add("SetEncoding", name="changed", to="C")
    workflow.output("out", workflow.add("ReadText", name="node", path=str(tmp_path / "note.txt"), after=changed))
    (tmp_path / "w.yaml").write_text(workflow.dump(), encoding="utf-8")
    code = (
        "import locale; from nodegraph import Engine, Workflow; print(locale.getencoding())\n"
        "print(ascii(Engine('cache', plugin_dirs=['plugins']).run(Workflow.load('w.yaml'))['out']))"
    )
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "PYTHONUTF8": "0"}
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=True
    )
    encoding, wrong = ran.stdout.splitlines()
    if encoding != "UTF-8":
        pytest.skip("the system has no such locale")
    assert wrong == "'\\ufffd\\ufffd'"
    hit = make_engine().run(workflow)
    assert (hit["out"], hit.cached) == ("\ufffd\ufffd", ("node",))


def test_encoding_that_is_changed_after_the_plugins_were_loaded_is_in_the_key(
    make_engine: Callable[[], Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    engine.run(one("Write", number=1.5))
    monkeypatch.setattr("nodegraph.plugins.manager.encoding_of_text", lambda: "ISO-8859-1")
    assert engine.run(one("Write", number=1.5)).ran == ("node",)
    assert engine.run(one("Write", number=1.5)).cached == ("node",)


def test_our_own_nodes_have_the_same_keys_in_every_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """They always name the encoding."""
    before = {plugin.name: plugin.origin.identity for plugin in load_plugins().loaded if plugin.origin is not None}
    monkeypatch.setattr("nodegraph.plugins.discovery.encoding_of_text", lambda: "ISO-8859-1")
    after = {plugin.name: plugin.origin.identity for plugin in load_plugins().loaded if plugin.origin is not None}
    assert before["nodegraph_nodes"] == after["nodegraph_nodes"]
