"""The workflows of the systems, and those that train and measure them, are checked as `nodegraph check` does."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from nodegraph.cli import main
from tests.support.shared_plugins import share_plugins

ROOT = Path(__file__).parents[2] / "workflows"
FILES = sorted([*ROOT.glob("systems/*.yaml"), *ROOT.glob("train/*.yaml"), *ROOT.glob("measure/*.yaml")])


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_workflows_are_right(file, monkeypatch):
    share_plugins(monkeypatch)
    needed = ["--set", "unet=builtin:tiny"] if file.stem == "denoiser" else []  # a file that training writes
    checked = CliRunner().invoke(main, ["check", str(file), *needed], catch_exceptions=False)
    assert checked.exit_code == 0, checked.output


def test_each_system_that_is_trained_has_its_training():
    trained = {file.stem for file in ROOT.glob("train/*.yaml")}
    for file in ROOT.glob("systems/*.yaml"):
        used = [line.split("../train/")[1].split(".yaml")[0] for line in file.read_text().splitlines() if "../train/" in line]
        assert set(used) <= trained
