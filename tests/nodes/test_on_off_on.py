"""Each adapter switched on, off and on again in one process gives the same bytes; off equals a run without it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from nodegraph_diffusion.checkpoint import describe
from nodegraph_diffusion.checkpoint.layouts.configs import write_unet
from nodegraph_diffusion.checkpoint.layouts.controlnet import controlnet_modules
from nodegraph_diffusion.checkpoint.layouts.modules import rename
from nodegraph_diffusion.networks.controlnet import ControlNet
from nodegraph_nodes.models.find import find_model
from nodegraph_nodes.models.parts import load_unet_network
from nodegraph_nodes.models.text_encoders import load_text_network
from nodegraph_nodes.nodes.adapters import apply_control_net, load_control_net, load_embedding, load_lora
from nodegraph_nodes.nodes.latent import empty_latent, noise
from nodegraph_nodes.nodes.models import Model, load_model
from nodegraph_nodes.nodes.sampling import sampler, unet_denoise
from nodegraph_nodes.nodes.text import text_encode
from nodegraph_nodes.types import Image, TextEncoder, UNetModel
from tests.support import small_model
from tests.support import synthetic_checkpoints as synthetic
from tests.support.recording_run import RecordingRun
from tests.support.slow import slow_except

UNET = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"  # (32, 64)
CONVOLUTION = "lora_unet_down_blocks_0_resnets_0_conv1"  # (32, 32, 3, 3)
TEXT = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"  # (64, 64)

LORAS: dict[str, dict[str, tuple[int, ...]]] = {
    "lora": {
        f"{UNET}.lora_up.weight": (32, 2),
        f"{UNET}.lora_down.weight": (2, 64),
        f"{TEXT}.lora_up.weight": (64, 2),
        f"{TEXT}.lora_down.weight": (2, 64),
    },
    "lora of a convolution": {f"{CONVOLUTION}.lora_up.weight": (32, 2, 1, 1), f"{CONVOLUTION}.lora_down.weight": (2, 32, 3, 3)},
    "loha": {
        f"{UNET}.hada_w1_a": (32, 2),
        f"{UNET}.hada_w1_b": (2, 64),
        f"{UNET}.hada_w2_a": (32, 2),
        f"{UNET}.hada_w2_b": (2, 64),
    },
    "lokr": {f"{UNET}.lokr_w1": (8, 8), f"{UNET}.lokr_w2": (4, 8)},
    "dora": {
        f"{UNET}.lora_up.weight": (32, 2),
        f"{UNET}.lora_down.weight": (2, 64),
        f"{UNET}.dora_scale": (32, 1),
    },
    "difference": {f"{CONVOLUTION}.diff": (32, 32, 3, 3), f"{CONVOLUTION}.diff_b": (32,)},
}


class Parts(NamedTuple):
    """The parts that an adapter changes."""

    unet: UNetModel
    text_encoder: TextEncoder
    prompt: str = "a red house"


def with_lora(kind: str, model: Model, folder: Path, run: RecordingRun) -> Parts:
    tensors = {name: synthetic.draw(name, list(shape)) for name, shape in LORAS[kind].items()}
    save_file(tensors, folder / "lora.safetensors")
    return Parts(
        *load_lora(model.unet, model.text_encoder, describe(folder / "lora.safetensors").lora(), 0.7, strength_text=0.4, run=run)
    )


def with_embedding(model: Model, folder: Path, run: RecordingRun) -> Parts:
    save_file({"emb_params": synthetic.draw("style", [2, 64])}, folder / "style.safetensors")
    encoder = load_embedding(model.text_encoder, describe(folder / "style.safetensors").embedding(), "style")
    return Parts(model.unet, encoder, "a red house embedding:style")


def with_control(kind: str, model: Model, folder: Path, run: RecordingRun) -> Parts:
    network = ControlNet(model.unet.part.config)
    synthetic.fill(network)
    state = {key: value.detach() for key, value in network.state_dict().items()}
    if kind == "diffusers":
        table = controlnet_modules(network.config)
        state = {rename(key, table): value for key, value in state.items()}
        (folder / "config.json").write_text(json.dumps(write_unet(network.config, 8)))
    elif kind == "difference":
        base = load_unet_network(model.unet, RecordingRun()).state_dict()
        state = {key: value - base[key] if key in base else value for key, value in state.items()}
        state["difference"] = torch.ones(())
    file = folder / "diffusion_pytorch_model.safetensors"
    save_file({key: value.contiguous() for key, value in state.items()}, file)
    opened = load_control_net(describe(folder if kind == "diffusers" else file).controlnet(), model.unet)
    image = Image(synthetic.draw("hint", [1, 64, 64, 3]).sigmoid())
    return Parts(apply_control_net(model.unet, opened, image, 0.8), model.text_encoder)


ADAPTERS: dict[str, Callable[[Model, Path, RecordingRun], Parts]] = {
    **{kind: lambda model, folder, run, kind=kind: with_lora(kind, model, folder, run) for kind in LORAS},
    "embedding": with_embedding,
    **{
        f"controlnet, {kind}": lambda model, folder, run, kind=kind: with_control(kind, model, folder, run)
        for kind in ("ldm", "diffusers", "difference")
    },
}


def painted(model: Model, parts: Parts, run: RecordingRun) -> Tensor:
    positive, negative = (text_encode(parts.text_encoder, text, run=run) for text in (parts.prompt, "a boat"))
    latent = empty_latent(model.vae, 64, 64)
    denoiser = unet_denoise(parts.unet, positive, negative, run=run)
    return sampler(denoiser, latent, noise(latent, seed=3), steps=2, run=run).samples


def networks(model: Model, run: RecordingRun) -> dict[str, Tensor]:
    both = {"unet": load_unet_network(model.unet, run), "text": load_text_network(model.text_encoder, run)}
    return {f"{part} {key}": value for part, network in both.items() for key, value in network.state_dict().items()}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A small model of the published layout."""
    file = small_model.save_single_file(tmp_path_factory.mktemp("published") / "model.safetensors")
    return load_model(find_model(str(file), Path()).value)


@pytest.mark.parametrize("kind", slow_except(["lora", "embedding", "controlnet, ldm"], ADAPTERS))
def test_on_off_on_gives_the_same_bytes(tmp_path, published, run, kind):
    never = painted(published, plain := Parts(published.unet, published.text_encoder), RecordingRun())
    before = {name: value.clone() for name, value in networks(published, run).items()}

    on = painted(published, adapted := ADAPTERS[kind](published, tmp_path, run), run)
    off = painted(published, plain, run)
    assert torch.equal(painted(published, adapted, run), on)
    assert torch.equal(painted(published, adapted, RecordingRun()), on)  # and where nothing was loaded before
    assert torch.equal(off, never)
    assert not torch.allclose(on, off, atol=1e-3)

    after = networks(published, run)
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
