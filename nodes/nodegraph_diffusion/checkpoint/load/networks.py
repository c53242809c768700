"""Networks from their descriptions: the parts of models, ControlNets and TAESD."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeVar

import torch

from nodegraph_diffusion.checkpoint.detect.controlnet import ControlNetFile
from nodegraph_diffusion.checkpoint.detect.extra_networks.file import NetworkFile
from nodegraph_diffusion.checkpoint.detect.extra_networks.gligen import GligenFile
from nodegraph_diffusion.checkpoint.detect.extra_networks.image_encoder import ImageEncoderFile
from nodegraph_diffusion.checkpoint.detect.extra_networks.other_upscaler import OtherUpscalerFile
from nodegraph_diffusion.checkpoint.detect.extra_networks.t2i_adapter import T2IAdapterFile
from nodegraph_diffusion.checkpoint.detect.extra_networks.taesd import TAESDFile
from nodegraph_diffusion.checkpoint.detect.extra_networks.upscaler import UpscalerFile
from nodegraph_diffusion.checkpoint.detect.model import TextPart, UNetPart, VAEPart
from nodegraph_diffusion.checkpoint.detect.sources import AnyPart, Source, controlnet_sources, part_sources
from nodegraph_diffusion.checkpoint.files.mapped_file import MappedFile
from nodegraph_diffusion.checkpoint.layouts.openclip import Piece
from nodegraph_diffusion.checkpoint.load.blank_network import blank
from nodegraph_diffusion.checkpoint.load.other_upscaler import OtherUpscaler, load_other_upscaler
from nodegraph_diffusion.checkpoint.load.weights import fill
from nodegraph_diffusion.networks.clip import CLIPTextModel, CLIPVisionModel
from nodegraph_diffusion.networks.controlnet import ControlNet
from nodegraph_diffusion.networks.gligen import Gligen
from nodegraph_diffusion.networks.rrdb import Upscaler
from nodegraph_diffusion.networks.t2i_adapter import T2IAdapter
from nodegraph_diffusion.networks.taesd import TAESD
from nodegraph_diffusion.networks.unet import UNet
from nodegraph_diffusion.networks.vae import AutoencoderKL
from nodegraph_diffusion.networks.vector_quantiser import autoencoder

Network = TypeVar("Network", UNet, AutoencoderKL, CLIPTextModel)
C = TypeVar("C")
E = TypeVar("E", Upscaler, CLIPVisionModel, T2IAdapter, Gligen)


def load_unet(part: UNetPart, device: torch.device | str, dtype: torch.dtype) -> UNet:
    """The denoising network, in evaluation mode, without gradients. Raises CheckpointError if a tensor is missing or wrong."""
    return _load(part, UNet, device, dtype)


def load_vae(part: VAEPart, device: torch.device | str, dtype: torch.dtype) -> AutoencoderKL:
    """The autoencoder, in evaluation mode, without gradients. Raises CheckpointError if a tensor is missing or wrong."""
    return _load(part, autoencoder, device, dtype)


def load_text_encoder(part: TextPart, device: torch.device | str, dtype: torch.dtype) -> CLIPTextModel:
    """A text encoder, in evaluation mode, without gradients. Raises CheckpointError if a tensor is missing or wrong."""
    return _load(part, CLIPTextModel, device, dtype)


def load_controlnet(file: ControlNetFile, device: torch.device | str, dtype: torch.dtype, base: UNet | None = None) -> ControlNet:
    """The ControlNet, in evaluation mode, without gradients; `base` is the UNet that a file of differences is added to.

    Raises CheckpointError if a tensor is missing or wrong, and ValueError if such a file has no base, or one of another width.
    """
    mapped = MappedFile(file.weights)
    sources = controlnet_sources(file, mapped.header)
    network = fill(
        blank(partial(ControlNet, hint_widths=file.hint_widths), file.config), sources.tensors, [mapped], device=device, dtype=dtype
    )
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


def load_upscaler(
    file: UpscalerFile | OtherUpscalerFile, device: torch.device | str, dtype: torch.dtype
) -> Upscaler | OtherUpscaler:
    """The upscaling network, in evaluation mode, without gradients. Raises CheckpointError as `load_other_upscaler` does."""
    if isinstance(file, OtherUpscalerFile):
        return load_other_upscaler(file, device, dtype)
    return _load_extra(file, Upscaler, device, dtype)


def load_image_encoder(file: ImageEncoderFile, device: torch.device | str, dtype: torch.dtype) -> CLIPVisionModel:
    """CLIP's image encoder, in evaluation mode, without gradients."""
    return _load_extra(file, CLIPVisionModel, device, dtype)


def load_t2i_adapter(file: T2IAdapterFile, device: torch.device | str, dtype: torch.dtype) -> T2IAdapter:
    """The T2I-Adapter, in evaluation mode, without gradients."""
    return _load_extra(file, T2IAdapter, device, dtype)


def load_gligen(file: GligenFile, device: torch.device | str, dtype: torch.dtype) -> Gligen:
    """GLIGEN's layers, in evaluation mode, without gradients."""
    return _load_extra(file, Gligen, device, dtype)


def _load_extra(file: NetworkFile[C], build: Callable[[C], E], device: torch.device | str, dtype: torch.dtype) -> E:
    with MappedFile(file.weights) as mapped:
        return fill(blank(build, file.config), file.sources, [mapped], device=device, dtype=dtype)


def load_taesd(file: TAESDFile, device: torch.device | str, dtype: torch.dtype) -> TAESD:
    """Half of a TAESD, in evaluation mode, without gradients."""
    sources = {key: Source(file.path, name, Piece(key)) for key, name in file.names.items()}
    return fill(blank(TAESD, file.config), sources, [MappedFile(file.path)], device=device, dtype=dtype)


def _load(part: AnyPart, build: Callable[[Any], Network], device: torch.device | str, dtype: torch.dtype) -> Network:
    network = blank(build, part.config)
    with ExitStack() as stack:
        files = [stack.enter_context(MappedFile(path)) for path in part.weights.paths]
        sources = part_sources(part, [file.header for file in files])
        return fill(network, sources.tensors, files, device=device, dtype=dtype)
