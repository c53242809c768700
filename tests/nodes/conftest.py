"""A small model, its parts, and a run that remembers what it is told."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import pytest
import torch

from nodegraph import Run
from nodegraph.plugins.manager import Plugins, load_plugins
from nodegraph_nodes.nodes.models import Model, find_model, load_model
from tests.support.small_model import save_small_model


class TellingRun(Run):
    """Remembers notices, steps, and what is resident."""

    def __init__(self) -> None:
        self.notices: list[str] = []
        self.steps: list[tuple[int, int]] = []
        self.residents: dict[Hashable, Any] = {}

    def step(self, i: int, n: int, preview: Any = None) -> None:
        self.steps.append((i, n))

    def resident(self, key: Hashable, make: Callable[[], Any]) -> Any:
        if key not in self.residents:
            self.residents[key] = make()
        return self.residents[key]

    def notice(self, message: str) -> None:
        self.notices.append(message)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Networks as small as these lose time by sharing their work."""
    torch.set_num_threads(1)


@pytest.fixture
def run() -> TellingRun:
    return TellingRun()


@pytest.fixture(scope="session")
def plugins() -> Plugins:
    """What is installed."""
    return load_plugins()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    """A diffusers folder of networks that run in milliseconds. Nobody changes it."""
    return save_small_model(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="session")
def model(model_folder) -> Model:
    """What LoadModel gives for it."""
    return load_model(find_model(str(model_folder), Path()).value)
