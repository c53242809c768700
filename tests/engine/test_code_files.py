"""Each file of code is read once for all plugins of an engine, unless it may have changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nodegraph.plugins.code import code_files
from nodegraph.plugins.code.code_files import CodeFiles
from nodegraph.plugins.code.plugin_code import read_code

PACK = Path(__file__).parents[2] / "nodes" / "nodegraph_nodes"
LIBRARY = PACK.parent / "nodegraph_diffusion"
EXCLUDES = ("*.safetensors",)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that are read from disk."""
    read: Callable[[str], object] = code_files.read_file
    paths: list[str] = []
    monkeypatch.setattr(code_files, "read_file", lambda path: (paths.append(path), read(path))[1])
    return paths


@pytest.fixture
def helper(tmp_path: Path) -> Path:
    path = tmp_path / "helper.py"
    path.write_text("import first\n")
    return path


def test_file_that_has_not_changed_is_read_once(helper, reads, monkeypatch):
    monkeypatch.setattr(code_files, "_GRANULARITY_NS", 0)  # as if it were older
    files = CodeFiles()
    assert files.read(str(helper)) is files.read(str(helper))
    assert reads == [str(helper)]
    helper.write_text("import second, third\n")
    assert files.read(str(helper)).content == b"import second, third\n"


def test_file_that_changed_a_moment_ago_is_read_again(helper, reads):
    files = CodeFiles()
    for _ in range(2):
        files.read(str(helper))
    assert reads == [str(helper)] * 2


def test_plugins_that_share_packages_read_them_once(reads, monkeypatch):
    monkeypatch.setattr(code_files, "_GRANULARITY_NS", 0)
    first, second = {PACK: "nodegraph_nodes", LIBRARY: "nodegraph_diffusion"}, {LIBRARY: "nodegraph_diffusion"}
    files = CodeFiles()
    together = [read_code(roots, EXCLUDES, files=files).digest for roots in (first, second, first)]
    assert len(reads) == len(set(reads)) > 300
    assert together == [read_code(roots, EXCLUDES).digest for roots in (first, second, first)]


def test_scan_is_shared_only_if_it_passed_over_nothing_that_matters(helper):
    files = CodeFiles()
    sources = [(files.read(str(helper)), None)]
    assert "first" in files.scan(sources, {"second"}).names
    assert "first" in files.scan(sources, {"second", "third"}).names  # it may name modules that are passed over later
    assert "first" not in files.scan(sources, {"first"}).names
    assert "first" in files.scan(sources, {"third"}).names
