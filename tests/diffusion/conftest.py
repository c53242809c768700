"""Fixtures: permission for pickles, and a small model that tests can change."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodegraph_diffusion.checkpoint.files.pickle_permission import PICKLES_VARIABLE
from tests.support.small_model import save_small_model


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PICKLES_VARIABLE, "1")


@pytest.fixture
def forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PICKLES_VARIABLE, raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small model in diffusers' layout, to be changed."""
    return save_small_model(tmp_path / "folder")
