"""The code that runs is what the process loaded, which may not be what the files contain now, nor what the source names."""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import os
import py_compile
import subprocess
import sys
import textwrap
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nodegraph import Engine, Workflow
from nodegraph.plugins.code import loads
from tests.support.imported_modules import forget_modules_in
from tests.support.slow import slow_after

PLUGIN = """
import sys
from pathlib import Path
from nodegraph import hookimpl, node

FILE = str(Path(__file__).parent.parent / "lib" / "helper.py")
{top}

@node("Value")
def value(x: int) -> int:
    {in_node}
    return VALUE * x

@hookimpl
def register_nodes(register):
    {in_hook}
    register(value)
"""
LOADING = """
import importlib, importlib.util, runpy

def load(name="by_path"):
    spec = importlib.util.spec_from_file_location(name, FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
"""

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a file. Modules of the test are forgotten at its end."""
    monkeypatch.syspath_prepend(tmp_path / "lib")

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        time.sleep(0.03)  # a module that may have changed since it was imported is never the same again
        importlib.invalidate_caches()
        return path

    write("lib/helper.py", "VALUE = 1")
    yield write
    forget_modules_in(tmp_path)


@pytest.fixture
def make_engine(tmp_path: Path) -> Callable[[], Engine]:
    return lambda: Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"])


def plugin(*, top: str = "pass", in_node: str = "pass", in_hook: str = "pass", loads: bool = True) -> str:
    """A plugin with these lines. If it `loads` modules by computed names, all that the process has imported count."""
    return PLUGIN.format(top=f"{LOADING}\n{top}" if loads else top, in_node=in_node, in_hook=in_hook)


def one(x: int = 1) -> Workflow:
    workflow = Workflow("one")
    workflow.output("out", workflow.add("Value", name="node", x=x))
    return workflow


# --- modules that were edited after they were loaded

EARLY = """
import os, sys, time
import early_one, early_two, early_three, early_four.inner
from nodegraph import Engine, Workflow

for name in ("early_one.py", "early_two.py", "early_three.py", "early_four/table.txt"):
    with open(os.path.join("lib", name), "w") as file:
        file.write("VALUE = 2")
time.sleep(0.03)
for name in ("one", "three", "four", "two"):
    engine = Engine("cache", plugin_dirs=[f"plugins_{name}"])
    workflow = Workflow("one")
    workflow.output("out", workflow.add("Value", name="node", x=1))
    result = engine.run(workflow)
    count = len(list(engine.cache.entries()))
    print(name, result["out"], count, *[notice.message for notice in result.notices])
"""
EARLY_PLUGINS = {
    "one": "import early_one\nVALUE = early_one.VALUE",
    "two": "VALUE = importlib.import_module('early_' + 'two').VALUE",
    "three": "__nodegraph_includes__ = ['early_three']\nfrom early_three import VALUE",
    "four": "__nodegraph_includes__ = ['early_four']\nfrom early_four.inner import VALUE",
}


@pytest.mark.slow
def test_module_that_a_script_imported_is_not_kept_if_it_was_edited_before_the_engine_was_made(
    tmp_path: Path, write: Write
) -> None:
    """Also if it was imported before the engine, by a computed name, or read a data file of a package that the plugin includes."""
    for name in ("one", "two", "three"):
        write(f"lib/early_{name}.py", "VALUE = 1")
    write("lib/early_four/__init__.py", "")
    write("lib/early_four/table.txt", "VALUE = 1")
    write("lib/early_four/inner.py", "from pathlib import Path\nexec((Path(__file__).parent / 'table.txt').read_text())")
    for name, top in EARLY_PLUGINS.items():
        write(f"plugins_{name}/value.py", plugin(top=top))
    script = write("script.py", EARLY)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "lib")}
    done = subprocess.run([sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert {name: line[:3] for name, line in lines.items()} == {"one": "1 0", "two": "1 1", "three": "1 0", "four": "1 0"}
    for name, file in (("one", "early_one.py"), ("three", "early_three.py"), ("four", "early_four/table.txt")):
        assert f"{file} was changed while this process ran; its result is used but not kept" in lines[name]
    (record,) = Engine(tmp_path / "cache").cache.entries()  # of the computed name: no file ever has this digest
    assert record.computation.imports[str(tmp_path / "lib" / "early_two.py")] == "changed since the import"


@pytest.mark.parametrize("includes", ["", "__nodegraph_includes__ = ['helper']\n"], ids=["imports", "includes"])
def test_module_that_was_loaded_anew_and_put_back_is_not_kept(
    write: Write, make_engine: Callable[[], Engine], includes: str
) -> None:
    write("plugins/value.py", plugin(top=f"{includes}from helper import VALUE", loads=False))
    assert make_engine().run(one())["out"] == 1
    helper = write("lib/helper.py", "VALUE = 2")
    importlib.reload(sys.modules["helper"])
    write("lib/helper.py", "VALUE = 1")
    engine = make_engine()
    result = engine.run(one(2))
    assert result["out"] == 4
    assert f"the code in {helper} was changed while this process ran" in result.notices[0].message
    assert len(list(engine.cache.entries())) == 1


def test_module_that_was_edited_and_put_back_without_a_load_is_kept(write: Write, make_engine: Callable[[], Engine]) -> None:
    write("plugins/value.py", plugin(top="from helper import VALUE", loads=False))
    assert make_engine().run(one()).ran == ("node",)
    write("lib/helper.py", "VALUE = 2")
    write("lib/helper.py", "VALUE = 1")
    result = make_engine().run(one())
    assert (result.cached, result.notices) == (("node",), ())


def test_module_of_a_computed_name_that_is_loaded_anew_between_runs_is_recorded_as_it_was_loaded(
    write: Write, make_engine: Callable[[], Engine]
) -> None:
    write("plugins/value.py", plugin(in_node="VALUE = importlib.import_module('hel' + 'per').VALUE"))
    engine = make_engine()
    assert engine.run(one())["out"] == 1
    helper = write("lib/helper.py", "VALUE = 2")
    importlib.reload(sys.modules["helper"])
    assert engine.run(one(2))["out"] == 4
    write("lib/helper.py", "VALUE = 1")
    assert engine.run(one(3))["out"] == 6
    second = hashlib.sha256(b"VALUE = 2").hexdigest()
    found = [record.computation.imports[str(helper)] for record in engine.cache.entries()]
    assert sorted(found) == sorted([hashlib.sha256(b"VALUE = 1").hexdigest(), second, second])


def test_helper_that_was_edited_within_a_second_of_its_bytecode_is_read_from_its_source(
    write: Write, make_engine: Callable[[], Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python takes the bytecode, as neither the second nor the size of the source has changed. It is written again."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    helper = write("lib/helper.py", "VALUE = 1")
    second = 1_700_000_000 * 10**9
    os.utime(helper, ns=(second, second + 1))
    bytecode = py_compile.compile(str(helper), doraise=True)
    os.utime(bytecode, ns=(second, second + 2))
    write("lib/helper.py", "VALUE = 2")
    os.utime(helper, ns=(second, second + 3))
    time.sleep(0.03)
    write("plugins/value.py", plugin(top="from helper import VALUE", loads=False))
    assert make_engine().run(one())["out"] == 2
    assert Path(bytecode).stat().st_mtime_ns > second + 3


# --- modules that are loaded in ways that neither the source nor `sys.modules` shows

STORE = """
import importlib.util
from pathlib import Path

known = {}

def get(name):
    if name not in known:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("helper.py"))
        known[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(known[name])
    return known[name]
"""
THREADS = "from concurrent.futures import ThreadPoolExecutor\n"
HIDDEN = "global VALUE; VALUE = eval('__imp' + 'ort__')('helper').VALUE"
WAYS = {
    "by its path, in a hook": {"in_hook": "global VALUE; VALUE = load().VALUE"},
    "hidden, in a hook": {"in_hook": HIDDEN, "loads": False},
    "in a thread, at import": {"top": f"{THREADS}with ThreadPoolExecutor() as pool: VALUE = pool.submit(load).result().VALUE"},
    "kept by a module, at import of another plugin": {"top": "import store\nVALUE = store.get('kept').VALUE"},
    "runpy.run_path, in the node": {"in_node": "VALUE = runpy.run_path(FILE)['VALUE']"},
    "runpy.run_path, at import": {"top": "VALUE = runpy.run_path(FILE)['VALUE']"},
    "with the name of the script": {"in_node": "VALUE = load('__main__').VALUE"},
    "with the name of the engine": {"in_node": "VALUE = load('nodegraph.extra').VALUE"},
    "with a name like those of plugins": {"in_node": "VALUE = load('nodegraph_plugin_extra').VALUE"},
}


@pytest.mark.parametrize("way", slow_after(2, WAYS))
def test_module_that_is_loaded_in_a_hidden_way_is_compared_at_a_hit(
    write: Write, make_engine: Callable[[], Engine], way: str
) -> None:
    write("lib/store.py", STORE)
    write("plugins/another.py", "import store\nstore.get('kept')\n")
    write("plugins/value.py", plugin(**WAYS[way]))

    def run() -> tuple[object, tuple[str, ...]]:
        """As in a new process."""
        for name in ("store", "helper"):
            sys.modules.pop(name, None)
        result = make_engine().run(one())
        return result["out"], result.ran

    assert run() == (1, ("node",))
    assert run() == (1, ())
    write("lib/helper.py", "VALUE = 2")
    assert run() == (2, ("node",))


def test_submodule_that_only_other_code_imports_is_compared_at_a_hit(write: Write, make_engine: Callable[[], Engine]) -> None:
    """It is an attribute of its package, once any code has imported it."""
    write("lib/helper_package/__init__.py", "")
    write("lib/helper_package/inner.py", "VALUE = 1")
    write("plugins/another.py", "import helper_package.inner\n")
    write("plugins/value.py", plugin(top="import helper_package", in_node="VALUE = helper_package.inner.VALUE", loads=False))

    def run() -> tuple[object, tuple[str, ...]]:
        for name in [name for name in sys.modules if name.startswith("helper_package")]:
            del sys.modules[name]
        result = make_engine().run(one())
        return result["out"], result.ran

    assert run() == (1, ("node",))
    assert run() == (1, ())
    write("lib/helper_package/inner.py", "VALUE = 2")
    assert run() == (2, ("node",))


def test_module_of_another_plugin_is_compared_at_a_hit(tmp_path: Path, write: Write, make_engine: Callable[[], Engine]) -> None:
    """A plugin that imports it by a computed name finds it imported already, as a part of the other plugin's code."""
    write("lib/pack_of_others/__init__.py", "from . import inner")
    write("lib/pack_of_others/inner.py", "VALUE = 1")
    write("lib/pack_of_others-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: pack-of-others\nVersion: 1.0\n")
    write("lib/pack_of_others-1.0.dist-info/entry_points.txt", "[nodegraph]\nnodes = pack_of_others\n")
    write("lib/pack_of_others-1.0.dist-info/direct_url.json", '{"url": "file:///", "dir_info": {"editable": true}}')
    write("plugins/value.py", plugin(in_node="VALUE = importlib.import_module('pack_of_' + 'others.inner').VALUE"))
    engine = make_engine()
    assert engine.run(one())["out"] == 1
    (record,) = engine.cache.entries()
    inner = tmp_path / "lib" / "pack_of_others" / "inner.py"
    assert record.computation.imports[str(inner)] == hashlib.sha256(b"VALUE = 1").hexdigest()


LIBRARY = """
import importlib.util, sys
from pathlib import Path

kept = {}

def load(path):
    sys.path.insert(0, str(Path(path).parent))
    try:
        spec = importlib.util.spec_from_file_location("of_a_repository", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        del sys.path[0]
    return module

def keep(path):
    if path not in kept:
        kept[path] = load(path)
    return kept[path]
"""
BEFORE = [
    ("an earlier engine", "keep"),
    ("a node of another plugin", "load"),
    ("a node of another plugin", "keep"),
    ("the program", "load"),
]


@pytest.mark.parametrize(("before", "function"), slow_after(1, BEFORE, several=True))
def test_module_that_a_library_loads_is_compared_at_a_hit(
    tmp_path: Path, write: Write, make_engine: Callable[[], Engine], monkeypatch: pytest.MonkeyPatch, before: str, function: str
) -> None:
    """As `torch.hub.load` loads it, or a library that keeps what it has loaded. What the module imports may be there already."""
    write("site-packages/loading/__init__.py", LIBRARY)
    write("site-packages/loading-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: loading\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    entry = write("repository/entry.py", "from parts_of_it import VALUE")
    write("repository/parts_of_it.py", "VALUE = 1")
    of_library = f"VALUE = loading.{function}({str(entry)!r}).VALUE"
    write("plugins/value.py", plugin(top="import loading", in_node=of_library, loads=False))
    another = plugin(top="import loading", in_node=of_library, loads=False).replace('"Value"', '"Another"')
    write("another/another.py", another)

    def forget() -> None:
        for name in ("loading", "parts_of_it"):
            sys.modules.pop(name, None)

    if before == "an earlier engine":
        assert make_engine().run(one(3))["out"] == 3
    elif before == "a node of another plugin":
        workflow = Workflow("another")
        workflow.output("out", workflow.add("Another", name="node", x=1))
        assert Engine(None, plugin_dirs=[tmp_path / "another"]).run(workflow)["out"] == 1
    elif before == "the program":
        with monkeypatch.context() as context:
            context.syspath_prepend(tmp_path / "repository")
            importlib.import_module("parts_of_it")
    assert make_engine().run(one())["out"] == 1
    assert make_engine().run(one()).ran == ()
    forget()
    write("repository/parts_of_it.py", "VALUE = 2")
    assert make_engine().run(one())["out"] == 2


NAMING = {
    "pickle": "import pickle; VALUE = pickle.loads(b'chelper\\nVALUE\\n.')",
    "entry points": "from importlib.metadata import entry_points; (point,) = entry_points(group='of_test'); VALUE = point.load()",
}


@pytest.mark.slow
@pytest.mark.parametrize("way", NAMING)
def test_module_that_the_program_had_imported_is_compared_at_a_hit_if_data_name_it(
    write: Write, make_engine: Callable[[], Engine], way: str
) -> None:
    write("lib/helper-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: helper\nVersion: 1.0\n")
    write("lib/helper-1.0.dist-info/entry_points.txt", "[of_test]\nvalue = helper:VALUE\n")
    write("plugins/value.py", plugin(in_node=NAMING[way], loads=False))
    for value in (1, 2):
        write("lib/helper.py", f"VALUE = {value}")
        sys.modules.pop("helper", None)
        importlib.import_module("helper")
        assert make_engine().run(one())["out"] == value
        assert make_engine().run(one()).ran == ()


@pytest.fixture
def run_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], types.ModuleType]:
    """Lets `__main__` be the script of the test, as it is now, and as if the process began now."""

    def run() -> types.ModuleType:
        script = types.ModuleType("__main__")
        script.__file__ = str(tmp_path / "script")
        sys.modules.pop("helper", None)
        exec((tmp_path / "script").read_text(), vars(script))
        monkeypatch.setitem(sys.modules, "__main__", script)
        monkeypatch.setattr(loads, "process_start_ns", functools.partial(int, time.time_ns()))
        return script

    return run


@pytest.mark.parametrize("top", slow_after(1, ["import __main__; VALUE = __main__.VALUE", "from __main__ import VALUE"]))
def test_script_that_a_plugin_imports_is_part_of_its_code(
    write: Write, make_engine: Callable[[], Engine], run_script: Callable[[], types.ModuleType], top: str
) -> None:
    """With what the script imports."""
    write("plugins/value.py", plugin(top=top, loads=False))
    for script, helper, value in (("VALUE = 1", 1, 1), ("VALUE = 2", 1, 2), ("from helper import VALUE", 3, 3)):
        write("script", script)
        write("lib/helper.py", f"VALUE = {helper}")
        run_script()
        assert make_engine().run(one())["out"] == value
        assert make_engine().run(one()).ran == ()
    write("lib/helper.py", "VALUE = 4")
    run_script()
    assert make_engine().run(one())["out"] == 4


def test_plugin_that_imports_a_program_without_a_file_is_used_but_not_kept(
    write: Write, make_engine: Callable[[], Engine], run_script: Callable[[], types.ModuleType]
) -> None:
    """As in a notebook, or `python -c`."""
    write("plugins/value.py", plugin(top="from __main__ import VALUE", loads=False))
    write("script", "VALUE = 1")
    run_script().__file__ = None
    engine = make_engine()
    result = engine.run(one())
    assert result["out"] == 1
    assert [notice.message for notice in result.notices] == [
        "its plugin imports __main__, which is in no file; its result is used but not kept. Run a program that is in a file"
    ]
    assert list(engine.cache.entries()) == []


def test_script_of_another_process_is_not_noticed(write: Write, make_engine: Callable[[], Engine]) -> None:
    run = "import subprocess; VALUE = int(subprocess.run([sys.executable, '-I', FILE], capture_output=True, check=True).stdout)"
    write("plugins/value.py", plugin(in_node=run))
    for value in (1, 2):
        write("lib/helper.py", f"print({value})")
        assert make_engine().run(one())["out"] == 1


def test_module_whose_file_is_removed_once_it_is_loaded_is_never_found_again(
    write: Write, make_engine: Callable[[], Engine]
) -> None:
    write("plugins/value.py", plugin(in_node="VALUE = load().VALUE; Path(FILE).unlink()"))
    for value in (1, 1, 2):
        write("lib/helper.py", f"VALUE = {value}")
        result = make_engine().run(one())
        assert (result["out"], result.ran) == (value, ("node",))


def test_new_module_that_is_found_instead_of_another_is_noticed(
    tmp_path: Path, write: Write, make_engine: Callable[[], Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("first/other.py", "")
    monkeypatch.syspath_prepend(tmp_path / "first")
    write("lib/package/__init__.py", "")
    write("lib/package/inner.py", "VALUE = 1")
    write("plugins/value.py", plugin(in_node="VALUE = importlib.import_module('package' + '.inner').VALUE"))
    assert make_engine().run(one())["out"] == 1
    assert make_engine().run(one()).ran == ()
    write("first/package/__init__.py", "")
    write("first/package/inner.py", "VALUE = 2")
    for name in ("package.inner", "package"):
        del sys.modules[name]
    assert make_engine().run(one())["out"] == 2


def test_module_that_a_library_finds_by_a_name_in_data_is_not_noticed(
    tmp_path: Path, write: Write, make_engine: Callable[[], Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `torch.load` does, if the program had imported the module."""
    write("site-packages/unpickling/__init__.py", "from pickle import loads")
    write("site-packages/unpickling-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: unpickling\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    in_node = "VALUE = unpickling.loads(b'chelper\\nVALUE\\n.')"
    write("plugins/value.py", plugin(top="import unpickling", in_node=in_node, loads=False))
    for value in (1, 2):
        write("lib/helper.py", f"VALUE = {value}")
        sys.modules.pop("helper", None)
        importlib.import_module("helper")
        assert make_engine().run(one())["out"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["'ab' + 'sent'", "'few.' + 'absent'"], ids=["top-level", "in a package"])
def test_new_module_where_there_was_none_is_noticed(write: Write, make_engine: Callable[[], Engine], name: str) -> None:
    write("lib/few/__init__.py", "")
    in_node = f"VALUE = importlib.import_module({name}).VALUE if importlib.util.find_spec({name}) else 1"
    write("plugins/value.py", plugin(in_node=in_node))
    assert make_engine().run(one())["out"] == 1
    assert make_engine().run(one()).cached == ("node",)
    write(f"lib/{eval(name).replace('.', '/')}.py", "VALUE = 2")
    assert make_engine().run(one())["out"] == 2


def test_new_module_that_is_found_by_listing_its_folder_is_not_noticed(write: Write, make_engine: Callable[[], Engine]) -> None:
    write("lib/few/__init__.py", "")
    in_node = "VALUE = 1 + len(list(pkgutil.iter_modules(few.__path__)))"
    write("plugins/value.py", plugin(top="import few, pkgutil", in_node=in_node))
    assert make_engine().run(one())["out"] == 1
    write("lib/few/more.py", "")
    assert make_engine().run(one())["out"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("together", [True, False])
def test_module_of_the_same_name_in_another_plugin_is_no_hit(
    tmp_path: Path, write: Write, make_engine: Callable[[], Engine], together: bool
) -> None:
    """Each plugin has its folder in `sys.path`. The first that imports the module has it for both."""
    for number in ("one", "two"):
        top = f"sys.path.insert(0, str(Path(__file__).parent.parent / '{number}'))"
        in_node = "import twin; return twin.VALUE * x"
        text = plugin(top=top, in_node=in_node, loads=False).replace("Value", f"Value{number}")
        write(f"plugins/value_{number}.py", text)
    write("one/twin.py", "VALUE = 1")
    write("two/twin.py", "VALUE = 2")
    workflow = Workflow("one")
    workflow.output("out", workflow.add("Valueone", name="node", x=1))
    before = list(sys.path)
    try:
        engine = make_engine()
        if together:
            other = Workflow("two")
            other.output("out", other.add("Valuetwo", name="node", x=1))
            assert engine.run(other)["out"] == 2
        assert engine.run(workflow)["out"] == 2  # not what its own module would give
        forget_modules_in(tmp_path)
        sys.path[:] = before
        (tmp_path / "plugins" / "value_two.py").unlink()
        assert make_engine().run(workflow)["out"] == 1
    finally:
        sys.path[:] = before


def test_shared_library_that_a_node_loads_is_compared_at_a_hit(
    tmp_path: Path, write: Write, make_engine: Callable[[], Engine]
) -> None:
    libraries = [file for file in map(Path, _files_of_compiled_modules()) if file.suffix == ".so"][:2]
    if len(libraries) < 2:
        pytest.skip("the modules of this Python are in no shared libraries")
    write("lib/shared.so", "").write_bytes(libraries[0].read_bytes())
    in_node = "import ctypes; ctypes.CDLL(str(Path(FILE).parent / 'shared.so')); VALUE = 1"
    write("plugins/value.py", plugin(in_node=in_node, loads=False))
    engine = make_engine()
    assert engine.run(one())["out"] == 1
    assert make_engine().run(one()).cached == ("node",)
    write("lib/other.so", "").write_bytes(libraries[1].read_bytes())
    (tmp_path / "lib" / "other.so").replace(tmp_path / "lib" / "shared.so")
    assert make_engine().run(one()).ran == ("node",)


def _files_of_compiled_modules() -> list[str]:
    return sorted(str(file) for file in Path(json.decoder.__file__).parent.parent.glob("lib-dynload/_[a-h]*.so"))


def test_earlier_state_of_a_module_that_a_node_has_kept_is_not_noticed(write: Write, make_engine: Callable[[], Engine]) -> None:
    in_node = "global KEPT; KEPT = KEPT or load(); load(); VALUE = KEPT.VALUE"
    write("plugins/value.py", plugin(top="KEPT = None", in_node=in_node))
    engine = make_engine()
    assert engine.run(one())["out"] == 1
    write("lib/helper.py", "VALUE = 2")
    assert engine.run(one(3))["out"] == 3
    again = make_engine().run(one(3))
    assert (again["out"], again.cached) == (3, ("node",))
