"""Fixtures: a small model, its parts, and a run that records what nodes report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from nodegraph import Run
from nodegraph.plugins.manager import Plugins, load_plugins
from nodegraph_diffusion.checkpoint.detect.model import Weights
from nodegraph_diffusion.networks.unet import UNet
from nodegraph_nodes.models.find import find_model
from nodegraph_nodes.models.opened_files import open_part
from nodegraph_nodes.nodes.models import Model, load_model
from nodegraph_nodes.types import UNetModel
from tests.support import small_model
from tests.support import synthetic_checkpoints as synthetic
from tests.support.recording_run import RecordingRun


@pytest.fixture
def run() -> RecordingRun:
    return RecordingRun()


@pytest.fixture(scope="session")
def plugins() -> Plugins:
    """The installed plugins."""
    return load_plugins()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    """A diffusers folder of networks that run in milliseconds. Tests must not change it."""
    return small_model.save_small_model(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="session")
def model(model_folder) -> Model:
    """The result of LoadModel for that folder."""
    return load_model(find_model(str(model_folder), Path()).value)


@pytest.fixture
def unet_with(model, tmp_path) -> Callable[..., UNetModel]:
    """Makes a UNet like the small model's, with these changes of its config."""

    def make(**changes: Any) -> UNetModel:
        config = dataclasses.replace(small_model.UNET, **changes)
        network = UNet(config)
        synthetic.fill(network)
        path = tmp_path / f"unet-{len(list(tmp_path.iterdir()))}.safetensors"
        save_file({key: value.contiguous() for key, value in network.state_dict().items()}, path)
        weights = Weights("unet", "ldm", (path,), "")
        return UNetModel(
            open_part(dataclasses.replace(model.unet.part, config=config, weights=weights, files=(path,)), Run().digest)
        )

    return make
