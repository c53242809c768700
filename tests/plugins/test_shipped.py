"""The plugins in `plugins/` have the form that `nodegraph new-plugin` writes. Tests in their folders cover what they do."""

from __future__ import annotations

import shlex
import shutil
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from nodegraph.cli import main
from nodegraph_nodes.commands.new_plugin import contents
from tests.support.markdown import blocks
from tests.support.slow import slow_except

ROOT = Path(__file__).parents[2]
SHIPPED = {"apg": "guidance", "detail": "sampler", "tangent": "schedule"}


def test_all_shipped_plugins_are_listed():
    assert sorted(path.name for path in (ROOT / "plugins").iterdir() if path.is_dir()) == sorted(SHIPPED)


@pytest.mark.parametrize(("name", "kind"), SHIPPED.items())
def test_folder_matches_new_plugin(name, kind):
    folder = ROOT / "plugins" / name
    written = contents(kind, name, folder)
    assert all((folder / path).is_file() for path in written)
    shipped, fresh = (
        tomllib.loads(text) for text in ((folder / "pyproject.toml").read_text(encoding="utf-8"), written["pyproject.toml"])
    )
    for project in (shipped, fresh):
        del project["project"]["description"], project["project"]["optional-dependencies"]
    assert shipped == fresh


@pytest.mark.parametrize("name", slow_except(["apg"], SHIPPED))
def test_readme_commands_succeed(name, tmp_path, monkeypatch):
    shutil.copytree(ROOT / "workflows", tmp_path / "workflows")
    shutil.copytree(ROOT / "plugins", tmp_path / "plugins", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NODEGRAPH_CACHE_DIR", str(tmp_path / "cache"))
    lines = [
        line
        for block in blocks(ROOT / "plugins" / name / "README.md")
        if block.language == "console"
        for line in block.text.splitlines()
    ]
    ours = [words[2:] for words in map(shlex.split, lines) if words[:2] == ["$", "nodegraph"]]
    assert ours
    for words in ours:
        ran = CliRunner().invoke(main, words, prog_name="nodegraph")
        assert ran.exit_code == 0, ran.output
