"""A small model, its parts, and a run that remembers what it is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nodegraph.plugins.manager import Plugins, load_plugins
from nodegraph_nodes.nodes.models import Model, find_model, load_model
from tests.support.recording_run import RecordingRun
from tests.support.small_model import save_small_model


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Networks as small as these lose time by sharing their work."""
    torch.set_num_threads(1)


@pytest.fixture
def run() -> RecordingRun:
    return RecordingRun()


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
