"""Small models with synthetic weights, as a diffusers folder and as a single file, with every part of a real model."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from nodegraph_diffusion.checkpoint import save_diffusers
from nodegraph_diffusion.networks.clip import CLIPTextModel
from nodegraph_diffusion.networks.config import CLIPTextConfig, UNetConfig, VAEConfig
from nodegraph_diffusion.networks.unet import UNet
from nodegraph_diffusion.networks.vae import AutoencoderKL
from nodegraph_diffusion.noise_schedule import NoiseSchedule
from nodegraph_diffusion.text.tokenizer import END, START, WORD_END, byte_alphabet, load_tokenizer
from tests.support import synthetic_checkpoints as synthetic

WORDS = ("a", "red", "house", "blue", "boat", "at", "night")
UNET = UNetConfig(
    model_channels=16,
    channel_mult=(1, 2),
    num_res_blocks=1,
    transformer_depth=(1, 0),
    num_heads=2,
    context_dim=32,
    norm_groups=8,
)
VAE = VAEConfig(channels=16, channel_mult=(1, 1, 2, 2), num_res_blocks=1, norm_groups=8)
PLAIN_SCHEDULE = NoiseSchedule()
SIDE = 32  # pixels: the native size


def save_small_model(folder: Path, salt: str = "") -> Path:
    """Write the model to `folder` and return that. Another `salt` gives another denoising network."""
    tokenizer = folder.with_name(f"{folder.name}-tokenizer")
    vocabulary = _write_tokenizer(tokenizer)
    text = CLIPTextConfig(vocab_size=vocabulary, width=UNET.context_dim, layers=2, heads=2, max_length=16, mlp_width=64)
    networks = UNet(UNET), AutoencoderKL(VAE), CLIPTextModel(text)
    for network, prefix in zip(networks, (salt, "", ""), strict=True):
        synthetic.fill(network, prefix)
    save(folder, *networks, tokenizer=tokenizer)
    return folder


def save(
    folder: Path,
    unet: UNet,
    vae: AutoencoderKL,
    text_encoder: CLIPTextModel,
    *,
    tokenizer: Path,
    schedule: NoiseSchedule = PLAIN_SCHEDULE,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a model of these networks to `folder`, with the tokenizer in the folder `tokenizer`."""
    save_diffusers(
        folder,
        unet,
        vae,
        text_encoder,
        noise_schedule=schedule,
        tokenizer_folder=tokenizer,
        special_tokens=load_tokenizer(tokenizer).special_ids,
        sample_size=SIDE,
        dtype=dtype,
    )


def save_single_file(path: Path, salt: str = "", dtype: torch.dtype = torch.float16) -> Path:
    """Write a model in the layout of the published single files to `path` and return that; its vocabulary is CLIP's.

    Another `salt` gives another denoising network.
    """
    text = CLIPTextConfig(width=64, layers=1, heads=1, mlp_width=64)
    unet = UNetConfig(model_channels=32, channel_mult=(1, 2), num_res_blocks=1, transformer_depth=(1, 0), context_dim=64)
    vae = VAEConfig(channels=32, channel_mult=(1, 1, 1, 1), num_res_blocks=1)
    parts = {
        "model.diffusion_model.": UNet(unet),
        "first_stage_model.": AutoencoderKL(vae),
        "cond_stage_model.transformer.text_model.": CLIPTextModel(text),
    }
    tensors = {}
    for prefix, network in parts.items():
        synthetic.fill(network, salt if isinstance(network, UNet) else "")
        tensors.update({prefix + name: tensor.to(dtype) for name, tensor in network.state_dict().items()})
    save_file(tensors, path)
    return path


def _write_tokenizer(folder: Path) -> int:
    """A vocabulary of CLIP's format that spells everything and knows `WORDS`; returns its size."""
    alphabet = byte_alphabet()
    merges: dict[tuple[str, str], None] = {}
    for word in WORDS:
        pieces = [*word[:-1], word[-1] + WORD_END]
        while len(pieces) > 1:
            merges[pieces[0], pieces[1]] = None
            pieces[:2] = [pieces[0] + pieces[1]]
    joined = dict.fromkeys(left + right for left, right in merges)
    tokens = [*alphabet, *(byte + WORD_END for byte in alphabet), *joined, START, END]
    special = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    folder.mkdir(parents=True)
    files = {
        "vocab.json": json.dumps({token: i for i, token in enumerate(tokens)}),
        "merges.txt": "\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges), ""]),
        "special_tokens_map.json": json.dumps(special),
        "tokenizer_config.json": json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 16, **special}),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return len(tokens)
