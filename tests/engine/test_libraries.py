"""The versions of installed libraries: a plugin that imports one has other keys after it was installed again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nodegraph import Engine, Workflow
from nodegraph.plugins.code.libraries import versions_of_imported, versions_of_required
from nodegraph.plugins.manager import load_plugins
from tests.support.imported_modules import forget_modules_in

PLUGIN = """
from nodegraph import hookimpl, node

@node("Use")
def use(text: str) -> str:
    import a_library
    return text + a_library.VALUE

@node("UseMore")
def use_more(text: str) -> str:
    import a_library.more
    return text + a_library.more.VALUE

@node("Install")
def install(version: str) -> str:
    import sys
    sys.modules["the_test"].install(version)
    return ""

@hookimpl
def register_nodes(register):
    for function in (use, use_more, install):
        register(function)
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Installs a version of a library, as an installer does it: the old files are removed."""
    site = tmp_path / "site-packages"
    monkeypatch.syspath_prepend(site)
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "using.py").write_text(PLUGIN)

    def install(version: str, *, project: str = "a_library") -> None:
        shutil.rmtree(site, ignore_errors=True)
        for name in ("__init__", "more"):
            path = site / "a_library" / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("" if name == "__init__" and "only more" in version else f"VALUE = ' {version[:3]}'")
            os.utime(path, (1, 1))
        information = site / f"{project}-{version[:3]}.dist-info"
        information.mkdir()
        (information / "RECORD").write_text("a_library/__init__.py,,\na_library/more.py,,\n")

    install("1.0")
    time.sleep(0.02)  # its times of change cannot be set back
    monkeypatch.setitem(sys.modules, "the_test", type("TheTest", (), {"install": staticmethod(install)}))
    yield install
    forget_modules_in(tmp_path)


def forget() -> None:
    """Forget the library's modules, as in a new process."""
    for name in [name for name in sys.modules if name.startswith("a_library")]:
        del sys.modules[name]


def identity(tmp_path: Path) -> str:
    forget()
    origin = load_plugins([tmp_path / "plugins"]).origin("using")
    assert origin is not None
    return origin.identity


@pytest.mark.parametrize("project", ["a_library", "Another-Name"])
def test_version_of_a_library_is_part_of_the_code_that_imports_it(tmp_path, install, project):
    install("1.0", project=project)
    before = identity(tmp_path)
    assert identity(tmp_path) == before
    install("1.1", project=project)
    assert identity(tmp_path) != before
    install("1.0", project=project)
    assert identity(tmp_path) == before


def test_other_libraries_are_not(tmp_path, install):
    before = identity(tmp_path)
    (tmp_path / "site-packages" / "other-3.0.dist-info").mkdir()
    assert identity(tmp_path) == before


def test_new_version_is_a_miss(tmp_path, install):
    workflow = Workflow("w")
    workflow.output("out", workflow.add("Use", name="used", text="text"))

    def run() -> tuple[str, tuple[str, ...]]:
        forget()
        result = Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"]).run(workflow)
        return result["out"], result.cached

    assert run() == ("text 1.0", ())
    assert run() == ("text 1.0", ("used",))
    install("1.1")
    assert run() == ("text 1.1", ())


def test_optimized_python_has_other_keys(tmp_path, install):
    """With `python -O`, assertions do not run, and `__debug__` is false."""
    code = (
        "from nodegraph.plugins.manager import load_plugins\nplugins = load_plugins(['plugins'])\n"
        "print(*(plugins.origin(name).identity for name in ('using', 'a_pack')), sep='\\n')"
    )
    (tmp_path / "site-packages" / "a_pack-1.0.dist-info").mkdir()
    (tmp_path / "site-packages" / "a_pack.py").write_text("")
    information = tmp_path / "site-packages" / "a_pack-1.0.dist-info"
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: a-pack\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[nodegraph]\nnodes = a_pack\n")

    def identities(level: str) -> list[str]:
        environment = {**os.environ, "PYTHONOPTIMIZE": level, "PYTHONPATH": str(tmp_path / "site-packages")}
        ran = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=True
        )
        return ran.stdout.splitlines()

    plain, optimized = identities(""), identities("1")
    assert identity(tmp_path) == plain[0]
    assert [before == after for before, after in zip(plain, optimized, strict=True)] == [False, False]


@pytest.mark.parametrize("imported", [False, True])
def test_library_that_is_installed_again_during_the_run_is_used_but_not_kept(tmp_path, install, imported):
    """Its modules are imported when they are needed: those from before and after the install may be of two versions."""
    engine = Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"])
    workflow = Workflow("w")
    if imported:
        engine.run(one := workflow_of("Use"), targets=["node"])
        assert one is not None
    installed = workflow.add("Install", name="installed", version="1.1")
    workflow.output("out", workflow.add("UseMore", name="node", text=installed))
    result = engine.run(workflow)
    assert result["out"] == " 1.1"
    assert any("was changed while this process ran; its result is used but not kept" in notice.message for notice in result.notices)
    assert [record.node for record in engine.cache.entries() if record.type == "UseMore"] == []


def workflow_of(type: str) -> Workflow:
    workflow = Workflow(type)
    workflow.output("out", workflow.add(type, name="node", text="text"))
    return workflow


def test_release_has_the_versions_of_what_it_requires_in_its_code(tmp_path, monkeypatch):
    site = tmp_path / "site-packages"
    monkeypatch.syspath_prepend(site)
    for name in ("a_pack-1.0", "one_library-2.0+cpu", "two_library-3.0", "tests_only-4.0"):
        (site / f"{name}.dist-info").mkdir(parents=True)
    (site / "a_pack.py").write_text("")
    lines = ["one-library>=1", "two.library", "tests-only; extra == 'test'", "not-installed", "click"]
    metadata = "".join(f"Requires-Dist: {line}\n" for line in lines)
    (site / "a_pack-1.0.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.1\nName: a-pack\nVersion: 1.0\n{metadata}")
    (site / "a_pack-1.0.dist-info" / "entry_points.txt").write_text("[nodegraph]\nnodes = a_pack\n")
    assert versions_of_required(lines) == ["not_installed none", "one_library 2.0", "two_library 3.0"]
    before = load_plugins().origin("a_pack")
    assert load_plugins().origin("a_pack") == before
    (site / "two_library-3.0.dist-info").rename(site / "two_library-3.1.dist-info")
    assert load_plugins().origin("a_pack") != before


def test_versions_by_files():
    from importlib.metadata import version

    import PIL
    import torch

    found = versions_of_imported([str(PIL.__file__), str(torch.__file__), "/nowhere/site-packages/single.py"])
    assert found == [f"PIL {version('pillow')}", "single none", f"torch {torch.__version__.partition('+')[0]}"]
