"""Code that is replaced in memory, by monkeypatching: its results are not mixed up with those of the code in keys."""

from __future__ import annotations

import enum
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nodegraph import Engine, Workflow, WorkflowError
from nodegraph.plugins.registry import Entry
from tests.support.slow import slow_after

PLUGIN = '''
from nodegraph import Choice, hookimpl, hookspec, node
from typing import Annotated, Any
import functools

class Hooks:
    @staticmethod
    @hookspec
    def register_endings(register):
        """Register functions from text to text."""

@hookimpl
def add_hooks(pluginmanager):
    pluginmanager.add_hookspecs(Hooks)

class Adds:
    mark = "!"

    def __init__(self, text):
        self.text = text

    def __call__(self, text):
        return text + self.text + self.mark

def wrapped(function):
    @functools.wraps(function)
    def wrapper(text):
        return function(text)
    return wrapper

def listed(words, memory):
    def wrapper(text, more=["!"]):
        memory[text] = text
        return text + " ".join(words) + "".join(more) + str(wrapper.weights)
    wrapper.weights = {"a": [1, 2]}
    return wrapper

class Slotted:
    __slots__ = ("text",)

    def __init__(self):
        self.text = " slotted"

    def __call__(self, text):
        return text + self.text

SLOTTED, BOUND, DEEP = Slotted(), Adds(" bound"), [" deep"]
def partly(text, *, ending):
    return text + ending

PARTIAL = functools.partial(partly, ending=" partial")

@wrapped
@wrapped
def deep(text, words=DEEP):
    return text + words[0]

WORDS, MEMORY = [" list", "of", "words"], {"of an earlier": "run"}

def plain(text, ending=" plain", *, more=""):
    return text + ending + more

@wrapped
def decorated(text):
    return text + " decorated"

ENDINGS = {"plain": plain, "object": Adds(" object"), "decorated": decorated, "listed": listed(WORDS, MEMORY)}
ENDINGS |= {"slotted": SLOTTED, "bound": BOUND.__call__, "partial": PARTIAL, "deep": deep}

@node("End")
def end(text: str, ending: Annotated[Any, Choice("endings")]) -> str:
    return ending(text)

@node("Fixed")
def fixed(text: str) -> str:
    return text + " fixed"

def closed(words):
    @node("Closed")
    def closed(text: str) -> str:
        return text + words[0]
    return closed

CLOSED = [" closed"]

@node("Run")
def run(code: str) -> str:
    exec(code, globals())
    return ""

@hookimpl
def register_nodes(register):
    for function in (end, fixed, run, closed(CLOSED)):
        register(function)

@hookimpl
def register_endings(register):
    for name, ending in ENDINGS.items():
        register(name, ending)
'''


@pytest.fixture
def make_engine(tmp_path: Path) -> Callable[..., Engine]:
    (tmp_path / "plugins").mkdir(exist_ok=True)
    (tmp_path / "plugins" / "endings.py").write_text(PLUGIN)
    return lambda: Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"])


def ended(ending: object) -> Workflow:
    workflow = Workflow("ended")
    workflow.output("out", workflow.add("End", name="node", text="text", ending=ending))
    return workflow


def other(text: str) -> str:
    return text + " other"


def with_other_entry(engine: Engine, name: str) -> None:
    registry = engine.plugins.registries["endings"]
    registry._entries[name] = replace(registry.get(name), value=other)


def of(name: str) -> Callable[[Engine, types.ModuleType], Any]:
    return lambda engine, module: engine.plugins.registries["endings"].get(name).value


REPLACED: dict[str, tuple[str, Callable[[Engine, types.ModuleType], Any]]] = {
    "entry": ("plain", lambda engine, module: with_other_entry(engine, "plain")),
    "code": ("plain", lambda engine, module: setattr(module.plain, "__code__", (lambda text, ending, *, more: "x").__code__)),
    "default": ("plain", lambda engine, module: setattr(module.plain, "__defaults__", (" other",))),
    "keyword default": ("plain", lambda engine, module: module.plain.__kwdefaults__.update(more=" other")),
    "attribute": ("object", lambda engine, module: setattr(module.ENDINGS["object"], "text", " other")),
    "class attribute": ("object", lambda engine, module: setattr(module.Adds, "mark", "?")),
    "method": ("object", lambda engine, module: setattr(module.Adds, "__call__", lambda self, text: "other")),
    "list in a closure": ("listed", lambda engine, module: module.WORDS.append("other")),
    "list that is a default": ("listed", lambda engine, module: module.ENDINGS["listed"].__defaults__[0].append("?")),
    "entry of a mapping": ("listed", lambda engine, module: module.ENDINGS["listed"].weights.update(a=[])),
    "list that was emptied": ("listed", lambda engine, module: module.WORDS.clear()),
    "slot": ("slotted", lambda engine, module: setattr(module.SLOTTED, "text", " other")),
    "attribute of the object of a method": ("bound", lambda engine, module: setattr(module.BOUND, "text", " other")),
    "argument of a partial function": ("partial", lambda engine, module: module.PARTIAL.keywords.update(ending=" other")),
    "list below two decorators": ("deep", lambda engine, module: module.DEEP.append(" other") or module.DEEP.pop(0)),
    "below a decorator": (
        "decorated",
        lambda engine, module: setattr(module.decorated.__wrapped__, "__code__", (lambda text: "other").__code__),
    ),
}


@pytest.mark.parametrize(("ending", "change"), slow_after(3, REPLACED.values(), several=True), ids=REPLACED)
def test_replaced_thing_is_used_but_not_kept(make_engine: Callable[..., Engine], ending: str, change: Any) -> None:
    expected = make_engine().run(ended(ending))["out"]
    engine = make_engine()
    change(engine, engine.plugins.manager.get_plugin("endings"))
    result = engine.run(ended(ending))
    assert result.ran == ("node",)
    assert result["out"] != expected
    assert "was replaced after it was registered" in result.notices[0].message
    again = make_engine().run(ended(ending))
    assert (again["out"], again.cached) == (expected, ("node",))


def test_function_of_a_node_type_that_was_replaced_is_not_kept(make_engine: Callable[..., Engine]) -> None:
    workflow = Workflow("fixed")
    workflow.output("out", workflow.add("Fixed", name="node", text="text"))
    make_engine().run(workflow)
    engine = make_engine()
    engine.plugins.manager.get_plugin("endings").fixed.__code__ = other.__code__  # type: ignore[union-attr]
    result = engine.run(workflow)
    assert (result["out"], result.ran) == ("text other", ("node",))
    assert make_engine().run(workflow)["out"] == "text fixed"


CHOOSING = """
import os
from nodegraph import hookimpl, node

@node("Chosen")
def quick() -> str:
    return "quick"

@node("Chosen")
def slow() -> str:
    return "slow"

def made(number, unordered=frozenset({"a", "b", "c"})):
    @node("Made")
    def made() -> int:
        return number + len(unordered) - 3
    return made

@hookimpl
def register_nodes(register):
    register(quick if os.environ["CHOICE"] == "1" else slow)
    register(made(int(os.environ["CHOICE"])))
"""


def test_function_that_a_plugin_chooses_when_it_is_loaded_is_in_the_key(
    make_engine: Callable[..., Engine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same code registers another function, or one with another value, in another environment."""
    make_engine()
    (tmp_path / "plugins" / "choosing.py").write_text(CHOOSING)
    workflow = Workflow("chosen")
    for type in ("Chosen", "Made"):
        workflow.output(type, workflow.add(type, name=type))
    for choice, expected in (("1", ("quick", 1)), ("2", ("slow", 2)), ("1", ("quick", 1))):
        monkeypatch.setenv("CHOICE", choice)
        result = make_engine().run(workflow)
        assert (result["Chosen"], result["Made"]) == expected
    assert set(result.cached) == {"Chosen", "Made"}


def test_thing_that_a_plugin_chooses_when_it_is_loaded_is_in_the_key(
    make_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_engine()
    chosen = PLUGIN.replace('Adds(" object")', 'Adds(__import__("os").environ["CHOICE"])')
    for choice in (" one", " two"):
        monkeypatch.setenv("CHOICE", choice)
        (tmp_path / "plugins" / "endings.py").write_text(chosen)
        engine = Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"])
        assert engine.run(ended("object"))["out"] == f"text{choice}!"


def test_list_inside_an_attribute_that_is_changed_is_noticed(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine()
    weights = engine.plugins.registries["endings"].get("listed").value.weights
    weights["a"].append(3)
    assert not engine.plugins.is_unchanged(engine.plugins.registries["endings"].get("listed"))
    weights["a"].pop()
    assert engine.plugins.is_unchanged(engine.plugins.registries["endings"].get("listed"))


def test_mapping_that_a_function_fills_is_no_change(make_engine: Callable[..., Engine]) -> None:
    """A function may remember what it computed."""
    engine = make_engine()
    assert engine.run(ended("listed")).ran == ("node",)
    assert "text" in engine.plugins.manager.get_plugin("endings").MEMORY  # type: ignore[union-attr]
    assert engine.run(ended("listed")).cached == ("node",)


CHANGES = ["plain.__defaults__ = (' other',)", "fixed.__code__ = (lambda text: text + ' other').__code__"]
CHANGES.append("CLOSED[0] = ' other'")


@pytest.mark.parametrize(("type", "code"), [*zip(["End", "Fixed", "Closed"], CHANGES, strict=True)])
def test_thing_that_a_node_replaces_during_the_run_is_not_kept(make_engine: Callable[..., Engine], type: str, code: str) -> None:
    workflow = Workflow("w")
    inputs = {"ending": "plain"} if type == "End" else {}
    changed = workflow.add("Run", name="changed", code=code)
    workflow.output("out", workflow.add(type, name="node", text=changed, **inputs))
    engine = make_engine()
    result = engine.run(workflow)
    assert result["out"] == " other"
    assert any("the code that it runs was replaced in memory" in notice.message for notice in result.notices)
    assert "node" not in {record.node for record in engine.cache.entries()}


@pytest.mark.slow
def test_thing_that_another_plugin_put_in_its_place_has_the_code_of_both_in_its_key(
    make_engine: Callable[..., Engine], tmp_path: Path
) -> None:
    expected = make_engine().run(ended("plain"))["out"]
    before = make_engine().plugins.registries["endings"].get("plain").origin.identity
    patch = tmp_path / "plugins" / "patches.py"
    source = "import sys\nmodule = [m for n, m in sys.modules.items() if n.startswith('nodegraph_plugin_endings')][-1]\n"
    identities = []
    for text in ("one", "two"):
        patch.write_text(f"{source}module.ENDINGS['plain'] = lambda text: text + ' {text}'\n")
        result = make_engine().run(ended("plain"))
        assert (result["out"], result.ran) == (f"text {text}", ("node",))
        assert make_engine().run(ended("plain")).cached == ("node",)
        registry = make_engine().plugins.registries["endings"]
        identities.append(registry.get("plain").origin.identity)
    assert len({before, *identities}) == 3
    patch.unlink()
    assert make_engine().run(ended("plain"))["out"] == expected


def test_registered_function_of_a_script_is_never_kept(make_engine: Callable[..., Engine], tmp_path: Path) -> None:
    """Its code is in no file of a plugin."""
    (tmp_path / "plugins" / "patches.py").write_text(
        "import sys\nmodule = [m for n, m in sys.modules.items() if n.startswith('nodegraph_plugin_endings')][-1]\n"
        "def typed_in(text):\n    return text + ' typed in'\ntyped_in.__module__ = '__main__'\nmodule.ENDINGS['plain'] = typed_in\n"
    )
    results = [make_engine().run(ended("plain")) for _ in range(2)]
    assert [(result["out"], result.ran) for result in results] == [("text typed in", ("node",))] * 2


def test_entries_that_are_not_replaced_are_unchanged(make_engine: Callable[..., Engine]) -> None:
    plugins = make_engine().plugins
    entries: list[Entry[Any]] = [entry for registry in plugins.registries.values() for entry in registry.entries()]
    assert len(entries) > 50
    assert all(plugins.is_unchanged(entry) for entry in entries)
    assert all(plugins.is_unchanged(entry.value) for entry in plugins.nodes.entries())
    assert not any(plugins.used_code(name).change() for name in plugins.nodes.names())


class Kind(enum.StrEnum):
    PLAIN = "plain"


def test_choice_that_is_an_object_is_an_error(make_engine: Callable[..., Engine]) -> None:
    """Its name would be in no key. Text of another class is the name that it says."""
    engine = make_engine()
    expected = engine.run(ended("plain"))["out"]
    for thing in (engine.plugins.registries["endings"].get("plain"), engine.plugins.registries["endings"].get("plain").value):
        with pytest.raises(WorkflowError, match=r"'ending' of node 'node': expected text, found"):
            engine.run(ended(thing))
    for name in (Kind.PLAIN, type("Name", (str,), {})("plain")):
        hit = engine.run(ended(name))
        assert (hit["out"], hit.cached) == (expected, ("node",))
