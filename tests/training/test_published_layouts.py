"""Single files of Stable Diffusion 1.5 and XL, with small networks: the training nodes train them and write them again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers
from torch import Tensor

import nodegraph_diffusion.text
from nodegraph_diffusion.checkpoint import describe, load_unet, save_single_file
from nodegraph_diffusion.networks.config import CLIPTextConfig
from nodegraph_diffusion.networks.unet import timestep_embedding
from nodegraph_nodes.models.find import find_model
from nodegraph_nodes.nodes.adapters import apply_control_net, load_embedding, load_lora
from nodegraph_nodes.nodes.latent import empty_latent, noise
from nodegraph_nodes.nodes.models import Model, load_model
from nodegraph_nodes.nodes.sampling import sampler, unet_denoise
from nodegraph_nodes.nodes.text import text_encode
from nodegraph_nodes.types import Image, TextEncoder, UNetModel
from nodegraph_training.nodes.adapters import edges, train_control_net, train_lora, train_textual_inversion
from nodegraph_training.nodes.data import picture_world
from nodegraph_training.nodes.denoisers import train_denoiser
from nodegraph_training.nodes.evaluate import export_model
from nodegraph_training.types import DataSet
from tests.support import small_networks as small
from tests.support.families import scheduler
from tests.support.unet_configs import SDXL

pytestmark = pytest.mark.slow

SIDE, STEPS = 16, {"steps": 1, "batch": 2}
VOCABULARY = Path(nodegraph_diffusion.text.__path__[0]) / "clip_vocabulary"
TEXT = CLIPTextConfig(width=64, layers=3, heads=1, mlp_width=96)
FIRST = dataclasses.replace(TEXT, layer=2, final_norm=False)
SECOND = dataclasses.replace(FIRST, activation="gelu", projection=64)
TWO_LEVELS = {"model_channels": 64, "channel_mult": (1, 2), "transformer_depth": (0, 1), "middle_depth": 1, "num_res_blocks": 1}
UNETS = {
    "sd1": dataclasses.replace(small.UNET, context_dim=64),
    "sdxl": dataclasses.replace(small.UNET, **SDXL | TWO_LEVELS | {"head_channels": 64, "norm_groups": 32, "context_dim": 128}),
}
TEXTS = {"sd1": [TEXT], "sdxl": [FIRST, SECOND]}
SCALES = {"sd1": 0.18215, "sdxl": 0.13025}


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def kind(request) -> Any:
    return request.param


@pytest.fixture(scope="module")
def file(kind, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp(kind) / "model.safetensors"
    save_single_file(
        path,
        kind,
        unet=small.our_unet(UNETS[kind]),
        vae=small.our_vae(dataclasses.replace(small.VAE, scaling_factor=SCALES[kind])),
        text_encoders=[small.our_text_encoder(config) for config in TEXTS[kind]],
        dtype=torch.float32,
    )
    return path


@pytest.fixture(scope="module")
def model(file) -> Model:
    return load_model(find_model(str(file), Path()).value)


@pytest.fixture(scope="module")
def data() -> DataSet:
    return picture_world(side=SIDE, count=3)


@pytest.fixture
def paint(model) -> Callable[..., Tensor]:
    """Two steps of sampling: a latent."""

    def painted(unet: UNetModel, text_encoder: TextEncoder = model.text_encoder, text: str = "a cat") -> Tensor:
        sides = [text_encode(text_encoder, each) for each in (text, "")]
        latent = empty_latent(vae=model.vae, width=SIDE, height=SIDE)
        return sampler(unet_denoise(unet, *sides, cfg=3.0), latent, noise(latent, seed=1), steps=2).samples

    return painted


def test_lora(model, data, paint):
    lora = train_lora(model.unet, model.vae, model.text_encoder, data, rank=2, **STEPS)
    adapted = load_lora(model.unet, model.text_encoder, lora)
    assert not torch.allclose(paint(adapted.unet), paint(model.unet), atol=1e-4)


def test_control_net(model, data, paint):
    control = train_control_net(model.unet, model.vae, model.text_encoder, data, **STEPS)
    picture = Image(torch.from_numpy(data.pictures.pixels(0))[None].float() / 255)
    guided = apply_control_net(model.unet, control, edges(picture))
    assert not torch.allclose(paint(guided), paint(model.unet), atol=1e-4)


def test_word(model, data, paint, kind):
    word = train_textual_inversion(model.unet, model.vae, model.text_encoder, data, start="cat", vectors=2, **STEPS)
    assert word.tensors.keys() == ({"clip_l", "clip_g"} if kind == "sdxl" else {"emb_params"})
    knows = load_embedding(model.text_encoder, word, "new")
    assert not torch.allclose(paint(model.unet, knows, "embedding:new"), paint(model.unet, knows, "a cat"), atol=1e-4)


def test_tuned_model_is_a_single_file_again(model, file, data, paint, kind, tmp_path, monkeypatch):
    """It is opened by our loader, and by diffusers, which needs a folder that says the sizes."""
    tuned = train_denoiser(data, model.vae, model.text_encoder, unet=model.unet, learning_rate=1e-3, **STEPS)
    monkeypatch.chdir(tmp_path)
    export_model(tuned, model.vae, model.text_encoder, "tuned.safetensors", layout="single_file", dtype="float32")
    found = describe(tmp_path / "tuned.safetensors").model()
    assert found.kind == kind
    again = load_model(find_model("tuned.safetensors", tmp_path).value)
    assert torch.equal(paint(again.unet, again.text_encoder), paint(tuned))
    assert not torch.allclose(paint(tuned), paint(model.unet), atol=1e-4)
    pipeline = opened_by_diffusers(tmp_path / "tuned.safetensors", kind, tmp_path / "sizes")
    ours = load_unet(found.unet, "cpu", torch.float32)
    latent, context = small.noise(2, 4, 8, 8), small.noise(2, 77, UNETS[kind].context_dim)
    steps, extra, added = torch.tensor([3.0, 801.0]), {}, None
    if kind == "sdxl":
        sizes = torch.tensor([[16.0, 16, 0, 0, 16, 16]] * 2)
        extra = {"added_cond_kwargs": {"text_embeds": small.noise(2, 64), "time_ids": sizes}}
        added = torch.cat([small.noise(2, 64), timestep_embedding(sizes.flatten(), 256).reshape(2, -1)], dim=1)
    with torch.no_grad():
        theirs = pipeline.unet(latent, steps, context, **extra).sample
        assert small.difference(ours(latent, steps, context, added=added), theirs) < small.TOLERANCE


def opened_by_diffusers(path: Path, kind: str, folder: Path) -> Any:
    """The pipeline in a single file. Its sizes are those of a folder with other weights."""
    tokenizer = transformers.CLIPTokenizer.from_pretrained(VOCABULARY)
    parts: dict[str, Any] = {
        "unet": small.reference_unet(UNETS[kind]),
        "vae": small.reference_vae(),
        "text_encoder": small.reference_text_encoder(TEXTS[kind][0]),
        "tokenizer": tokenizer,
        "scheduler": scheduler(),
    }
    if kind == "sdxl":
        parts |= {"text_encoder_2": small.reference_text_encoder(SECOND, projected=True), "tokenizer_2": tokenizer}
        pipeline = diffusers.StableDiffusionXLPipeline
    else:
        parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        pipeline = diffusers.StableDiffusionPipeline
    pipeline(**parts).save_pretrained(folder)
    return pipeline.from_single_file(str(path), config=str(folder), local_files_only=True)
