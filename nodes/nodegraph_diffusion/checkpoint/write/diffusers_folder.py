"""Writing a model as a folder that diffusers can open."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from nodegraph_diffusion.checkpoint.families import Part
from nodegraph_diffusion.checkpoint.files.json_file import Json
from nodegraph_diffusion.checkpoint.layouts.configs import write_scheduler, write_text, write_unet, write_vae
from nodegraph_diffusion.checkpoint.layouts.diffusers_folder import CLASSES, CONFIG, INDEX, SCHEDULER_CONFIG, WEIGHTS
from nodegraph_diffusion.checkpoint.layouts.modules import rename, unet_modules, vae_modules
from nodegraph_diffusion.networks.clip import CLIPTextModel
from nodegraph_diffusion.networks.unet import UNet
from nodegraph_diffusion.networks.vae import AutoencoderKL
from nodegraph_diffusion.noise_schedule import NoiseSchedule


def save_diffusers(
    folder: Path,
    unet: UNet,
    vae: AutoencoderKL,
    text_encoder: CLIPTextModel,
    *,
    noise_schedule: NoiseSchedule,
    tokenizer_folder: Path,
    special_tokens: Mapping[str, int],
    sample_size: int,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write the model to `folder`, which diffusers' StableDiffusionPipeline and our `describe` can open.

    `special_tokens` are the tokenizer's `bos_token_id`, `eos_token_id` and `pad_token_id`; `sample_size` is the native side in
    pixels. The index is written last, so a folder that has one is complete.
    """
    unet_table, vae_table = unet_modules(unet.config), vae_modules(vae.config)
    tensors: dict[Part, dict[str, Tensor]] = {
        "unet": {rename(key, unet_table): value for key, value in unet.state_dict().items()},
        "vae": {rename(key, vae_table): _as_linear(key, value) for key, value in vae.state_dict().items()},
        "text_encoder": {f"text_model.{key}": value for key, value in text_encoder.state_dict().items()},
    }
    configs: dict[Part, Json] = {
        "unet": write_unet(unet.config, sample_size // vae.config.factor),
        "vae": write_vae(vae.config, sample_size),
        "text_encoder": write_text(text_encoder.config, special_tokens),
    }
    scheduler = write_scheduler(noise_schedule)
    index = {
        "_class_name": "StableDiffusionPipeline",
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", scheduler["_class_name"]],
        "text_encoder": ["transformers", CLASSES["text_encoder"]],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", CLASSES["unet"]],
        "vae": ["diffusers", CLASSES["vae"]],
    }
    for part, state in tensors.items():
        _write_json(folder / part / CONFIG, configs[part])
        state = {key: value.detach().to("cpu", dtype).contiguous() for key, value in state.items()}
        save_file(state, folder / part / WEIGHTS[part], metadata={"format": "pt"})
    _write_json(folder / SCHEDULER_CONFIG, scheduler)
    shutil.copytree(tokenizer_folder, folder / "tokenizer", dirs_exist_ok=True)
    _write_json(folder / INDEX, index)


def _as_linear(key: str, value: Tensor) -> Tensor:
    """The autoencoder's attention weights as diffusers has them, without their two dimensions of size one."""
    return value.flatten(1) if ".attn_1." in key and value.dim() == 4 else value


def _write_json(file: Path, content: Json) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
