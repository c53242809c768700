"""What a plugin puts into a module that is not its own is in the keys of others, or their results are not kept."""

from __future__ import annotations

import importlib
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nodegraph import Engine, Workflow
from tests.support.imported_modules import forget_modules_in
from tests.support.slow import slow_after

HELPER = """
import types
FLAG, WORDS, TABLE, CONFIG = 1, ["one"], {"value": 1}, types.SimpleNamespace(value=1)
NESTED = {"inner": {"value": 1}}

def function(value=1):
    return value

class Thing:
    limit = 1

    def method(self):
        return 1

THING = Thing()
REMEMBERED = {}
"""

PLUGIN = """
from nodegraph import hookimpl, node
import shared_helper
from changed_library.inner import Known

def own():
    return 1

@node("Value")
def value(how: str) -> int:
    import changed_library
    return eval(how)

@hookimpl
def register_nodes(register):
    register(value)
"""

CHANGING = """
from nodegraph import hookimpl, node
import shared_helper, changed_library

def other(*arguments):
    return 2

@node("Change")
def change(code: str) -> int:
    exec(code)
    return 1

@hookimpl
def register_nodes(register):
    {in_hook}
    register(change)

{at_import}
"""

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a file. Modules of the test are forgotten at its end."""
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    monkeypatch.syspath_prepend(tmp_path / "lib")

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        time.sleep(0.02)
        importlib.invalidate_caches()
        return path

    write("lib/shared_helper.py", HELPER)
    write("site-packages/changed_library/__init__.py", "LIMIT, _state = 1, 1\ndef count():\n    return 1\n")
    write("site-packages/changed_library/inner.py", "class Known:\n    def value(self):\n        return 1\n")
    write("site-packages/other_library.py", "def other(*arguments):\n    return 2\n")
    write("plugins/value.py", PLUGIN)
    yield write
    forget_modules_in(tmp_path)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs nodes, in what is a new process for the modules of the test. Returns the first value, and whether all were cached."""

    def run(*hows: str, again: bool = False) -> tuple[int, bool]:
        if not again:
            forget_modules_in(tmp_path)
        result = Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"]).run(of(*hows))
        return result["out0"], not result.ran

    return run


def of(*hows: str) -> Workflow:
    workflow = Workflow("values")
    for index, how in enumerate(hows):
        workflow.output(f"out{index}", workflow.add("Value", name=f"node{index}", how=how))
    return workflow


CHANGES = {
    "an attribute": ("shared_helper.FLAG", "shared_helper.FLAG = 2"),
    "a new attribute": ("getattr(shared_helper, 'new', 1)", "shared_helper.new = 2"),
    "a function": ("shared_helper.function()", "shared_helper.function = other"),
    "the code of a function": ("shared_helper.function()", "shared_helper.function.__code__ = other.__code__"),
    "a default": ("shared_helper.function()", "shared_helper.function.__defaults__ = (2,)"),
    "a class": ("shared_helper.Thing.limit", "shared_helper.Thing.limit = 2"),
    "a method": ("shared_helper.THING.method()", "shared_helper.Thing.method = other"),
    "an object": ("shared_helper.CONFIG.value", "shared_helper.CONFIG.value = 2"),
    "an attribute of an object": ("shared_helper.THING.limit", "shared_helper.THING.limit = 2"),
    "a list": ("len(shared_helper.WORDS)", "shared_helper.WORDS.append('two')"),
    "a mapping": ("shared_helper.TABLE['value']", "shared_helper.TABLE.update(value=2)"),
    "a new entry of a mapping": ("shared_helper.TABLE.get('new', 1)", "shared_helper.TABLE['new'] = 2"),
    "a nested mapping": ("shared_helper.NESTED['inner']['value']", "shared_helper.NESTED['inner']['value'] = 2"),
    "a function of a library": ("changed_library.count()", "changed_library.count = other"),
    "a function of a library, by another library": (
        "changed_library.count()",
        "import other_library; setattr(changed_library, 'count', other_library.other)",
    ),
    "a method of a library": ("Known().value()", "import changed_library.inner as i; i.Known.value = other"),
    "a plain value of a library": ("changed_library.LIMIT", "changed_library.LIMIT = 2"),
    "a function of another plugin": (
        "own()",
        "import sys; [m for n, m in sys.modules.items() if n.startswith('nodegraph_plugin_value')][-1].own = other",
    ),
}
IN_HOOK = dict.fromkeys(("a function", "a function of another plugin", "an attribute of an object"), "with_hook")
Run = Callable[..., tuple[int, bool]]


@pytest.mark.slow
def test_what_another_plugin_puts_into_a_module_is_in_the_key(write: Write, run: Run) -> None:
    """Also if that plugin is the first to import the module."""
    all_of_them = [how for how, _ in CHANGES.values()]
    run(*all_of_them)
    for name, (how, code) in CHANGES.items():
        at_import, in_hook = ("pass", code) if name in IN_HOOK else (code, "pass")
        path = write(f"plugins/{IN_HOOK.get(name, 'another')}.py", CHANGING.format(at_import=at_import, in_hook=in_hook))
        assert (name, *run(how)) == (name, 2, False)
        path.unlink()
    assert run(*all_of_them) == (1, True)
    how, code = CHANGES["a method of a library"]
    write("plugins/another.py", CHANGING.format(at_import=code, in_hook="pass"))
    assert run(how) == (2, True)


CODEC = """
from nodegraph import hookimpl, node
import changed_library

class Number:
    def __init__(self, number):
        self.number = number

class NumberCodec:
    name, suffix, extension = "number", ".number", ".txt"

    def digest(self, value):
        return str(value.number)

    def save(self, value, path):
        path.write_text(str(value.number))

    def load(self, path):
        return Number(int(path.read_text()))

    def export(self, value):
        return [str(value.number * changed_library.count()).encode()]

    def embed(self, data, metadata):
        return data

    def extract(self, data):
        return data, {}

    def check(self, value):
        return None

    def size(self, value):
        return 8

@node("Number")
def number() -> Number:
    return Number(1)

@hookimpl
def register_nodes(register):
    register(number)

@hookimpl
def register_codecs(register):
    register(Number, NumberCodec())
"""


def test_file_that_a_codec_exported_with_a_changed_library_is_no_hit(write: Write, tmp_path: Path) -> None:
    workflow = Workflow.parse("nodegraph: 1\nnodes: {n: {use: Number}}\noutputs: {out: {from: $n, save: out.txt}}\n")
    write("plugins/codec.py", CODEC)
    another = write("plugins/another.py", CHANGING.format(at_import="changed_library.count = other", in_hook="pass"))
    for folder, expected in (("changed", "2"), ("plain", "1")):
        forget_modules_in(tmp_path)
        Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"]).run(workflow, out=tmp_path / folder)
        assert (tmp_path / folder / "out.txt").read_text() == expected
        another.unlink(missing_ok=True)


def test_module_that_a_plugin_of_another_engine_has_changed_is_no_hit(write: Write, tmp_path: Path, run: Run) -> None:
    """Its engine may be the first in the process, and may be gone; or it is made after this one."""
    how, code = CHANGES["a function"]
    write("other/another.py", CHANGING.format(at_import=code, in_hook="pass"))
    assert run(how) == (1, False)
    engine = Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"])
    assert engine.run(of(how)).ran == ()
    Engine(None, plugin_dirs=[tmp_path / "other"])
    assert run(how, again=True) == (2, False)
    other = f"{how} + 0"
    result = engine.run(of(other))
    assert result["out0"] == 2
    assert (
        "which other code of this process uses too, was changed in memory; its result is used but not kept"
        in result.notices[0].message
    )
    assert run(other) == (1, False)


@pytest.mark.parametrize("name", slow_after(2, ["an attribute", "a function", "a method", "a list", "an object", "a mapping"]))
def test_result_is_not_kept_once_a_node_has_changed_a_module_that_plugins_share(
    write: Write, tmp_path: Path, run: Run, name: str
) -> None:
    how, code = CHANGES[name]
    write("plugins/another.py", CHANGING.format(at_import="pass", in_hook="pass"))
    engine = Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"])
    workflow = Workflow("changed")
    workflow.output("out0", workflow.add("Change", name="changes", code=code.replace("= other", "= lambda *arguments: 2")))
    engine.run(workflow)
    for used in (engine, Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"])):
        result = used.run(of(how))
        assert (result["out0"], result.ran, len(result.notices)) == (2, ("node0",), 1)
    assert run(how) == (1, False)


def test_what_functions_of_a_shared_module_remember_costs_no_result(write: Write, run: Run) -> None:
    write("plugins/another.py", CHANGING.format(at_import="pass", in_hook="pass"))
    how = "shared_helper.REMEMBERED.setdefault('x', 1)"
    assert [run(how), run(how)] == [(1, False), (1, True)]
    assert run(how, again=True) == (1, True)


def test_what_a_plugin_does_to_a_library_in_a_hidden_way_is_not_noticed(write: Write, run: Run) -> None:
    """Private state, and what is inside its containers; and what a library does to another one."""
    write("site-packages/changing_library.py", "import changed_library\nchanged_library.count = lambda: 2\n")
    for how, code in (
        ("changed_library._state", "changed_library._state = 2"),
        ("changed_library.count()", "import changing_library"),
    ):
        assert run(how) == (1, False)
        another = write(f"plugins/plugin_{how.count('(')}.py", CHANGING.format(at_import=code, in_hook="pass"))
        assert run(how) == (1, True)
        another.unlink()
