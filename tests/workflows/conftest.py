"""Fixtures: the shipped workflows in a temporary folder, with pictures and a small synthetic model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.shared_plugins import share_plugins
from tests.support.small_model import save_small_model
from tests.support.workspace import Workspace


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """A diffusers folder of networks that run in milliseconds. Tests must not change it."""
    return save_small_model(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture
def workspace(tmp_path, model, monkeypatch) -> Workspace:
    share_plugins(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NODEGRAPH_PLUGIN_DIR", raising=False)
    return Workspace(tmp_path, model)
