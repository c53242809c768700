"""Finding and loading plugins, and errors of broken ones."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pluggy
import pytest

from nodegraph import Engine, PluginError, Workflow, WorkflowError, hookimpl
from nodegraph.plugin_api import Numerics
from nodegraph.plugins.code.plugin_code import read_code
from nodegraph.plugins.manager import LoadedPlugin, Plugins, load_plugins
from tests.support.imported_modules import forget_modules_in
from tests.support.plugin_folders import STUB_PLUGINS

SAY = """
    from nodegraph import hookimpl, node

    @node("Say")
    def say(text: str = "") -> str:
        return text

    @hookimpl
    def register_nodes(register):
        register(say)
"""


@pytest.fixture(autouse=True)
def _no_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """No entry point but those of the test."""
    monkeypatch.delenv("NODEGRAPH_PLUGIN_DIR", raising=False)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [])


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    def write(name: str, code: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(code))
        return path

    return write


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Installs a distribution with entry points: its .dist-info and a path; modules are forgotten afterwards."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    dists: list[importlib.metadata.Distribution] = []

    def entry_points(group: str) -> list[importlib.metadata.EntryPoint]:
        assert group == "nodegraph"
        return [point for dist in dists for point in dist.entry_points]

    def install(name: str, version: str, *points: str, direct_url: Any = None) -> None:
        info = site / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text("[nodegraph]\n" + "\n".join(points))
        if direct_url is not None:
            (info / "direct_url.json").write_text(direct_url if isinstance(direct_url, str) else json.dumps(direct_url))
        dists.append(importlib.metadata.Distribution.at(info))
        time.sleep(0.02)  # a plugin whose files changed just before its import may have changed during the import, too

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    yield install
    forget_modules_in(tmp_path)


def tree_digest(roots, excludes=()):
    return read_code(dict.fromkeys(roots), excludes).digest


def only(plugins: Plugins) -> LoadedPlugin:
    (plugin,) = plugins.loaded
    return plugin


def error(plugins: Plugins) -> str:
    (plugin,) = plugins.broken()
    assert plugin.error is not None
    return plugin.error


# --- folders


def test_files_and_packages_in_a_folder_are_plugins(tmp_path, write):
    write("say.py", SAY)
    write("pack/__init__.py", "from .helper import register_nodes\n__version__ = '1.2'\n")
    write("pack/helper.py", SAY.replace('"Say"', '"Shout"'))
    write("_not.py", "raise Exception")
    write(".hidden.py", "raise Exception")
    write("notes.txt", "raise Exception")
    write("no_package/module.py", "raise Exception")
    plugins = load_plugins([tmp_path])
    plugins.require_sound()
    assert [(plugin.name, plugin.place) for plugin in plugins.loaded] == [
        ("pack", f"{tmp_path}/pack"),
        ("say", f"{tmp_path}/say.py"),
    ]
    assert plugins.nodes.names() == ["Say", "Shout"]
    origin = plugins.nodes.get("Shout").origin
    assert (origin.plugin, origin.version, origin.place) == ("pack", "1.2", f"{tmp_path}/pack")
    assert origin == plugins.origin("pack")
    assert origin.identity == f"pack {tree_digest([tmp_path / 'pack'])}"
    assert all(plugin.seconds > 0 for plugin in plugins.loaded)
    assert plugins.nodes.get("Say").value.function("hello") == "hello"
    assert plugins.origin("unknown") is None


def test_folders_also_come_from_the_environment(tmp_path, write, monkeypatch):
    write("a/one.py", SAY)
    write("b/two.py", SAY.replace('"Say"', '"Shout"'))
    monkeypatch.setenv("NODEGRAPH_PLUGIN_DIR", os.pathsep.join(["", str(tmp_path / "a"), str(tmp_path / "b")]))
    plugins = load_plugins([tmp_path / "a", str(tmp_path / "b" / ".." / "a")])
    assert [plugin.name for plugin in plugins.loaded] == ["one", "two"]


def test_current_folder_is_not_searched(tmp_path, write, monkeypatch):
    write("say.py", SAY)
    monkeypatch.chdir(tmp_path)
    assert load_plugins().loaded == ()


@pytest.mark.parametrize("folder", ["nothing", "file.py", "~unknown-user-name/plugins"])
def test_missing_folder_is_an_error(tmp_path, write, monkeypatch, folder):
    write("file.py", "")
    monkeypatch.chdir(tmp_path)
    plugins = load_plugins([folder])
    assert error(plugins).startswith(f"[E304] plugin folder {tmp_path}/{folder} cannot be read: N")
    assert error(plugins).endswith("Name a folder that holds .py files or packages")
    with pytest.raises(PluginError, match="plugin folder"):
        plugins.require_sound()


def test_file_plugin_cannot_hide_a_module(tmp_path, write):
    write("json.py", SAY)
    assert only(load_plugins([tmp_path])).error is None
    assert hasattr(json, "dumps")
    assert sys.modules["json"] is json


# --- plugins that cannot be loaded


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import nothing_there", "ModuleNotFoundError: No module named 'nothing_there' ({path}:1)"),
        ("x = 1\ndef f(:\n", "invalid syntax ({path}:2:7)"),
        ("x = 1\n1 / 0", "ZeroDivisionError: division by zero ({path}:2)"),
        ("import sys\nsys.exit('usage')", "SystemExit: usage ({path}:2)"),
        ("x = '\0'", "SyntaxError: source code string cannot contain null bytes"),
    ],
)
def test_broken_file_is_named_with_the_reason(tmp_path, write, code, message):
    path = write("broken.py", code)
    write("say.py", SAY)
    plugins = load_plugins([tmp_path])
    start = f"[E304] plugin 'broken' ({path}) cannot be loaded: "
    assert error(plugins).startswith(start + message.format(path=path)) or error(plugins).startswith(
        start + message.partition(": ")[2]
    )
    assert plugins.nodes.names() == ["Say"]
    assert plugins.why_broken() == f" {error(plugins)}."
    assert plugins.origin("broken") is None
    plugins.require_sound()  # the others may be used
    assert not [name for name in sys.modules if name.startswith("nodegraph_plugin_broken")]


def broken_hook(write: Callable[[str, str], Path], tmp_path: Path, code: str) -> str:
    """The error of a plugin with this code: it is fatal and starts with the plugin's name and path."""
    path = write("wrong.py", f"from nodegraph import hookimpl, hookspec, node\n{textwrap.dedent(code)}")
    plugins = load_plugins([tmp_path])
    with pytest.raises(PluginError) as caught:
        plugins.require_sound()
    assert str(caught.value) == error(plugins)
    origin = f"plugin 'wrong' ({path})"
    assert origin in error(plugins)
    return error(plugins).replace(origin, "WRONG").replace(str(path), "PATH")


def test_misspelt_hook_is_an_error(tmp_path, write):
    message = broken_hook(write, tmp_path, "@hookimpl\ndef register_node(register): ...")
    assert message == "[E303] WRONG: it implements 'register_node', which is not a hook. Did you mean 'register_nodes'?"
    message = broken_hook(write, tmp_path, "@hookimpl\ndef prepare(): ...")
    assert message.startswith("[E303] WRONG: it implements 'prepare', which is not a hook. The hooks are add_hooks, describe")


def test_undecorated_hook_is_an_error(tmp_path, write):
    message = broken_hook(write, tmp_path, "def register_nodes(register): ...\n@hookimpl\ndef on_event(event): ...")
    assert message == "[E303] WRONG: its function register_nodes is never called. Decorate it with @hookimpl"


def test_plain_function_can_have_a_hook_name(tmp_path, write):
    write("own.py", "def on_event(value): ...\ndef registered(name): ...\nregister_nodes = 'text'\n")
    assert only(load_plugins([tmp_path])).error is None


def test_wrong_hook_arguments_are_errors(tmp_path, write):
    message = broken_hook(write, tmp_path, "@hookimpl\ndef register_nodes(registr): ...")
    assert message == "[E303] WRONG: its hook register_nodes(registr) has a parameter 'registr'. Expected register"
    message = broken_hook(write, tmp_path, "@hookimpl\ndef on_event(event, a, b): ...")
    assert message == "[E303] WRONG: its hook on_event(event, a, b) has parameters 'a' and 'b'. Expected event"


def test_hook_can_take_no_arguments(tmp_path, write):
    write("quiet.py", "from nodegraph import hookimpl\n@hookimpl\ndef register_nodes(): ...\n@hookimpl\ndef on_event(): ...\n")
    assert only(load_plugins([tmp_path])).error is None


def test_exception_in_a_hook_is_reported(tmp_path, write):
    message = broken_hook(write, tmp_path, "@hookimpl\ndef register_nodes(register):\n    1 / 0")
    assert message == "[E303] WRONG, in register_nodes: ZeroDivisionError: division by zero (PATH:4)"
    message = broken_hook(write, tmp_path, "@hookimpl\ndef register_nodes(register):\n    register('Say', len)")
    assert message.startswith("[E303] WRONG, in register_nodes: TypeError: ")
    assert message.endswith("takes 1 positional argument but 2 were given (PATH:4)")
    message = broken_hook(write, tmp_path, "@hookimpl\ndef add_hooks(pluginmanager):\n    pluginmanager.nothing()")
    assert message == "[E303] WRONG: add_hooks failed: AttributeError: 'PluginManager' object has no attribute 'nothing' (PATH:4)"


def test_wrong_registrations_are_errors(tmp_path, write):
    message = broken_hook(write, tmp_path, "@hookimpl\ndef register_nodes(register):\n    register(len)")
    assert message == "[E302] WRONG: len is not a node type. Decorate it with @node('Name') before it is registered"
    message = broken_hook(write, tmp_path, "@node('F')\ndef f(x): ...\n@hookimpl\ndef register_nodes(register):\n    register(f)")
    assert message == "[E302] WRONG: node type 'F' (f): parameter 'x' has no type. Annotate it"
    message = broken_hook(write, tmp_path, "@hookimpl\ndef register_codecs(register):\n    register(int, None)")
    assert message == "[E301] WRONG registers a codec for int, which has one from 'nodegraph'. Remove one"


def test_two_plugins_cannot_claim_one_entry(tmp_path, write):
    one, two = write("one.py", SAY), write("two.py", SAY)
    plugins = load_plugins([tmp_path])
    with pytest.raises(PluginError) as caught:
        plugins.require_sound()
    assert (
        str(caught.value)
        == f"[E301] two plugins register the node type 'Say': 'one' ({one}) and 'two' ({two}). Rename or remove one"
    )
    assert plugins.nodes.get("Say").origin.plugin == "one"


def test_two_plugins_cannot_share_a_name(tmp_path, write):
    first, second = write("a/same.py", SAY), write("b/same.py", SAY.replace('"Say"', '"Shout"'))
    plugins = load_plugins([tmp_path / "a", tmp_path / "b"])
    assert error(plugins) == f"[E301] two plugins are called 'same': {first} and {second}. Rename or remove one"
    assert plugins.nodes.names() == ["Say"]
    with pytest.raises(PluginError):
        plugins.require_sound()


# --- hooks that a plugin adds


FILTERS = """
    from nodegraph import hookimpl
    @hookimpl
    def register_filters(register):
        register("title", str.title, tested=True)
"""


def test_pack_can_add_a_hook_and_a_registry(tmp_path, write):
    write("a_before.py", FILTERS)
    write("z_after.py", FILTERS.replace('"title"', '"swap"'))
    plugins = load_plugins([tmp_path, STUB_PLUGINS])
    plugins.require_sound()
    filters = plugins.registries["filters"]
    assert filters.names() == ["broken", "lower", "swap", "title", "upper"]
    entry = filters.get("title")
    assert (entry.value, entry.origin.plugin, entry.meta) == (str.title, "a_before", {"tested": True})
    assert isinstance(plugins.manager, pluggy.PluginManager)
    assert plugins.codecs.by_name("blob") is not None


def test_hook_of_a_missing_pack_is_unknown(tmp_path, write):
    write("a_before.py", FILTERS)
    plugins = load_plugins([tmp_path])
    assert "implements 'register_filters', which is not a hook" in error(plugins)
    assert "filters" not in plugins.registries


def test_error_in_an_added_hook_names_its_plugin(tmp_path, write):
    path = write("a_before.py", FILTERS.replace("(register)", "(registry)"))
    plugins = load_plugins([tmp_path, STUB_PLUGINS])
    assert error(plugins).startswith(
        f"[E303] plugin 'a_before' ({path}): its hook register_filters(registry) has a parameter 'registry'"
    )
    assert plugins.registries["filters"].names() == ["broken", "lower", "upper"]


def test_two_entries_cannot_share_a_name(tmp_path, write):
    write("more.py", FILTERS.replace("title", "lower"))
    assert "[E301] two plugins register the filter 'lower': 'stub_pack' (" in error(load_plugins([STUB_PLUGINS, tmp_path]))


CHECKING = """
    from nodegraph import hookimpl

    @hookimpl
    def registered(kind, name, value, declared):
        if declared.get("tested") is False:
            raise ValueError("a filter must be tested")
        return (value, declared["tested"]) if "tested" in declared else None
"""


def test_pack_can_check_and_replace_registrations(tmp_path, write):
    write("b_checking.py", CHECKING)
    path = write("a_before.py", FILTERS)
    plugins = load_plugins([tmp_path, STUB_PLUGINS])
    plugins.require_sound()
    assert plugins.registries["filters"].get("title").value == (str.title, True)
    assert callable(plugins.registries["filters"].get("lower").value)
    write("a_before.py", FILTERS.replace("tested=True", "tested=False"))
    assert (
        error(load_plugins([tmp_path, STUB_PLUGINS]))
        == f"[E302] plugin 'a_before' ({path}), filters 'title': a filter must be tested"
    )


def test_engines_have_separate_plugins():
    first, second = load_plugins([STUB_PLUGINS]), load_plugins([STUB_PLUGINS])
    assert first.nodes.get("Say").value.function is not second.nodes.get("Say").value.function
    assert first.origin("stub_pack") == second.origin("stub_pack")


# --- the state of a plugin's code


def test_edited_file_changes_its_digest(tmp_path, write):
    path = write("say.py", SAY.replace("return text", "return text + '1'"))
    first = load_plugins([tmp_path])
    write("say.py", SAY.replace("return text", "return text + '2'"))
    os.utime(path, ns=(path.stat().st_atime_ns, 0))
    second = load_plugins([tmp_path])
    assert first.nodes.get("Say").value.function("") == "1"
    assert second.nodes.get("Say").value.function("") == "2"  # though size and second are the same
    assert only(first).origin != only(second).origin


def test_edited_helper_changes_the_digest_and_the_code(tmp_path, write):
    write("pack/__init__.py", "from .deep.helper import register_nodes\n")
    write("pack/deep/__init__.py", "")
    write("pack/deep/helper.py", SAY)
    first = load_plugins([tmp_path])
    write("pack/deep/helper.py", SAY.replace("return text", "return text.upper()"))
    second = load_plugins([tmp_path])
    assert second.nodes.get("Say").value.function("a") == "A"
    assert only(first).origin != only(second).origin


def test_which_files_count_as_code(tmp_path, write):
    write("pack/__init__.py", "")
    write("pack/table.json", "1")
    digest = tree_digest([tmp_path / "pack"])
    assert len(digest) == 64
    for ignored in ("__pycache__/x.py", "old.pyc", ".git/HEAD", ".notes.swp"):
        write(f"pack/{ignored}", "x")
    assert tree_digest([tmp_path / "pack"]) == digest
    for excluded in ("weights.safetensors", "deep/icon.png"):
        write(f"pack/{excluded}", "x")
    assert tree_digest([tmp_path / "pack"], ["*.safetensors", "*.png"]) == digest
    for changed in ("table.json", "deep/new.py", "data.bin", "prompt.md", ".notes"):
        before = tree_digest([tmp_path / "pack"])
        write(f"pack/{changed}", "2")
        assert tree_digest([tmp_path / "pack"]) != before
    (tmp_path / "pack").rename(tmp_path / "renamed")
    assert tree_digest([tmp_path / "renamed"]) != before


def test_plugin_can_exclude_files_from_its_code(tmp_path, write):
    write("pack/__init__.py", "__nodegraph_excludes__ = ('*.bin',)\n")
    before = only(load_plugins([tmp_path])).origin
    write("pack/weights.bin", "x")
    assert only(load_plugins([tmp_path])).origin == before
    write("pack/table.csv", "x")
    assert only(load_plugins([tmp_path])).origin != before


def test_digest_does_not_depend_on_the_path(tmp_path, write):
    copies = [write(f"{folder}/pack/__init__.py", SAY).parent for folder in ("a", ".b", "__pycache__")]
    assert len({tree_digest([copy]) for copy in copies}) == 1


# --- entry points


def test_installed_plugin_is_identified_by_version(install, write):
    write("site/some_pack/__init__.py", "")
    write("site/some_pack/plugin.py", SAY)
    install("some-pack", "1.4", "nodes = some_pack.plugin")
    plugin = only(load_plugins())
    assert (plugin.name, plugin.place, plugin.error) == ("some_pack", "some-pack 1.4", None)
    assert plugin.origin is not None
    assert plugin.origin.digest is None
    assert plugin.origin.identity.startswith("some_pack 1.4 ")  # and its build


@pytest.mark.parametrize(
    ("direct_url", "released", "described"),
    [
        ({"url": "file:///pack", "dir_info": {"editable": True}}, False, "some-pack 1.4, editable"),
        ({"url": "file:///pack", "dir_info": {}}, False, "some-pack 1.4"),
        ({"url": "https://host/pack", "vcs_info": {"vcs": "git", "commit_id": "abc"}}, False, "some-pack 1.4"),
        ("no json", True, "some-pack 1.4"),
        ("[]", True, "some-pack 1.4"),
    ],
)
def test_only_releases_are_identified_by_version(install, write, direct_url, released, described):
    write("site/some_pack/__init__.py", SAY)
    install("some-pack", "1.4", "nodes = some_pack", direct_url=direct_url)
    plugin = only(load_plugins())
    assert plugin.place == described
    assert plugin.origin is not None
    assert (plugin.origin.digest is None) == released


EDITABLE = {"url": "file:///pack", "dir_info": {"editable": True}}


def test_editable_plugin_is_identified_by_its_files(install, write, tmp_path):
    write("site/more_code/__init__.py", "")
    write("site/more_code/colour.py", "COLOUR = 1")
    write("site/more_module.py", "")
    write("site/some_pack/__init__.py", "")
    write("site/some_pack/plugin.py", "__nodegraph_includes__ = ['more_code', 'more_module']\n" + textwrap.dedent(SAY))
    install("some-pack", "1.4", "nodes = some_pack.plugin", direct_url=EDITABLE)
    origin = only(load_plugins()).origin
    assert origin is not None
    site = tmp_path / "site"
    assert origin.digest == tree_digest([site / "some_pack", site / "more_code", site / "more_module.py"])
    assert only(load_plugins()).origin == origin


def test_code_changed_after_import_has_its_own_digest(install, write):
    path = write("site/some_pack.py", SAY)
    install("some-pack", "1.4", "nodes = some_pack", direct_url=EDITABLE)
    first = only(load_plugins()).origin
    path.write_text(path.read_text() + "\n# changed\n")
    second, third = only(load_plugins()).origin, only(load_plugins()).origin
    assert len({origin.digest for origin in (first, second, third) if origin}) == 3
    path.write_text(textwrap.dedent(SAY))
    assert only(load_plugins()).origin == first


def test_code_that_was_edited_after_a_script_imported_it_is_unknown(install, write):
    path = write("site/some_pack.py", SAY)
    install("some-pack", "1.4", "nodes = some_pack", direct_url=EDITABLE)
    importlib.import_module("some_pack")
    time.sleep(0.02)
    path.write_text(path.read_text() + "\n# changed\n")
    digests = [only(load_plugins()).origin.digest for _ in range(2)]
    assert len({tree_digest([path]), *digests}) == 3


def test_time_in_the_future_is_no_change(install, write):
    path = write("site/some_pack.py", SAY)
    os.utime(path, (4e9, 4e9))
    install("some-pack", "1.4", "nodes = some_pack", direct_url=EDITABLE)
    assert only(load_plugins()).origin.digest == tree_digest([path])


def test_included_package_must_exist(install, write):
    write("site/some_pack.py", "__nodegraph_includes__ = ['no_package']\n")
    install("some-pack", "1.4", "nodes = some_pack", direct_url=EDITABLE)
    message = error(load_plugins())
    assert "cannot be loaded: ImportError: __nodegraph_includes__ names 'no_package', which is not installed" in message


def test_distribution_can_have_several_plugins(install, write):
    write("site/some_pack/__init__.py", "")
    write("site/some_pack/plugin.py", SAY)
    write("site/some_pack/more.py", SAY.replace('"Say"', '"Shout"'))
    install("some-pack", "1.4", "a = some_pack.plugin", "b = some_pack.more", "again = some_pack.more")
    plugins = load_plugins()
    assert [plugin.name for plugin in plugins.loaded] == ["some_pack.more", "some_pack"]
    assert plugins.nodes.names() == ["Say", "Shout"]


def test_entry_point_can_name_an_object(install, write):
    hooks = """
    class Hooks:
        @hookimpl
        def register_nodes(self, register):
            register(say)
    hooks = Hooks()
    """
    write("site/some_pack.py", SAY + hooks)
    install("some-pack", "1.4", "a = some_pack:hooks", direct_url=EDITABLE)
    plugins = load_plugins()
    assert (only(plugins).name, only(plugins).error) == ("some_pack.hooks", None)
    assert plugins.nodes.names() == ["Say"]


@pytest.mark.parametrize(
    ("code", "value", "message"),
    [
        (None, "some_pack", "ModuleNotFoundError: No module named 'some_pack'"),
        ("1 / 0", "some_pack", "ZeroDivisionError: division by zero ("),
        ("import sys; sys.exit(3)", "some_pack", "SystemExit: 3 ("),
        ("", "some_pack:hooks", "AttributeError: module 'some_pack' has no attribute 'hooks'"),
    ],
)
def test_broken_entry_point_is_named_with_the_reason(install, write, code, value, message):
    if code is not None:
        write("site/some_pack.py", code)
    install("some-pack", "1.4", f"nodes = {value}")
    plugins = load_plugins()
    name = value.replace(":", ".")
    assert error(plugins).startswith(f"[E304] plugin '{name}' (some-pack 1.4) cannot be loaded: {message}")
    plugins.require_sound()


WRONG_HOOKS = {
    "raises": "@hookimpl\ndef register_examples(register):\n    1 / 0",
    "misspelt": "@hookimpl\ndef register_node(register): ...",
    "arguments": "@hookimpl\ndef register_codecs(registr): ...",
    "undecorated": "def register_codecs(register): ...",
    "unusable": "@hookimpl\ndef register_examples(register):\n    register('', 1)",
    "adds": "@hookimpl\ndef add_hooks(pluginmanager):\n    1 / 0",
    "codec": "@hookimpl\ndef register_codecs(register):\n    register(Word, Codec())\n    1 / 0",
    "backend": "@hookimpl\ndef register_backend(register):\n    register(CpuBackend())\n    1 / 0",
}
HALF = """
from nodegraph.plugin_api import CpuBackend

class Word: ...

class Codec:
    name, suffix, extension = "word", ".word", ".txt"

@hookimpl
def on_event(event):
    raise AssertionError("it is broken")
"""


@pytest.mark.parametrize("hook", WRONG_HOOKS.values(), ids=WRONG_HOOKS)
def test_installed_plugin_that_is_broken_stops_nothing_else(install, write, tmp_path, hook):
    """Nothing of it is registered, and keys are those without it."""
    write("folder/shout.py", SAY.replace('"Say"', '"Shout"'))
    workflow = Workflow("w")
    workflow.output("out", workflow.add("Shout", name="node", text="a"))
    without = Engine(None, plugin_dirs=[tmp_path / "folder"])
    keys = dict(without.plan(workflow).keys)
    write("site/half_pack.py", textwrap.dedent(SAY) + HALF + hook)
    install("half-pack", "1.4", "nodes = half_pack")
    engine = Engine(None, plugin_dirs=[tmp_path / "folder"])
    assert error(engine.plugins).startswith("[E30")
    assert "plugin 'half_pack' (half-pack 1.4)" in error(engine.plugins)
    assert engine.plugins.nodes.names() == ["Shout"]
    assert engine.plugins.codecs.by_name("word") is None
    assert len(engine.plugins.registries["examples"]) == 0
    assert dict(engine.plan(workflow).keys) == keys
    assert engine.run(workflow)["out"] == "a"
    workflow.output("more", workflow.add("Say", name="more", text="a"))
    with pytest.raises(WorkflowError) as caught:
        engine.run(workflow)
    assert "there is no node type 'Say'" in str(caught.value)
    assert error(engine.plugins) in str(caught.value)  # the likely reason


def test_our_own_pack_that_is_broken_is_an_error(install, write):
    write("site/our_pack.py", "1 / 0")
    install("nodegraph", "1.0", "nodes = our_pack")
    with pytest.raises(PluginError, match="our_pack"):
        load_plugins().require_sound()


def test_file_and_entry_point_cannot_share_a_name(install, write, tmp_path):
    write("site/some_pack.py", SAY)
    install("some-pack", "1.4", "nodes = some_pack")
    path = write("folder/some_pack.py", SAY.replace('"Say"', '"Shout"'))
    assert error(load_plugins([tmp_path / "folder"])) == (
        f"[E301] two plugins are called 'some_pack': some-pack 1.4 and {path}. Rename or remove one"
    )


def test_own_pack_is_found_by_entry_point(monkeypatch):
    monkeypatch.undo()
    plugins = load_plugins()
    plugins.require_sound()
    pack = next(plugin for plugin in plugins.loaded if plugin.name == "nodegraph_nodes")
    assert pack.error is None
    assert "Sampler" in plugins.nodes
    assert plugins.nodes.get("Sampler").origin == pack.origin


def test_manager_is_plain_pluggy():
    class Heard:
        @hookimpl
        def on_event(self, event: Any) -> None:
            heard.append(event)

    heard: list[str] = []
    plugins = Plugins()
    plugins.manager.register(Heard())
    plugins.manager.hook.on_event(event="free")
    assert heard == ["free"]


# --- the backend


BACKEND = """
    from nodegraph import hookimpl
    from nodegraph.plugin_api import CpuBackend, Numerics

    class Custom(CpuBackend):
        def resolve(self, device, dtype):
            return Numerics(device="stub", dtype=dtype, name="custom")

    @hookimpl
    def register_backend(register):
        register(Custom())
"""


def test_engine_without_a_backend_uses_the_cpu():
    backend = Plugins().backend
    assert backend.resolve("auto", "auto") == Numerics(device="cpu", dtype="auto", name="none")
    assert (backend.fingerprint(), backend.memory_of([]), backend.preview_renderer()) == ("", {}, None)
    assert backend.is_out_of_memory(MemoryError())
    assert not backend.is_out_of_memory(RuntimeError("out of memory"))


def test_plugin_can_register_the_backend(tmp_path, write):
    write("backend.py", BACKEND)
    assert load_plugins([tmp_path]).backend.resolve("auto", "auto").device == "stub"


def test_two_backends_are_an_error(tmp_path, write):
    one, two = write("one.py", BACKEND), write("two.py", BACKEND)
    plugins = load_plugins([tmp_path])
    with pytest.raises(PluginError) as caught:
        plugins.require_sound()
    assert str(caught.value) == f"[E301] two plugins register a backend: 'one' ({one}) and 'two' ({two}). Remove one"


def test_incomplete_backend_is_refused(tmp_path, write):
    message = broken_hook(
        write,
        tmp_path,
        """
        class Half:
            def resolve(self, device, dtype): ...
            def is_out_of_memory(self, error): ...
            def preview_renderer(self): ...
            def fingerprint(self): ...
            def memory_of(self, value): ...
        @hookimpl
        def register_backend(register):
            register(Half())
        """,
    )
    assert message == (
        "[E302] WRONG registers a backend without check_names, free_memory, memory_budget, watched_libraries, known_state, "
        "chosen_state, generator_states, version, move, sheet, can_compare, difference, inline. "
        "Implement every method of nodegraph.plugin_api.Backend"
    )
