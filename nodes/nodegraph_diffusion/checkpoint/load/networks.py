"""Networks from their descriptions: the parts of models, ControlNets and TAESD."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, TypeVar

import torch
from torch import nn

from nodegraph_diffusion.checkpoint.detect.controlnet import ControlNetFile
from nodegraph_diffusion.checkpoint.detect.model import Checkpoint, TextEncoders, TextPart, UNetPart, VAEPart
from nodegraph_diffusion.checkpoint.detect.taesd import TAESDFile
from nodegraph_diffusion.checkpoint.files.header import Header, read_header
from nodegraph_diffusion.checkpoint.files.mapped_file import MappedFile
from nodegraph_diffusion.checkpoint.layouts.controlnet import DIFFERENCE_MARK, PREFIX, controlnet_modules
from nodegraph_diffusion.checkpoint.layouts.modules import rename, unet_modules, vae_modules
from nodegraph_diffusion.checkpoint.layouts.openclip import Piece, openclip_pieces
from nodegraph_diffusion.checkpoint.load.blank_network import blank
from nodegraph_diffusion.checkpoint.load.weights import Source, Sources, fill, find_sources
from nodegraph_diffusion.networks.clip import CLIPTextModel
from nodegraph_diffusion.networks.controlnet import ControlNet
from nodegraph_diffusion.networks.taesd import TAESD
from nodegraph_diffusion.networks.unet import UNet
from nodegraph_diffusion.networks.vae import AutoencoderKL

Network = TypeVar("Network", UNet, AutoencoderKL, CLIPTextModel)

AnyPart = UNetPart | VAEPart | TextPart
PiecesOf = Callable[[str], list[Piece]]

_OLD_VAE_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # in diffusers up to 0.17


def load_unet(part: UNetPart, device: torch.device | str, dtype: torch.dtype) -> UNet:
    """The denoising network, in evaluation mode, without gradients. Raises CheckpointError if a tensor is missing or wrong."""
    return _load(part, UNet, device, dtype)


def load_vae(part: VAEPart, device: torch.device | str, dtype: torch.dtype) -> AutoencoderKL:
    """The autoencoder, in evaluation mode, without gradients. Raises CheckpointError if a tensor is missing or wrong."""
    return _load(part, AutoencoderKL, device, dtype)


def load_text_encoder(part: TextPart, device: torch.device | str, dtype: torch.dtype) -> CLIPTextModel:
    """A text encoder, in evaluation mode, without gradients. Raises CheckpointError if a tensor is missing or wrong."""
    return _load(part, CLIPTextModel, device, dtype)


def load_controlnet(file: ControlNetFile, device: torch.device | str, dtype: torch.dtype, base: UNet | None = None) -> ControlNet:
    """The ControlNet, in evaluation mode, without gradients; `base` is the UNet that a file of differences is added to.

    Raises CheckpointError if a tensor is missing or wrong, and ValueError if such a file has no base, or one of another width.
    """
    network = blank(ControlNet, file.config)
    mapped = MappedFile(file.weights)
    sources = find_sources(network, [mapped.header], name="ControlNet", prefix="", pieces_of=_controlnet_pieces(file))
    network = fill(network, sources, [mapped], device=device, dtype=dtype)
    if not file.difference:
        return network
    if base is None:
        raise ValueError(f"{file.path} holds differences from a UNet: give the UNet that it is for, too")
    weights = base.state_dict()
    state = network.state_dict()
    for key, value in state.items():
        if key in weights:
            if weights[key].shape != value.shape:
                raise ValueError(
                    f"{file.path}: expected a UNet with {key!r} of shape {list(value.shape)}, found one of another width"
                )
            state[key] = (value.float() + weights[key].to(device).float()).to(dtype)
    network.load_state_dict(state, assign=True)
    return network.requires_grad_(False).eval()


def load_taesd(file: TAESDFile, device: torch.device | str, dtype: torch.dtype) -> TAESD:
    """Half of a TAESD, in evaluation mode, without gradients."""
    sources = {key: Source(file.path, name, Piece(key)) for key, name in file.names.items()}
    return fill(blank(TAESD, file.config), sources, [MappedFile(file.path)], device=device, dtype=dtype)


def verify(found: Checkpoint | UNetPart | VAEPart | TextEncoders) -> None:
    """Check name, shape and dtype of every tensor of every part, from the headers. Raises CheckpointError."""
    if isinstance(found, Checkpoint):
        parts: tuple[AnyPart, ...] = (found.unet, found.vae, *found.text.parts)
    else:
        parts = found.parts if isinstance(found, TextEncoders) else (found,)
    for part in parts:
        headers = [read_header(path) for path in part.weights.paths]
        _find_sources(part, blank(_network_class(part), part.config), headers)


def _network_class(part: AnyPart) -> Callable[[Any], nn.Module]:
    if isinstance(part, UNetPart):
        return UNet
    return AutoencoderKL if isinstance(part, VAEPart) else CLIPTextModel


def _load(part: AnyPart, build: Callable[[Any], Network], device: torch.device | str, dtype: torch.dtype) -> Network:
    network = blank(build, part.config)
    with ExitStack() as stack:
        files = [stack.enter_context(MappedFile(path)) for path in part.weights.paths]
        sources = _find_sources(part, network, [file.header for file in files])
        return fill(network, sources, files, device=device, dtype=dtype)


def _find_sources(part: AnyPart, network: nn.Module, headers: Sequence[Header]) -> Sources:
    weights = part.weights
    return find_sources(network, headers, name=weights.part, prefix=weights.prefix, pieces_of=_pieces(part))


def _pieces(part: AnyPart) -> PiecesOf:
    """The function from the name of a part's tensor in its file, without the prefix, to our tensors within it."""
    naming = part.weights.naming
    if naming == "openclip":
        return openclip_pieces
    if naming == "transformers":
        return lambda key: [Piece(key.removeprefix("text_model."))]  # transformers writes it up to 5.5
    if naming == "ldm" or isinstance(part, TextPart):
        return lambda key: [Piece(key)]
    if isinstance(part, UNetPart):
        return _diffusers_pieces(unet_modules(part.config))
    table = vae_modules(part.config)
    modules = {diffusers: ldm for ldm, diffusers in table.items()}
    for ldm, diffusers in table.items():
        for old, new in _OLD_VAE_ATTENTION.items():
            if "attentions" in diffusers and diffusers.endswith(f".{new}"):
                modules[diffusers.removesuffix(new) + old] = ldm
    return lambda key: [Piece(rename(key, modules))]


def _controlnet_pieces(file: ControlNetFile) -> PiecesOf:
    if file.layout == "ldm":
        return lambda key: [] if key == DIFFERENCE_MARK else [Piece(key.removeprefix(PREFIX))]
    return _diffusers_pieces(controlnet_modules(file.config))


def _diffusers_pieces(table: dict[str, str]) -> PiecesOf:
    modules = {diffusers: ldm for ldm, diffusers in table.items()}
    return lambda key: [Piece(rename(key, modules))]
