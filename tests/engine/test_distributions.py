"""Installed distributions are read as `importlib.metadata` reads them."""

from __future__ import annotations

import importlib.metadata
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from nodegraph.plugins import distributions
from nodegraph.plugins.distributions import engine_version, entry_points, installed_version, read_distribution

GROUPS = ("nodegraph", "console_scripts", "other")


@pytest.fixture
def reads_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read folders even though the tests have imported `importlib.metadata`."""
    monkeypatch.setattr(distributions, "_may_read_folders", lambda: True)


def install(folder: Path, name: str, version: str, points: str | None, ending: str = "dist-info") -> None:
    info = folder / f"{name}-{version}.{ending}"
    info.mkdir(parents=True)
    (info / ("METADATA" if ending == "dist-info" else "PKG-INFO")).write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: rich>=1\n\nVersion: 9\n"
    )
    (info / "RECORD").write_text(f"{name}.py,sha256=x,1\n")
    if points is not None:
        (info / "entry_points.txt").write_text(points)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    one, two = tmp_path / "one", tmp_path / "two"
    install(one, "a_pack", "1.0", "[nodegraph]\nx = a_pack.plugin\n# comment = x\n\n y =a_pack.plugin : Hooks.inner [fast]\n")
    install(one, "B.Pack", "2.0+cpu", "[other]\nnodegraph = b_pack\n[nodegraph]\nb = b_pack:hooks\n[console_scripts]\nb = b:main")
    install(one, "egg", "3", "[nodegraph]\negg = egg", ending="egg-info")
    install(one, "silent", "1", None)
    install(two, "A_Pack", "0.5", "[nodegraph]\nold = a_pack.old\n")
    (one / "a_file.dist-info").write_text("")
    (one / "code.py").write_text("")
    monkeypatch.setattr(sys, "path", [str(one), str(tmp_path / "missing"), str(two), str(one / "code.py")])
    return tmp_path


def facts(points: Any) -> list[Any]:
    return [
        (
            p.name,
            p.value,
            p.module,
            p.attr,
            read_distribution(p.dist),
            p.dist.read_text("RECORD"),
            str(p.dist.locate_file("x")),
        )
        for p in points
    ]


def test_entry_points_are_those_of_the_standard_library(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for group in GROUPS:
        theirs = importlib.metadata.entry_points(group=group)
        with monkeypatch.context() as patch:
            patch.setattr(distributions, "_may_read_folders", lambda: True)
            ours = entry_points(group)
        assert sorted(facts(ours)) == sorted(facts(theirs))
        assert len(list(ours)) == {"nodegraph": 4, "console_scripts": 1, "other": 1}[group]


@pytest.mark.parametrize("name", ["a_pack", "A-Pack", "b.pack", "b-pack", "egg", "silent", "unknown", "a"])
def test_versions_are_those_of_the_standard_library(folders: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    theirs = installed_version(name)
    monkeypatch.setattr(distributions, "_may_read_folders", lambda: True)
    assert installed_version(name) == theirs
    assert (theirs is None) == (name in ("unknown", "a"))


@pytest.mark.usefixtures("reads_folders")
def test_installed_plugins_are_found_here() -> None:
    ours = {point.value for point in entry_points("nodegraph")}
    assert {"nodegraph_nodes.plugin", "nodegraph_training.plugin", "nodegraph_comfyui.plugin"} <= ours
    assert installed_version("torch") == importlib.metadata.version("torch")
    assert engine_version() == importlib.metadata.version("nodegraph")


@pytest.mark.usefixtures("reads_folders")
def test_entry_point_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "pointed", "1", "[nodegraph]\na = pointed\nb = pointed:Hooks.inner\n")
    (tmp_path / "pointed.py").write_text("class Hooks:\n    inner = 7\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    loaded = [point.load() for point in entry_points("nodegraph") if point.module == "pointed"]
    assert loaded == [sys.modules["pointed"], 7]
    del sys.modules["pointed"]


def test_library_is_used_where_more_than_folders_may_be_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "importlib.metadata")
        patch.setattr(sys, "meta_path", [finder for finder in sys.meta_path if not hasattr(finder, "find_distributions")])
        patch.setattr(sys, "path", [str(tmp_path)])
        assert distributions._may_read_folders()
        patch.setattr(sys, "path", [str(tmp_path / "a.egg")])
        assert not distributions._may_read_folders()
        archive = tmp_path / "archive.zip"
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("zipped-1.0.dist-info/METADATA", "Name: zipped\nVersion: 1.0\n")
        patch.setattr(sys, "path", [str(archive)])
        assert not distributions._may_read_folders()
        patch.setattr(sys, "path", [str(tmp_path)])
        patch.setattr(sys, "meta_path", [type("Finder", (), {"find_distributions": list})()])
        assert not distributions._may_read_folders()
    monkeypatch.setattr(sys, "path", [str(archive)])
    assert installed_version("zipped") == "1.0"
