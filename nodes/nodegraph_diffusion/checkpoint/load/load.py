"""Networks from checkpoints: which names their tensors have there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from nodegraph_diffusion.checkpoint.detect.model import Checkpoint, TextEncoders, TextPart, UNetPart, VAEPart
from nodegraph_diffusion.checkpoint.layouts.modules import rename, unet_modules, vae_modules
from nodegraph_diffusion.checkpoint.layouts.openclip import Piece, openclip_pieces
from nodegraph_diffusion.checkpoint.load.blank import blank
from nodegraph_diffusion.checkpoint.load.fill import Sources, fill, find_sources
from nodegraph_diffusion.networks.clip import CLIPTextModel
from nodegraph_diffusion.networks.unet import UNet
from nodegraph_diffusion.networks.vae import AutoencoderKL

Network = TypeVar("Network", UNet, AutoencoderKL, CLIPTextModel)

AnyPart = UNetPart | VAEPart | TextPart

_OLD_VAE_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # diffusers up to 0.17 had these


def load_unet(part: UNetPart, device: torch.device | str, dtype: torch.dtype) -> UNet:
    """The denoising network, in evaluation mode, without gradients. Raises CheckpointError where a tensor is off."""
    return _load(part, UNet, device, dtype)


def load_vae(part: VAEPart, device: torch.device | str, dtype: torch.dtype) -> AutoencoderKL:
    """The autoencoder, in evaluation mode, without gradients. Raises CheckpointError where a tensor is off."""
    return _load(part, AutoencoderKL, device, dtype)


def load_text_encoder(part: TextPart, device: torch.device | str, dtype: torch.dtype) -> CLIPTextModel:
    """A text encoder, in evaluation mode, without gradients. Raises CheckpointError where a tensor is off."""
    return _load(part, CLIPTextModel, device, dtype)


def verify(found: Checkpoint | UNetPart | VAEPart | TextEncoders) -> None:
    """Check name, shape and dtype of every tensor of every part, from the headers. Raises CheckpointError."""
    if isinstance(found, Checkpoint):
        for part in (found.unet, found.vae, found.text):
            verify(part)
    elif isinstance(found, UNetPart):
        _sources(found, blank(UNet, found.config))
    elif isinstance(found, TextEncoders):
        for text in found.parts:
            _sources(text, blank(CLIPTextModel, text.config))
    else:
        _sources(found, blank(AutoencoderKL, found.config))


def _load(part: AnyPart, build: Callable[[Any], Network], device: torch.device | str, dtype: torch.dtype) -> Network:
    network = blank(build, part.config)
    return fill(network, _sources(part, network), device, dtype)


def _sources(part: AnyPart, network: nn.Module) -> Sources:
    weights = part.weights
    return find_sources(network, weights.part, weights.paths, weights.prefix, _renaming(part))


def _renaming(part: AnyPart) -> Callable[[str], list[Piece]]:
    """From a tensor's name in its file, less the prefix of its part, to what of ours it holds."""
    naming = part.weights.naming
    if naming == "openclip":
        return openclip_pieces
    if naming == "transformers":
        return lambda key: [Piece(key.removeprefix("text_model."))]  # transformers writes it up to 5.5
    if naming == "ldm":
        return lambda key: [Piece(key)]
    modules = {theirs: ours for ours, theirs in _modules(part).items()}
    for module in [theirs for theirs in modules if part.weights.part == "vae" and "attentions" in theirs]:
        for old, new in _OLD_VAE_ATTENTION.items():
            if module.endswith(f".{new}"):
                modules[module.removesuffix(new) + old] = modules[module]
    return lambda key: [Piece(rename(key, modules))]


def _modules(part: AnyPart) -> dict[str, str]:
    """Our name of each module -> diffusers'."""
    if isinstance(part, UNetPart):
        return unet_modules(part.config)
    return vae_modules(part.config) if isinstance(part, VAEPart) else {}
