"""Trained models in nodes of other plugins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nodegraph import Engine, Workflow
from nodegraph_nodes.types import TextEncoder, UNetModel

PLUGIN = """
from dataclasses import replace
from typing import NamedTuple
from nodegraph import Run, hookimpl, node
from nodegraph_nodes.models.parts import load_unet_network
from nodegraph_nodes.types import UNetModel

class Same(NamedTuple):
    weights: int
    unet: UNetModel
    changed: UNetModel

@node("CountWeights", numeric=True)
def count_weights(unet: UNetModel, run: Run = Run()) -> Same:
    weights = sum(weights.numel() for weights in load_unet_network(unet, run).parameters())
    return Same(weights, unet, replace(unet, patches=unet.patches))

@hookimpl
def register_nodes(register):
    register(count_weights)
"""


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "others.py").write_text(PLUGIN)
    return Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"])


@pytest.mark.slow
def test_node_that_takes_a_unet_takes_opened_and_trained_ones(engine):
    """It also passes them on and changes them, and others take the results."""
    workflow = Workflow()
    data = workflow.add("PictureWorld", side=16, count=2)
    vae = workflow.add("TrainAutoencoder", data=data, steps=1, channels=8, levels=[1, 2], batch=2)
    clip = workflow.add("TrainCLIP", data=data, steps=1, width=16, layers=1, batch=2, patch=8)
    sizes = {"channels": 16, "levels": [1], "depth": [1]}
    unet = workflow.add("TrainDenoiser", name="unet", data=data, vae=vae, text_encoder=clip.text_encoder, steps=1, batch=2, **sizes)
    model = workflow.add("LoadModel", model="builtin:tiny")
    workflow.output("trained", unet)
    for name, first in (("of_trained", unet), ("of_opened", model.unet)):
        found = workflow.add("CountWeights", unet=first)
        again = workflow.add("CountWeights", unet=found.unet)
        workflow.output(name, workflow.add("CountWeights", unet=again.changed).weights)
    result = engine.run(workflow)
    assert result["of_trained"] == sum(tensor.numel() for tensor in result["trained"].tensors.values())
    assert result["of_opened"] == 3_984_068


def test_changed_copy_of_a_trained_model_is_an_opened_one(unet, text_encoder):
    for trained, opened_as in ((unet, UNetModel), (text_encoder, TextEncoder)):
        copy = replace(trained, patches=())
        assert type(copy) is opened_as
        assert copy.opened is trained.opened
    assert repr(unet).startswith("<TrainedUNet: ")
