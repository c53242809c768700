"""Networks from checkpoints: every tensor accounted for, memory-mapped, in the dtype and on the device wanted.

A network is built on the meta device, so nothing is initialised in vain, and each tensor goes from the mapped file to
its place in one step: the peak is the network plus one tensor. Convolutions are laid out channels last, and the feature
maps follow them: on a CPU in bfloat16, a step takes a sixth less time so and decoding less than half. Where the file
already has the dtype wanted, on the CPU, the other parameters are the file's own pages; replace such a file by renaming
another over it, never by writing into it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from safetensors import safe_open

from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.checkpoint.header import TensorInfo, read_header
from nodegraph_diffusion.checkpoint.ldm import KNOWN_UNUSED, PREFIXES
from nodegraph_diffusion.checkpoint.model import Checkpoint, Part
from nodegraph_diffusion.checkpoint.names import rename, unet_modules, vae_modules
from nodegraph_diffusion.clip import CLIPTextModel
from nodegraph_diffusion.unet import UNet
from nodegraph_diffusion.vae import AutoencoderKL

Network = TypeVar("Network", UNet, AutoencoderKL, CLIPTextModel)

_FLOATS = ("F16", "BF16", "F32", "F64")
_OLD_VAE_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def load_unet(checkpoint: Checkpoint, device: torch.device | str, dtype: torch.dtype) -> UNet:
    """The denoising network, in evaluation mode, without gradients. Raises CheckpointError where a tensor is off."""
    return _load(checkpoint, "unet", _empty_unet(checkpoint), device, dtype)


def load_vae(checkpoint: Checkpoint, device: torch.device | str, dtype: torch.dtype) -> AutoencoderKL:
    """The autoencoder, in evaluation mode, without gradients. Raises CheckpointError where a tensor is off."""
    return _load(checkpoint, "vae", _empty_vae(checkpoint), device, dtype)


def load_text_encoder(checkpoint: Checkpoint, device: torch.device | str, dtype: torch.dtype) -> CLIPTextModel:
    """The text encoder, in evaluation mode, without gradients. Raises CheckpointError where a tensor is off."""
    return _load(checkpoint, "text_encoder", _empty_text_encoder(checkpoint), device, dtype)


def verify(checkpoint: Checkpoint) -> None:
    """Check name, shape and dtype of every tensor of every part, from the headers. Raises CheckpointError."""
    _sources(checkpoint, "unet", _empty_unet(checkpoint))
    _sources(checkpoint, "vae", _empty_vae(checkpoint))
    _sources(checkpoint, "text_encoder", _empty_text_encoder(checkpoint))


def _empty_unet(checkpoint: Checkpoint) -> UNet:
    with torch.device("meta"):
        return UNet(checkpoint.unet)


def _empty_vae(checkpoint: Checkpoint) -> AutoencoderKL:
    with torch.device("meta"):
        return AutoencoderKL(checkpoint.vae)


def _empty_text_encoder(checkpoint: Checkpoint) -> CLIPTextModel:
    with torch.device("meta"):
        return CLIPTextModel(checkpoint.text)


def _load(checkpoint: Checkpoint, part: Part, network: Network, device: torch.device | str, dtype: torch.dtype) -> Network:
    sources = _sources(checkpoint, part, network)
    state = {}
    with safe_open(checkpoint.weights[part], framework="pt") as file:
        for key, parameter in network.state_dict().items():
            tensor = file.get_tensor(sources[key]).reshape(parameter.shape)
            layout = torch.channels_last if tensor.dim() == 4 else torch.preserve_format
            state[key] = tensor.to(device).to(dtype, memory_format=layout)
    network.load_state_dict(state, assign=True)
    return network.requires_grad_(False).eval()


def _sources(checkpoint: Checkpoint, part: Part, network: Network) -> dict[str, str]:
    """For each of the network's tensors, the name it has in its file; each used once, none left but the known ones."""
    path = checkpoint.weights[part]
    prefix = PREFIXES[part] if checkpoint.layout == "ldm" else ""
    our_name = _renaming(checkpoint, part)
    wanted = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    sources: dict[str, str] = {}
    unknown = []
    for source, info in read_header(path).items():
        if not source.startswith(prefix) or KNOWN_UNUSED.fullmatch(source):
            continue
        key = our_name(source.removeprefix(prefix))
        if key not in wanted or key in sources:
            unknown.append(source)
            continue
        _check_tensor(checkpoint, part, source, info, wanted[key])
        sources[key] = source
    missing = [key for key in wanted if key not in sources]
    if missing or unknown:
        found = [f"{len(names)} {what} ({names[0]}, ...)" for what, names in (("missing", missing), ("unknown", unknown)) if names]
        raise CheckpointError(
            path,
            expected=f"the {len(wanted)} tensors of its {part}",
            found=" and ".join(found),
            hint="The file is incomplete, or of another model than its shapes suggest.",
        )
    return sources


def _renaming(checkpoint: Checkpoint, part: Part) -> Callable[[str], str]:
    """From a tensor's name in its file, less the prefix of its part, to ours."""
    if part == "text_encoder":
        return lambda key: key.removeprefix("text_model.")  # transformers writes it up to 5.5
    if checkpoint.layout == "ldm":
        return lambda key: key
    table = unet_modules(checkpoint.unet) if part == "unet" else vae_modules(checkpoint.vae)
    modules = {theirs: ours for ours, theirs in table.items()}
    if part == "vae":  # diffusers up to 0.17 had other names
        for module in [theirs for theirs in modules if "attentions" in theirs]:
            for old, new in _OLD_VAE_ATTENTION.items():
                if module.endswith(f".{new}"):
                    modules[module.removesuffix(new) + old] = modules[module]
    return lambda key: rename(key, modules)


def _check_tensor(checkpoint: Checkpoint, part: Part, source: str, info: TensorInfo, shape: tuple[int, ...]) -> None:
    """Raise CheckpointError unless the tensor has `shape`; a linear layer may stand for a convolution of size one."""
    pointwise = shape[:2] == info.shape[:2] and {*shape[2:], *info.shape[2:]} <= {1}
    if info.dtype not in _FLOATS or not (shape == info.shape or pointwise):
        raise CheckpointError(
            checkpoint.weights[part],
            expected=f"{source!r} of shape {list(shape)} in {', '.join(_FLOATS)}",
            found=f"shape {list(info.shape)} in {info.dtype}",
            hint="The file is damaged, or of another model.",
        )
