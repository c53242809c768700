"""A ComfyUI folder `models/` with a small synthetic file of the published layout for every name that graphs ask for."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from nodegraph_diffusion.networks.clip import CLIPTextModel, CLIPVisionConfig, CLIPVisionModel
from nodegraph_diffusion.networks.config import (
    CLIPTextConfig,
    GligenConfig,
    T2IAdapterConfig,
    UNetConfig,
    UpscalerConfig,
    VAEConfig,
)
from nodegraph_diffusion.networks.controlnet import ControlNet
from nodegraph_diffusion.networks.gligen import Gligen
from nodegraph_diffusion.networks.rrdb import Upscaler
from nodegraph_diffusion.networks.shapes import transformer_widths
from nodegraph_diffusion.networks.t2i_adapter import T2IAdapter
from nodegraph_diffusion.networks.unet import UNet
from nodegraph_diffusion.networks.vae import AutoencoderKL
from tests.support import small_networks as small
from tests.support import synthetic_checkpoints as synthetic

State = Mapping[str, Tensor]

WIDTH = 64
"""Of a prompt's tokens, and of the encodings of pictures: what shapes do not show is as in the published files for this width."""

_UNET: dict[str, Any] = {
    "model_channels": 32,
    "channel_mult": (1, 2, 2, 2),
    "num_res_blocks": 1,
    "transformer_depth": (0, 0, 1, 0),
    "context_dim": WIDTH,
}
_LINEAR: dict[str, Any] = {**_UNET, "num_heads": None, "head_channels": 64, "linear_projection": True}
UNETS = {
    "sd1": UNetConfig(**_UNET),
    "sd1-inpainting": UNetConfig(**_UNET, in_channels=9),
    "sd2": UNetConfig(**_LINEAR),
    "sd2-inpainting": UNetConfig(**_LINEAR, in_channels=9),
    "sdxl": UNetConfig(**_LINEAR | {"context_dim": 2 * WIDTH}, added_dim=WIDTH + 6 * 256),
    "sdxl-refiner": UNetConfig(**_LINEAR, added_dim=WIDTH + 5 * 256),
}
_VAE = VAEConfig(channels=32, channel_mult=(1, 1, 1, 1), num_res_blocks=1)
_TEXT = {"width": WIDTH, "layers": 2, "heads": 1, "mlp_width": WIDTH}
_OPENCLIP = {**_TEXT, "activation": "gelu"}
_EMBEDDING = "cond_stage_model.transformer.text_model."


def _filled(network: nn.Module, salt: str) -> State:
    synthetic.fill(network, salt)
    return network.state_dict()


def _below(prefix: str, state: State) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


def _openclip(salt: str, projection: int | None = None) -> dict[str, Tensor]:
    state = _filled(CLIPTextModel(CLIPTextConfig(**_OPENCLIP, projection=projection)), salt)
    return small.openclip_names(state)


def checkpoint(family: str, salt: str) -> State:
    """A whole model. Another `salt` gives other weights."""
    texts = {
        "sd1": lambda: _below(_EMBEDDING, _filled(CLIPTextModel(CLIPTextConfig(**_TEXT)), salt)),
        "sd2": lambda: _below("cond_stage_model.model.", _openclip(salt)),
        "sdxl": lambda: (
            _below("conditioner.embedders.0.transformer.text_model.", _filled(CLIPTextModel(CLIPTextConfig(**_TEXT)), salt))
            | _below("conditioner.embedders.1.model.", _openclip(salt, WIDTH))
        ),
        "sdxl-refiner": lambda: _below("conditioner.embedders.0.model.", _openclip(salt, WIDTH)),
    }
    return {
        **_below("model.diffusion_model.", _filled(UNet(UNETS[family]), salt)),
        **_below("first_stage_model.", _filled(AutoencoderKL(_VAE), salt)),
        **texts[family.removesuffix("-inpainting")](),
    }


def vae(salt: str) -> State:
    return _filled(AutoencoderKL(_VAE), salt)


def control_net(salt: str) -> State:
    return _below("control_model.", _filled(ControlNet(UNETS["sd1"]), salt))


def t2i_adapter(salt: str) -> State:
    config = UNETS["sd1"]
    return _filled(T2IAdapter(T2IAdapterConfig(channels=tuple(mult * config.model_channels for mult in config.channel_mult))), salt)


def lora(salt: str) -> State:
    """A LoRA of rank 2 with kohya's names, for the attention to the prompt on the third level, and for the text encoder."""
    modules = {"lora_te_text_model_encoder_layers_0_self_attn_q_proj": (WIDTH, WIDTH)}
    for part in ("to_k", "to_v"):
        modules[f"lora_unet_down_blocks_2_attentions_0_transformer_blocks_0_attn2_{part}"] = (64, WIDTH)
    state = {}
    for module, (rows, columns) in modules.items():
        shapes = {f"{module}.lora_up.weight": [rows, 2], f"{module}.lora_down.weight": [2, columns], f"{module}.alpha": []}
        state |= {name: synthetic.draw(salt + name, shape) for name, shape in shapes.items()}
    return state


def upscaler(salt: str) -> State:
    return _filled(Upscaler(UpscalerConfig(width=8, growth=4, blocks=1)), salt)


def gligen(salt: str) -> State:
    """The published layout: the layers of each transformer block, whose gates are open, without the UNet around them."""
    network = Gligen(GligenConfig(blocks=tuple(transformer_widths(UNETS["sd1"]).items()), text_width=WIDTH))
    state = {name: torch.tensor(0.9) if "alpha" in name else value for name, value in _filled(network, salt).items()}

    def published(name: str) -> str:
        return re.sub(r"^layers\.([^.]+)\.", lambda match: match[1].replace("/", ".") + ".fuser.", name)

    return {published(name): value for name, value in state.items()}


def image_encoder(salt: str) -> State:
    """CLIP's image encoder as one file of transformers' tensors, for pictures of 224 pixels."""
    sizes = {"patch": 56, "width": WIDTH, "layers": 1, "heads": 1, "mlp_width": WIDTH}
    state = _filled(CLIPVisionModel(CLIPVisionConfig(**sizes, activation="gelu", projection=WIDTH)), salt)
    return {name if name.startswith("visual_") else f"vision_model.{name}": value for name, value in state.items()}


def embedding(salt: str) -> dict[str, Any]:
    """A textual inversion as the program that trained the first ones wrote it."""
    return {"string_to_token": {"*": 265}, "string_to_param": {"*": synthetic.draw(salt, [3, WIDTH])}, "name": "style", "step": 900}


KINDS = {
    "vae": vae,
    "loras": lora,
    "controlnet": control_net,
    "t2i_adapter": t2i_adapter,
    "upscale_models": upscaler,
    "gligen": gligen,
    "clip_vision": image_encoder,
    "embeddings": embedding,
}
"""What is made for a file in a folder of `models/`, other than `checkpoints`."""

_FAMILIES = {
    "refiner": "sdxl-refiner",
    "sd_xl": "sdxl",
    "512-inpainting": "sd2-inpainting",
    "v2-1": "sd2",
    "sd-v1-5-inpainting": "sd1-inpainting",
    "": "sd1",
}


def family_of(name: str) -> str:
    """The family of the checkpoint that is published under a name."""
    return next(family for sign, family in _FAMILIES.items() if sign in name)


def write_models(root: Path, files: Mapping[str, str]) -> None:
    """Write into ComfyUI's `models/` at `root` a file for each name, which has a folder of `models/` as its value.

    Files that are there already stay. Every name gives other weights; floating-point numbers are float16.
    """
    for name, folder in files.items():
        path = root / folder / name
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        made = checkpoint(family_of(name), name) if folder == "checkpoints" else KINDS[folder](name)
        if path.suffix == ".safetensors":
            save_file({key: value.half().contiguous() for key, value in made.items()}, path)
        else:
            torch.save(made, path)
        os.utime(path, (1, 1))
