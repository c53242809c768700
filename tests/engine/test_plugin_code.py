"""The code of a plugin: everything that its result may depend on is in its digest."""

from __future__ import annotations

import fnmatch
import hashlib
import importlib
import os
import py_compile
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nodegraph
from nodegraph import Engine, Workflow
from nodegraph.plugins.code.loads import LOADS
from nodegraph.plugins.code.plugin_code import matcher, read_code
from nodegraph.plugins.code.watch import CodeWatch
from nodegraph.plugins.manager import load_plugins
from tests.support.imported_modules import forget_modules_in
from tests.support.slow import slow_except

PLUGIN = """
from nodegraph import hookimpl, node

@node("Add")
def add(text: str) -> str:
    {imports}
    return text + {value}

@hookimpl
def register_nodes(register):
    register(add)
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a file, as if it were an hour old. Modules of the test are forgotten at its end."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    yield write
    forget_modules_in(tmp_path)


def digest(folder: Path) -> str:
    """The digest of the only plugin in `folder`, as a new process would see it."""
    for name in [name for name in sys.modules if name.startswith("helper")]:
        del sys.modules[name]
    (plugin,) = (plugin for plugin in load_plugins([folder]).loaded if plugin.place.startswith(str(folder)))
    assert plugin.error is None
    assert plugin.origin is not None
    return str(plugin.origin.digest)


IMPORTS = {
    "import": "import helper",
    "below other imports": "from pathlib import Path\n    import helper",
    "at the end of the file": "from pathlib import Path; import helper",
    "import as": "import json, helper as h",
    "from": "from helper import VALUE",
    "from in brackets": "from helper import (\n        VALUE,  # this one\n    )",
    "after a colon": "if True: import helper",
    "after a semicolon": "x = 1; import helper",
    "with a backslash": "from helper \\\n        import VALUE",
    "lazy": "pass",
}


@pytest.mark.parametrize("statement", [s for name, s in IMPORTS.items() if name != "lazy"], ids=[n for n in IMPORTS if n != "lazy"])
def test_module_on_the_path_is_part_of_the_digest(tmp_path, write, monkeypatch, statement):
    monkeypatch.syspath_prepend(tmp_path / "lib")
    write("plugins/adding.py", PLUGIN.format(imports=statement, value="'x'"))
    write("lib/helper.py", "VALUE = 'one'")
    before = digest(tmp_path / "plugins")
    assert digest(tmp_path / "plugins") == before
    write("lib/other.py", "VALUE = 'two'")
    assert digest(tmp_path / "plugins") == before
    write("lib/helper.py", "VALUE = 'two'")
    assert digest(tmp_path / "plugins") != before


@pytest.mark.parametrize("changed", ["helper/__init__.py", "helper/deep/part.py", "helper_too.py", "helper/deep/relative.py"])
def test_indirect_imports_are_part_of_the_digest(tmp_path, write, monkeypatch, changed):
    monkeypatch.syspath_prepend(tmp_path / "lib")
    write("plugins/adding.py", PLUGIN.format(imports="from helper.deep import part", value="part.VALUE"))
    write("lib/helper/__init__.py", "")
    write("lib/helper/unused.py", "")
    write("lib/helper/deep/__init__.py", "")
    write("lib/helper/deep/part.py", "import helper_too\nfrom . import relative\nfrom ..deep.relative import X\nVALUE = 'one'")
    write("lib/helper/deep/relative.py", "X = 1")
    write("lib/helper_too.py", "Y = 1")
    before = digest(tmp_path / "plugins")
    write("lib/helper/unused.py", "changed = 1")
    assert digest(tmp_path / "plugins") == before
    write(f"lib/{changed}", "VALUE = X = Y = 2")
    assert digest(tmp_path / "plugins") != before


def test_included_module_of_a_plain_file(tmp_path, write, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path / "lib")
    text = "__nodegraph_includes__ = ['helper']\n" + PLUGIN.format(imports="import importlib", value="'x'")
    write("plugins/adding.py", text)
    write("lib/helper/__init__.py", "")
    write("lib/helper/table.json", "1")
    before = digest(tmp_path / "plugins")
    write("lib/helper/table.json", "2")
    assert digest(tmp_path / "plugins") != before


@pytest.mark.parametrize("name", ["prompt.md", "table.json", "icon.png", "deep/template.txt", ".hidden.json", ".deep/template.txt"])
def test_every_file_of_a_package_is_part_of_the_digest(tmp_path, write, name):
    write("plugins/pack/__init__.py", PLUGIN.format(imports="pass", value="'x'"))
    write(f"plugins/pack/{name}", "one")
    before = digest(tmp_path / "plugins")
    write(f"plugins/pack/{name}", "two")
    assert digest(tmp_path / "plugins") != before


@pytest.mark.parametrize(
    "name", [".git/HEAD", ".DS_Store", ".prompt.md.swp", "deep/.mypy_cache/x.json", "__pycache__/a.pyc", "a.pyc"]
)
def test_files_of_tools_are_not_part_of_the_digest(tmp_path, write, name):
    write("plugins/pack/__init__.py", PLUGIN.format(imports="pass", value="'x'"))
    write("plugins/pack/deep/table.json", "1")
    before = digest(tmp_path / "plugins")
    write(f"plugins/pack/{name}", "two")
    assert digest(tmp_path / "plugins") == before


def test_folders_behind_links_are_part_of_the_digest(tmp_path, write):
    write("plugins/pack/__init__.py", PLUGIN.format(imports="pass", value="'x'"))
    write("tables/deep/table.json", "one")
    (tmp_path / "plugins/pack/tables").symlink_to(tmp_path / "tables")
    before = digest(tmp_path / "plugins")
    (tmp_path / "tables/again").symlink_to(tmp_path / "tables")
    (tmp_path / "tables/whole").symlink_to(tmp_path / "plugins")
    (tmp_path / "plugins/pack/itself").symlink_to(tmp_path / "plugins/pack")
    digest(tmp_path / "plugins")  # ends
    for link in ("tables/again", "tables/whole", "plugins/pack/itself"):
        (tmp_path / link).unlink()
    assert digest(tmp_path / "plugins") == before
    write("tables/deep/table.json", "two")
    assert digest(tmp_path / "plugins") != before


def test_installed_libraries_and_the_engine_are_not_read(tmp_path, write):
    path = write("adding.py", "import json\nimport torch\nimport numpy.linalg\nfrom nodegraph import node\nimport no_such_module\n")
    code = read_code({path: None})
    assert list(code.files) == [str(path)]
    assert {Path(library).parent.name for library in code.libraries} == {"torch", "numpy"}


def test_prose_is_not_an_import(tmp_path, write):
    path = write("adding.py", '"""To import helper, write what you want; from there, import other things."""\n')
    write("helper.py", "")
    assert list(read_code({path: None}).files) == [str(path)]


@given(st.lists(st.text("ab.*?[]!-", max_size=6), max_size=4), st.text("ab.*[!]-", max_size=6))
@settings(max_examples=300, deadline=None)
def test_excluded_names_are_those_that_fnmatch_finds(patterns, name):
    assert matcher(patterns)(name) == any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def test_helper_that_changed_after_its_import_is_unknown_code(tmp_path, write, monkeypatch):
    """The module that runs is the one that was imported first."""
    monkeypatch.syspath_prepend(tmp_path / "lib")
    write("plugins/adding.py", "import helper\n" + PLUGIN.format(imports="pass", value="helper.VALUE"))
    write("lib/helper.py", "VALUE = 'one'")
    load_plugins([tmp_path / "plugins"])
    write("lib/helper.py", "VALUE = 'two'")
    digests = {load_plugins([tmp_path / "plugins"]).origin("adding").digest for _ in range(2)}
    assert len(digests) == 2  # no key ever names this code again


@given(st.binary(max_size=200))
@settings(max_examples=60, deadline=None)
def test_any_bytes_can_be_read(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("code") / "adding.py"
    path.write_bytes(b"import " + content)
    assert str(path) in read_code({path: None}).files


def test_two_installs_of_one_version_are_different_code(tmp_path, write, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    write("site-packages/a_pack.py", PLUGIN.format(imports="pass", value="'x'"))
    write("site-packages/a_pack-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: a-pack\nVersion: 1.0\n")
    write("site-packages/a_pack-1.0.dist-info/entry_points.txt", "[nodegraph]\nnodes = a_pack\n")
    record = "a_pack.py,sha256={},100\na_pack-1.0.dist-info/RECORD,,\n__pycache__/a_pack.pyc,,\n../../bin/x,sha256=aa,5\n"
    write("site-packages/a_pack-1.0.dist-info/RECORD", record.format("aaaa"))
    first = load_plugins().origin("a_pack")
    assert load_plugins().origin("a_pack") == first
    write("site-packages/a_pack-1.0.dist-info/RECORD", record.format("aaaa").replace("bin/x,sha256=aa", "bin/x,sha256=bb"))
    assert load_plugins().origin("a_pack") == first  # scripts contain the path of the environment
    write("site-packages/a_pack-1.0.dist-info/RECORD", record.format("bbbb"))
    assert load_plugins().origin("a_pack").identity != first.identity


def test_module_that_hides_a_standard_one_is_part_of_the_digest(tmp_path, write, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path / "lib")
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    write("plugins/adding.py", PLUGIN.format(imports="import colorsys", value="colorsys.VALUE"))
    standard = digest(tmp_path / "plugins")
    write("lib/colorsys.py", "VALUE = 'one'")
    before = digest(tmp_path / "plugins")
    write("lib/colorsys.py", "VALUE = 'two'")
    assert len({standard, before, digest(tmp_path / "plugins")}) == 3


def test_archive_with_a_helper_is_part_of_the_digest(tmp_path, write, monkeypatch):
    def pack(value: str) -> None:
        with zipfile.ZipFile(tmp_path / "lib.zip", "w") as archive:
            archive.writestr("helper_zipped/__init__.py", "import helper_beside")
            archive.writestr("helper_zipped/part.py", f"VALUE = {value!r}")

    pack("one")
    monkeypatch.syspath_prepend(tmp_path / "lib")
    monkeypatch.syspath_prepend(tmp_path / "lib.zip")
    write("plugins/adding.py", PLUGIN.format(imports="from helper_zipped import part", value="part.VALUE"))
    write("lib/helper_beside.py", "")
    digests = [digest(tmp_path / "plugins")]
    assert digest(tmp_path / "plugins") == digests[0]
    pack("two")
    digests.append(digest(tmp_path / "plugins"))
    write("lib/helper_beside.py", "X = 1")
    digests.append(digest(tmp_path / "plugins"))
    assert len(set(digests)) == 3


@pytest.fixture
def release(tmp_path, write, monkeypatch):
    """Installs a release of a plugin with this code; `helper_outside` is on PYTHONPATH."""
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    monkeypatch.syspath_prepend(tmp_path / "lib")

    def install(text: str) -> None:
        write("lib/helper_outside/__init__.py", "VALUE = 'one'")
        write("lib/helper_outside/table.json", "1")
        write("site-packages/b_pack/__init__.py", "")
        write("site-packages/b_pack/plugin.py", text)
        write("site-packages/b_pack-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: b-pack\nVersion: 1.0\n")
        write("site-packages/b_pack-1.0.dist-info/entry_points.txt", "[nodegraph]\nnodes = b_pack.plugin\n")
        record = "b_pack/__init__.py,sha256=aa,0\nb_pack/plugin.py,sha256=bb,100\nb_pack/gone.py,sha256=cc,100\n"
        write("site-packages/b_pack-1.0.dist-info/RECORD", record)

    return install


def release_identity() -> str:
    for name in [name for name in sys.modules if name.startswith(("helper", "b_pack"))]:
        del sys.modules[name]
    origin = load_plugins().origin("b_pack")
    assert origin is not None
    return origin.identity


def test_module_that_a_release_imports_from_outside_is_part_of_its_code(release, write):
    release(PLUGIN.format(imports="import helper_outside", value="helper_outside.VALUE"))
    before = release_identity()
    assert release_identity() == before
    write("lib/helper_outside/table.json", "2")
    write("lib/helper_other.py", "")
    assert release_identity() == before
    write("lib/helper_outside/__init__.py", "VALUE = 'two'")
    assert release_identity() != before


def test_package_that_a_release_includes_is_part_of_its_code(release, write):
    release("__nodegraph_includes__ = ['helper_outside']\n" + PLUGIN.format(imports="pass", value="''"))
    before = release_identity()
    write("lib/helper_outside/table.json", "2")
    assert release_identity() != before


def test_edited_helper_is_a_miss(tmp_path, write, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path / "lib")
    write("plugins/adding.py", PLUGIN.format(imports="import helper", value="helper.VALUE"))
    write("lib/helper.py", "VALUE = ' one'")

    def run() -> tuple[tuple[str, ...], str]:
        for name in [name for name in sys.modules if name.startswith("helper")]:
            del sys.modules[name]
        engine = Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"])
        workflow = Workflow("w")
        workflow.output("out", workflow.add("Add", name="add", text="text"))
        result = engine.run(workflow)
        return result.ran, result["out"]

    assert run() == (("add",), "text one")
    assert run() == ((), "text one")
    path = write("lib/helper.py", "VALUE = ' two'")
    os.utime(path, (1, 1))
    assert run() == (("add",), "text two")


# --- while nodes run

LAZY = """
from pathlib import Path
from nodegraph import hookimpl, node

@node("Lazy")
def lazy(text: str) -> str:
    from . import part
    return text + part.VALUE

@node("Reads")
def reads(text: str) -> str:
    return text + (Path(__file__).parent / "prompt.md").read_text()

@node("Edit")
def edit(path: str, content: str) -> str:
    Path(path).write_text(content)
    return ""

@node("Dynamic")
def dynamic(module: str, text: str) -> str:
    import importlib
    return text + importlib.import_module(module).VALUE

@hookimpl
def register_nodes(register):
    for function in (lazy, reads, edit, dynamic):
        register(function)
"""


@pytest.fixture
def lazy(tmp_path, write):
    write("plugins/pack/__init__.py", LAZY)
    write("plugins/pack/part.py", "VALUE = ' one'")
    write("plugins/pack/prompt.md", " one")
    return tmp_path / "plugins" / "pack"


@pytest.mark.parametrize(("type", "file", "content"), [("Lazy", "part.py", "VALUE = ' two'"), ("Reads", "prompt.md", " two")])
def test_plugin_edited_while_it_runs_is_used_but_not_kept(tmp_path, lazy, type, file, content):
    engine = Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"])
    workflow = Workflow("w")
    edited = workflow.add("Edit", name="edited", path=str(lazy / file), content=content)
    workflow.output("out", workflow.add(type, name="late", text=edited))
    result = engine.run(workflow)
    assert result["out"] == " two"
    assert any("was changed while this process ran; its result is used but not kept" in notice.message for notice in result.notices)
    assert "late" not in {record.node for record in engine.cache.entries()}
    restarted = Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"]).run(workflow)
    assert set(restarted.ran) == {"edited", "late"}


def test_edit_of_a_module_that_is_already_imported_does_no_harm(tmp_path, lazy):
    engine = Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"])
    workflow = Workflow("w")
    first = workflow.add("Lazy", name="first", text="a")
    edited = workflow.add("Edit", name="edited", path=str(lazy / "part.py"), content="VALUE = ' two'")
    workflow.output("out", workflow.add("Lazy", name="second", text=edited))
    engine.run(workflow, targets=[first])
    result = engine.run(workflow)
    assert result["out"] == " one"
    assert result.notices == ()


def test_module_imported_by_a_computed_name_is_compared_at_a_hit(tmp_path, lazy, write, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path / "lib")
    helper = write("lib/helper_dynamic.py", "VALUE = ' one'")
    os.utime(helper, (1, 1))
    time.sleep(0.02)  # its time of change cannot be set back
    engine = Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"])
    workflow = Workflow.parse(
        "nodegraph: 1\nnodes: {node: {use: Dynamic, module: helper_dynamic, text: a}}\noutputs: {out: $node}\n"
    )
    assert engine.run(workflow)["out"] == "a one"
    assert Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"]).run(workflow).ran == ()
    write("lib/helper_dynamic.py", "VALUE = ' two'")
    sys.modules.pop("helper_dynamic")
    again = Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"]).run(workflow)
    assert (again.ran, again["out"]) == (("node",), "a two")


@pytest.fixture
def run_dynamic(tmp_path, lazy, write, monkeypatch):
    """Runs a node that imports `helper_dynamic` by its name, in a new engine: whether it ran, what it returned, and the record."""
    monkeypatch.syspath_prepend(tmp_path / "lib")
    write("lib/helper_dynamic.py", "VALUE = ' one'")
    time.sleep(0.02)

    def run(text: str):
        engine = Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"])
        node = f"{{use: Dynamic, module: helper_dynamic, text: {text}}}"
        result = engine.run(Workflow.parse(f"nodegraph: 1\nnodes: {{node: {node}}}\noutputs: {{out: $node}}\n"))
        return result.ran, result["out"], engine

    return run


def edited(write) -> None:
    write("lib/helper_dynamic.py", "VALUE = ' two'")
    sys.modules.pop("helper_dynamic")


def test_computed_import_of_a_second_run_of_the_process_is_compared_at_a_hit(run_dynamic, write):
    assert run_dynamic("a")[:2] == (("node",), "a one")
    assert run_dynamic("b")[:2] == (("node",), "b one")
    assert run_dynamic("b")[:2] == ((), "b one")
    edited(write)
    assert run_dynamic("b")[:2] == (("node",), "b two")


def test_computed_import_of_what_the_script_had_imported_is_compared_at_a_hit(tmp_path, run_dynamic, write):
    load_plugins([tmp_path / "plugins"])
    importlib.import_module("helper_dynamic")
    assert run_dynamic("a")[:2] == (("node",), "a one")
    assert run_dynamic("a")[:2] == ((), "a one")
    edited(write)
    assert run_dynamic("a")[:2] == (("node",), "a two")


def test_module_that_was_edited_after_the_script_imported_it_is_not_kept(tmp_path, run_dynamic, write):
    load_plugins([tmp_path / "plugins"])
    importlib.import_module("helper_dynamic")
    write("lib/helper_dynamic.py", "VALUE = ' two'")
    assert run_dynamic("a")[:2] == (("node",), "a one")
    sys.modules.pop("helper_dynamic")
    assert run_dynamic("a")[:2] == (("node",), "a two")


def test_computed_import_at_the_top_of_a_plugin_is_compared_at_a_hit(tmp_path, run_dynamic, write):
    text = "import importlib\nhelper = importlib.import_module('helper_' + 'dynamic')\n"
    write("plugins/pack/__init__.py", text + LAZY.replace("text + part.VALUE", "text + helper.VALUE"))
    workflow = Workflow.parse("nodegraph: 1\nnodes: {node: {use: Lazy, text: a}}\noutputs: {out: $node}\n")

    def run():
        result = Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"]).run(workflow)
        return result.ran, result["out"]

    assert run() == (("node",), "a one")
    assert run() == ((), "a one")
    edited(write)
    assert run() == (("node",), "a two")


def test_the_script_the_engine_and_plugins_are_not_recorded_as_imports(tmp_path, run_dynamic, monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(tmp_path / "script.py"), raising=False)
    (tmp_path / "script.py").write_text("")
    engine = run_dynamic("a")[2]
    (record,) = engine.cache.entries()
    imports = set(record.computation.imports)
    assert str(tmp_path / "lib" / "helper_dynamic.py") in imports
    assert str(tmp_path / "script.py") not in imports
    assert not [path for path in imports if path.startswith((str(Path(nodegraph.__file__).parent), str(tmp_path / "plugins")))]


def add_workflow(text: str) -> Workflow:
    workflow = Workflow("w")
    workflow.output("out", workflow.add("Add", name="node", text=text))
    return workflow


def test_module_that_the_script_imports_between_runs_costs_no_hit(tmp_path, write, monkeypatch):
    """As in a notebook, where a cell imports a file that is edited later."""
    monkeypatch.syspath_prepend(tmp_path / "lib")
    write("plugins/adding.py", PLUGIN.format(imports="pass", value="'x'"))
    engine = Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"])
    engine.run(add_workflow("a"))
    write("lib/of_the_script.py", "VALUE = 1")
    importlib.invalidate_caches()
    importlib.import_module("of_the_script")
    assert engine.run(add_workflow("b")).ran == ("node",)
    assert [dict(record.computation.imports) for record in engine.cache.entries()] == [{}, {}]
    write("lib/of_the_script.py", "VALUE = 2")
    assert Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"]).run(add_workflow("b")).ran == ()


def test_module_that_a_node_imports_is_recorded_although_its_source_does_not_name_it(tmp_path, write, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path / "lib")
    helper = write("lib/helper_hidden.py", "VALUE = ' one'")
    write("plugins/adding.py", PLUGIN.format(imports="pass", value="eval('__imp' + 'ort__')('helper_hidden').VALUE"))
    engine = Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"])
    engine.run(add_workflow("a"))
    (record,) = engine.cache.entries()
    assert dict(record.computation.imports) == {
        str(helper): hashlib.sha256(helper.read_bytes()).hexdigest(),
        "module helper_hidden": str(helper),
    }


def test_module_that_a_node_of_another_plugin_imports_costs_no_hit(tmp_path, write, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path / "lib")
    helper = write("lib/helper_hidden.py", "VALUE = ' one'")
    time.sleep(0.02)
    plugin = PLUGIN.format(imports="pass", value="eval('__imp' + 'ort__')('helper_hidden').VALUE")
    write("plugins/importing.py", plugin.replace('"Add"', '"Import"'))
    write("plugins/adding.py", PLUGIN.format(imports="pass", value="'x'"))
    engine = Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"])
    workflow = Workflow("w")
    workflow.output("out", workflow.add("Import", name="node", text="a"))
    engine.run(workflow)
    engine.run(add_workflow("a"))
    imports = {record.type: set(record.computation.imports) for record in engine.cache.entries()}
    assert imports == {"Import": {str(helper), "module helper_hidden"}, "Add": set()}


def test_engine_modules_that_are_imported_while_nodes_run_are_not_recorded(monkeypatch):
    monkeypatch.delitem(sys.modules, "nodegraph.run.display.time_left", raising=False)
    watch = CodeWatch({}, places={}, start=len(LOADS), registering={})
    importlib.import_module("nodegraph.run.display.time_left")
    assert watch.imports(()) == {}


# --- modules that are found or loaded in unusual ways: an edit of them is no hit, in a new process

RUNNING = """
import sys
from nodegraph import Engine, Workflow

workflow = Workflow("w")
workflow.output("out", workflow.add("Add", name="node", text=""))
result = Engine("cache", plugin_dirs=["plugins"]).run(workflow)
print(result["out"], "ran" if result.ran else "cached")
"""


@pytest.fixture
def run_plugin(tmp_path, write):
    """Runs the only node of a plugin in a new process: what it returned, and whether it ran."""
    write("go.py", RUNNING)
    write("lib/unused.py", "")

    def run() -> tuple[str, str]:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path / "lib"), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, str(tmp_path / "go.py")]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        value, state = done.stdout.split()
        return value, state

    return run


def bytecode(path: Path, value: str) -> None:
    """A module without its source."""
    source = path.with_name("source_of_it.txt")
    source.write_text(f"VALUE = '{value}'")
    py_compile.compile(str(source), cfile=str(path), doraise=True)


def archive(path: Path, value: str) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("helper.py", f"VALUE = '{value}'")


def source(path: Path, value: str) -> None:
    path.write_text(f"VALUE = '{value}'")


BY_PATH = "importlib.util.spec_from_file_location('helper', Path(__file__).parent / '_helper.py')"
FROM_SPEC = f"spec = {BY_PATH}; m = importlib.util.module_from_spec(spec); spec.loader.exec_module(m)"
ZIP = "Path(__file__).parent.parent / 'z' / 'h.zip'"
OTHER = "sys.path.insert(0, str(Path(__file__).parent.parent / 'other')); import helper as m; sys.path.pop(0)"
LOADER = "m = L('helper', str(Path(__file__).parent / '_helper.py')).load_module()"
HEAD = "import importlib, importlib.util, sys\nfrom pathlib import Path\n"
UNUSUAL = {
    "by its path, at import": (f"{FROM_SPEC}\n", "pass", "plugins/_helper.py", source),
    "by its path, in the node": ("", FROM_SPEC, "plugins/_helper.py", source),
    "by a loader": (f"from importlib.machinery import SourceFileLoader as L\n{LOADER}\n", "pass", "plugins/_helper.py", source),
    "by pydoc": ("import pydoc\nm = pydoc.locate('helper')\n", "pass", "lib/helper.py", source),
    "removed at once": ("", "m = importlib.import_module('helper'); sys.modules.pop('helper')", "lib/helper.py", source),
    "loaded anew": ("import helper as m\n", "importlib.reload(sys.modules['helper'])", "lib/helper.py", source),
    "while the path was longer": (f"{OTHER}\n", "pass", "other/helper.py", source),
    "bytecode": ("import helper as m\n", "pass", "lib/helper.pyc", bytecode),
    "bytecode that hides a standard module": ("import colorsys as m\n", "pass", "lib/colorsys.pyc", bytecode),
    "from an archive": (
        f"import zipimport\nm = zipimport.zipimporter(str({ZIP})).load_module('helper')\n",
        "pass",
        "z/h.zip",
        archive,
    ),
    "a name of the plugin's own": ("import adding as m\n", "pass", "lib/adding.py", source),
    "a lazy package": ("import lazy_package\nm = lazy_package.core\n", "pass", "lib/lazy_package/core.py", source),
    "of which another plugin knows": ("", "m = importlib.import_module('helper_' + 'of_two')", "lib/helper_of_two.py", source),
    "above an included package": ("import included.sub.work as m\n", "pass", "lib/included/constants.py", source),
    "everything of a package": ("from whole_package import *\nm = core\n", "pass", "lib/whole_package/core.py", source),
}
PACKAGES = {
    "lib/lazy_package/__init__.py": "import importlib\n"
    "def __getattr__(name):\n    return importlib.import_module(f'{__name__}.{name}')\n",
    "lib/whole_package/__init__.py": "__all__ = ['core']\n",
    "lib/included/__init__.py": "",
    "lib/included/sub/__init__.py": "",
    "lib/included/sub/work.py": "from ..constants import VALUE",
    "plugins/other.py": "import sys\nif False:\n    import helper_of_two\n",
}


def test_module_that_was_loaded_anew_from_another_state_of_its_file_is_not_kept(tmp_path, write, monkeypatch):
    """As by a node, or by a notebook that loads edited modules again."""
    monkeypatch.syspath_prepend(tmp_path / "lib")
    helper = write("lib/helper_anew.py", "VALUE = 'one'")
    time.sleep(0.02)
    text = PLUGIN.format(imports="import importlib", value="importlib.reload(helper_anew).VALUE")
    write("plugins/adding.py", f"import helper_anew\n{text}")
    engine = Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"])
    helper.write_text("VALUE = 'two'")
    result = engine.run(add_workflow("a"))
    assert result["out"] == "atwo"
    assert f"the code in {helper} was changed while this process ran" in result.notices[0].message
    assert list(engine.cache.entries()) == []


@pytest.mark.parametrize("cache_dir", ["cache", None])
def test_result_in_memory_is_no_hit_once_a_module_that_its_node_loads_each_time_was_edited(tmp_path, write, cache_dir):
    helper = write("plugins/_helper.py", "VALUE = 'one'")
    time.sleep(0.02)
    write("plugins/adding.py", HEAD + PLUGIN.format(imports=FROM_SPEC, value="m.VALUE"))
    engine = Engine(None if cache_dir is None else tmp_path / cache_dir, plugin_dirs=[tmp_path / "plugins"])
    assert engine.run(add_workflow("a"))["out"] == "aone"
    assert engine.run(add_workflow("a")).ran == ()
    helper.write_text("VALUE = 'other'")
    assert engine.run(add_workflow("a"))["out"] == "aother"


def test_computed_name_that_finds_another_folder_is_no_hit(tmp_path, write, monkeypatch):
    write(
        "plugins/adding.py", PLUGIN.format(imports="import importlib", value="importlib.import_module('helper_'+'on_path').VALUE")
    )
    for folder in ("one", "two"):
        write(f"{folder}/helper_on_path.py", f"VALUE = '{folder}'")
    time.sleep(0.02)
    for folder in ("one", "two"):
        with monkeypatch.context() as context:
            context.syspath_prepend(tmp_path / folder)
            sys.modules.pop("helper_on_path", None)
            assert Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"]).run(add_workflow("a"))["out"] == f"a{folder}"


def test_archive_may_have_any_name(tmp_path, write, monkeypatch):
    file = write("lib/helpers.bundle", "")
    archive(file, "one")
    monkeypatch.syspath_prepend(file)
    write("plugins/adding.py", PLUGIN.format(imports="import helper", value="helper.VALUE"))
    before = digest(tmp_path / "plugins")
    archive(file, "two")
    assert digest(tmp_path / "plugins") != before


FAST = ("by its path, in the node", "a lazy package")


@pytest.mark.parametrize("way", slow_except(FAST, UNUSUAL))
def test_module_that_is_loaded_in_an_unusual_way_counts(run_plugin, write, tmp_path, way):
    top, in_node, file, make = UNUSUAL[way]
    text = PLUGIN.format(imports=in_node, value="m.VALUE")
    includes = "__nodegraph_includes__ = ['included.sub']\n" if "included" in way else ""
    write("plugins/adding.py", f"{HEAD}{includes}{top}{text}")
    for name, content in PACKAGES.items():
        write(name, content)
    path = write(file, "")
    make(path, "one")
    time.sleep(0.02)
    assert run_plugin() == ("one", "ran")
    assert run_plugin() == ("one", "cached")
    make(path, "two")
    time.sleep(0.02)
    assert run_plugin() == ("two", "ran")
