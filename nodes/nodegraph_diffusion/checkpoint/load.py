"""Networks from checkpoints: which names their tensors have there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from nodegraph_diffusion.checkpoint.fill import Sources, fill, find_sources
from nodegraph_diffusion.checkpoint.ldm import PREFIXES
from nodegraph_diffusion.checkpoint.model import TEXT_PARTS, Checkpoint, Part
from nodegraph_diffusion.checkpoint.names import rename, unet_modules, vae_modules
from nodegraph_diffusion.checkpoint.openclip import Piece, openclip_pieces
from nodegraph_diffusion.clip import CLIPTextModel
from nodegraph_diffusion.unet import UNet
from nodegraph_diffusion.vae import AutoencoderKL

Network = TypeVar("Network", UNet, AutoencoderKL, CLIPTextModel)

_OLD_VAE_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def load_unet(checkpoint: Checkpoint, device: torch.device | str, dtype: torch.dtype) -> UNet:
    """The denoising network, in evaluation mode, without gradients. Raises CheckpointError where a tensor is off."""
    return _load(checkpoint, "unet", _empty_unet(checkpoint), device, dtype)


def load_vae(checkpoint: Checkpoint, device: torch.device | str, dtype: torch.dtype) -> AutoencoderKL:
    """The autoencoder, in evaluation mode, without gradients. Raises CheckpointError where a tensor is off."""
    return _load(checkpoint, "vae", _empty_vae(checkpoint), device, dtype)


def load_text_encoder(checkpoint: Checkpoint, device: torch.device | str, dtype: torch.dtype, index: int = 0) -> CLIPTextModel:
    """The text encoder `index`, in evaluation mode, without gradients. Raises CheckpointError where a tensor is off."""
    return _load(checkpoint, checkpoint.text_parts[index], _empty_text_encoder(checkpoint, index), device, dtype)


def verify(checkpoint: Checkpoint) -> None:
    """Check name, shape and dtype of every tensor of every part, from the headers. Raises CheckpointError."""
    _sources(checkpoint, "unet", _empty_unet(checkpoint))
    _sources(checkpoint, "vae", _empty_vae(checkpoint))
    for index, part in enumerate(checkpoint.text_parts):
        _sources(checkpoint, part, _empty_text_encoder(checkpoint, index))


def _empty_unet(checkpoint: Checkpoint) -> UNet:
    with torch.device("meta"):
        return UNet(checkpoint.unet)


def _empty_vae(checkpoint: Checkpoint) -> AutoencoderKL:
    with torch.device("meta"):
        return AutoencoderKL(checkpoint.vae)


def _empty_text_encoder(checkpoint: Checkpoint, index: int) -> CLIPTextModel:
    with torch.device("meta"):
        return CLIPTextModel(checkpoint.texts[index])


def _load(checkpoint: Checkpoint, part: Part, network: Network, device: torch.device | str, dtype: torch.dtype) -> Network:
    return fill(network, _sources(checkpoint, part, network), device, dtype)


def _sources(checkpoint: Checkpoint, part: Part, network: Network) -> Sources:
    prefix = PREFIXES[checkpoint.kind][part] if checkpoint.layout == "ldm" else ""
    return find_sources(network, part, checkpoint.weights[part], prefix, _renaming(checkpoint, part))


def _renaming(checkpoint: Checkpoint, part: Part) -> Callable[[str], list[Piece]]:
    """From a tensor's name in its file, less the prefix of its part, to what of ours it holds."""
    if part in TEXT_PARTS:
        if checkpoint.layout == "ldm" and PREFIXES[checkpoint.kind][part].endswith("model."):
            return openclip_pieces
        return lambda key: [Piece(key.removeprefix("text_model."))]  # transformers writes it up to 5.5
    if checkpoint.layout == "ldm":
        return lambda key: [Piece(key)]
    table = unet_modules(checkpoint.unet) if part == "unet" else vae_modules(checkpoint.vae)
    modules = {theirs: ours for ours, theirs in table.items()}
    if part == "vae":  # diffusers up to 0.17 had other names
        for module in [theirs for theirs in modules if "attentions" in theirs]:
            for old, new in _OLD_VAE_ATTENTION.items():
                if module.endswith(f".{new}"):
                    modules[module.removesuffix(new) + old] = modules[module]
    return lambda key: [Piece(rename(key, modules))]
