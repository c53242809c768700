"""Trained models in nodes of other plugins."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodegraph import Engine, Workflow, WorkflowError

PLUGIN = """
from nodegraph import Run, hookimpl, node
from nodegraph_nodes.models.parts import load_unet_network
from nodegraph_nodes.trained.opened import opened_unet
from nodegraph_nodes.types import AnyUNet, UNetModel

@node("CountWeights", numeric=True)
def count_weights(unet: AnyUNet, run: Run = Run()) -> int:
    return sum(weights.numel() for weights in load_unet_network(opened_unet(unet), run).parameters())

@node("NameOfFile")
def name_of_file(unet: UNetModel) -> str:
    return unet.part.path.name

@hookimpl
def register_nodes(register):
    register(count_weights)
    register(name_of_file)
"""


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "others.py").write_text(PLUGIN)
    return Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"])


def workflow_with(use: str) -> Workflow:
    """Trains a UNet for a step and gives it to a node of this type."""
    workflow = Workflow()
    data = workflow.add("PictureWorld", side=16, count=2)
    vae = workflow.add("TrainAutoencoder", data=data, steps=1, channels=8, levels=[1, 2], batch=2)
    clip = workflow.add("TrainCLIP", data=data, steps=1, width=16, layers=1, batch=2, patch=8)
    sizes = {"channels": 16, "levels": [1], "depth": [1]}
    unet = workflow.add("TrainDenoiser", name="unet", data=data, vae=vae, text_encoder=clip.text_encoder, steps=1, batch=2, **sizes)
    workflow.output("unet", unet)
    workflow.output("out", workflow.add(use, name="mine", unet=unet))
    return workflow


@pytest.mark.slow
def test_node_takes_opened_and_trained_unets(engine):
    result = engine.run(workflow_with("CountWeights"))
    assert result["out"] == sum(tensor.numel() for tensor in result["unet"].tensors.values())
    workflow = Workflow()
    workflow.output("out", workflow.add("CountWeights", unet=workflow.add("LoadModel", model="builtin:tiny").unet))
    assert engine.run(workflow)["out"] == 3_984_068


def test_node_for_opened_unets_only_is_refused_before_anything_is_trained(engine):
    with pytest.raises(WorkflowError, match=r"'unet' of node 'mine' \(NameOfFile\) takes UNetModel, but \$unet is TrainedUNet"):
        engine.plan(workflow_with("NameOfFile"))
