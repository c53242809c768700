"""`check` knows which model an adapter gets over a link, from the headers of both files: one for another family is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from nodegraph import Engine, Workflow, WorkflowError
from nodegraph.workflow.definitions import Link
from nodegraph_diffusion.checkpoint import describe
from nodegraph_diffusion.networks.controlnet import ControlNet
from tests.support.adapted_models import save_models

MODULE = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"  # (16, 32) in the small model
OF_SDXL = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
TEXT = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"  # (32, 32)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_models(tmp_path_factory.mktemp("models"))
    for name, module, rows, columns in (
        ("other", MODULE, 640, 2048),
        ("sdxl", OF_SDXL, 640, 2048),
        ("other-text", TEXT, 1280, 1280),
    ):
        tensors = {"alpha": torch.tensor(2.0), "lora_up.weight": torch.ones(rows, 2), "lora_down.weight": torch.ones(2, columns)}
        save_file({f"{module}.{key}": value for key, value in tensors.items()}, folder / f"{name}.safetensors")
    single = describe(folder / "single.safetensors").model()
    for name, width in (("fitting", single.text.width), ("wide", 48)):
        save_file({"emb_params": torch.ones(2, width)}, folder / f"{name}.safetensors")
    config = replace(single.unet.config, context_dim=48)
    save_file(ControlNet(config).state_dict(), folder / "wide-control.safetensors")
    Image.new("RGB", (32, 32)).save(folder / "picture.png")
    return folder


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(None, device="cpu", dtype="float32", on_event=lambda event: None) as engine:
        yield engine


def opened(models: Path, model: str) -> tuple[Workflow, Link, Link]:
    """A workflow with the UNet and the text encoder of a whole model, or opened one by one from a folder."""
    w = Workflow("w")
    if (models / model).suffix:
        found = w.add("LoadModel", model=str(models / model))
        return w, found.unet, found.text_encoder
    text = w.add("LoadTextEncoder", text_encoder=str(models / "model"))
    return w, w.add("LoadUNet", unet=str(models / model / "unet")), text


def mistakes(engine: Engine, w: Workflow) -> list[str]:
    try:
        engine.check(w)
    except WorkflowError as error:
        return [problem.message for problem in error.problems]
    return []


@pytest.mark.parametrize(
    ("model", "lora", "found"),
    [("model", "lora", ""), ("model", "other", "640"), ("model", "other-text", "1280"), ("single.safetensors", "lora", "16x32")],
)
def test_lora_for_another_family(models, engine, model, lora, found):
    w, unet, text = opened(models, model)
    w.add("LoadLora", unet=unet, text_encoder=text, file=str(models / f"{lora}.safetensors"))
    problems = mistakes(engine, w)
    assert len(problems) == bool(found)
    for problem in problems:
        assert problem.startswith(f"file {models / lora}.safetensors: expected a change of")
        assert ".alpha" not in problem
        assert found in problem
        assert "It was made for another family of models" in problem


def test_the_family_that_a_lora_was_made_for_is_named(models, engine):
    w, unet, text = opened(models, "model")
    w.add("LoadLora", unet=unet, text_encoder=text, file=str(models / "sdxl.safetensors"))
    (problem,) = mistakes(engine, w)
    assert "It was made for Stable Diffusion XL; give one that was made for this model" in problem


def test_the_model_is_known_behind_other_nodes(models, engine):
    w, unet, text = opened(models, "single.safetensors")
    text = w.add("LoadEmbedding", text_encoder=text, file=str(models / "fitting.safetensors"), word="w")
    image = w.add("LoadImage", path=str(models / "picture.png")).image
    control = w.add("LoadControlNet", file=str(models / "control.safetensors"))
    guided = w.add("ApplyControlNet", unet=unet, control_net=control, image=image)
    assert not mistakes(engine, w)
    w.add("LoadLora", unet=guided, text_encoder=text, file=str(models / "lora.safetensors"))
    assert ["16x32" in problem for problem in mistakes(engine, w)] == [True]


def test_embedding_and_control_net_for_another_family(models, engine):
    w, unet, text = opened(models, "model")
    w.add("LoadEmbedding", text_encoder=text, file=str(models / "wide.safetensors"), word="w")
    control = w.add("LoadControlNet", file=str(models / "wide-control.safetensors"))
    w.add("ApplyControlNet", unet=unet, control_net=control, image=w.add("LoadImage", path=str(models / "picture.png")).image)
    embedding, control_net = mistakes(engine, w)
    assert "expected vectors of 32 numbers" in embedding
    assert "control_net: expected one for a UNet of 16 channels and prompts of width 32, found one for 32 and 48" in control_net
