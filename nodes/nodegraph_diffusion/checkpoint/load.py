"""Networks from checkpoints: every tensor accounted for, memory-mapped, in the dtype and on the device wanted.

A network is built on the meta device, so nothing is initialised in vain, and each tensor goes from the mapped file to
its place in one step: the peak is the network plus one tensor. Convolutions are laid out channels last, and the feature
maps follow them: on a CPU in bfloat16, a step takes a sixth less time so and decoding less than half. Where the file
already has the dtype wanted, on the CPU, the other parameters are the file's own pages; replace such a file by renaming
another over it, never by writing into it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch

from nodegraph_diffusion.checkpoint.arena import Arena
from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.checkpoint.header import TensorInfo, read_header
from nodegraph_diffusion.checkpoint.ldm import KNOWN_UNUSED, PREFIXES
from nodegraph_diffusion.checkpoint.mapped import MappedFile
from nodegraph_diffusion.checkpoint.model import TEXT_PARTS, Checkpoint, Part
from nodegraph_diffusion.checkpoint.names import rename, unet_modules, vae_modules
from nodegraph_diffusion.checkpoint.openclip import Piece, openclip_pieces
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


class _Source(NamedTuple):
    """Where a tensor of a network lies: in a file, under a name, and how much of what is there it is."""

    file: Path
    name: str
    piece: Piece


def _load(checkpoint: Checkpoint, part: Part, network: Network, device: torch.device | str, dtype: torch.dtype) -> Network:
    sources = _sources(checkpoint, part, network)
    shapes = {key: tuple(parameter.shape) for key, parameter in network.state_dict().items()}
    arena = Arena(sum(Arena.room(shape, dtype) for shape in shapes.values())) if torch.device(device).type == "cpu" else None
    state = {}
    with ExitStack() as stack:
        files = {path: stack.enter_context(MappedFile(path)) for path in checkpoint.weights[part]}
        for key, shape in shapes.items():
            path, name, (_, third, turned) = sources[key]
            tensor = files[path].tensor(name)
            tensor = tensor if third is None else tensor.chunk(3)[third]
            tensor = (tensor.T if turned else tensor).reshape(shape)
            layout = torch.channels_last if len(shape) == 4 else torch.contiguous_format
            if arena is None:
                state[key] = tensor.to(device).to(dtype, memory_format=layout)
            elif tensor.dtype == dtype and tensor.is_contiguous(memory_format=layout):
                state[key] = tensor  # the file's own pages
                continue
            else:
                state[key] = arena.empty(shape, dtype, layout).copy_(tensor)
            files[path].release(name)
    network.load_state_dict(state, assign=True)
    return network.requires_grad_(False).eval()


def _sources(checkpoint: Checkpoint, part: Part, network: Network) -> dict[str, _Source]:
    """For each of the network's tensors, where it lies; each used once, none left but the known ones."""
    paths = checkpoint.weights[part]
    prefix = PREFIXES[checkpoint.kind][part] if checkpoint.layout == "ldm" else ""
    pieces_of = _renaming(checkpoint, part)
    wanted = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    sources: dict[str, _Source] = {}
    unknown = []
    for path in paths:
        for name, info in read_header(path).items():
            if not name.startswith(prefix):
                continue
            pieces = [piece for piece in pieces_of(name.removeprefix(prefix)) if piece.key in wanted and piece.key not in sources]
            for piece in pieces:
                _check_tensor(path, name, info, wanted[piece.key], piece)
                sources[piece.key] = _Source(path, name, piece)
            if not pieces and not KNOWN_UNUSED.fullmatch(name):
                unknown.append(name)
    missing = [key for key in wanted if key not in sources]
    if missing or unknown:
        found = [f"{len(names)} {what} ({names[0]}, ...)" for what, names in (("missing", missing), ("unknown", unknown)) if names]
        raise CheckpointError(
            paths[0],
            expected=f"the {len(wanted)} tensors of its {part}",
            found=" and ".join(found),
            hint="The file is incomplete, or of another model than its shapes suggest.",
        )
    return sources


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


def _check_tensor(path: Path, name: str, info: TensorInfo, shape: tuple[int, ...], piece: Piece) -> None:
    """Raise CheckpointError unless the tensor has `shape`; a linear layer may stand for a convolution of size one."""
    whole = shape if piece.third is None else (3 * shape[0], *shape[1:])
    whole = whole[::-1] if piece.turned else whole
    pointwise = whole[:2] == info.shape[:2] and {*whole[2:], *info.shape[2:]} <= {1}
    if info.dtype not in _FLOATS or not (whole == info.shape or pointwise):
        raise CheckpointError(
            path,
            expected=f"{name!r} of shape {list(whole)} in {', '.join(_FLOATS)}",
            found=f"shape {list(info.shape)} in {info.dtype}",
            hint="The file is damaged, or of another model.",
        )
