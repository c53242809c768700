"""T2I-Adapters for Stable Diffusion 1 and 2, with the names of their authors and of diffusers."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from nodegraph_diffusion.checkpoint.detect.contents import Contents, file_contents, file_refusal
from nodegraph_diffusion.checkpoint.detect.extra_networks.file import NetworkFile, damage_of, network_file
from nodegraph_diffusion.checkpoint.detect.shapes import Shapes
from nodegraph_diffusion.checkpoint.files.header import Header, HeaderCache
from nodegraph_diffusion.checkpoint.layouts.diffusers_folder import WEIGHTS
from nodegraph_diffusion.networks.config import T2IAdapterConfig
from nodegraph_diffusion.networks.shapes import t2i_adapter_shapes

_PREFIXES = ("adapter.", "")
_RESNET = re.compile(r"body\.(\d+)\.resnets\.(\d+)\.(.+)")
_IN_CONV = re.compile(r"body\.(\d+)\.in_conv\.(.+)")  # of diffusers, which counts levels
_SCALE = 8  # pixels for each cell of a latent
_NOT_ONE = "Give a T2I-Adapter for Stable Diffusion 1, such as t2iadapter_depth_sd15v2."


class T2IAdapterFile(NetworkFile[T2IAdapterConfig]):
    """A file with a T2I-Adapter."""


def folder_t2i_adapter(folder: Path, headers: HeaderCache) -> T2IAdapterFile:
    """The T2I-Adapter in a folder that diffusers wrote. Raises CheckpointError for other folders."""
    header = headers.read(folder / WEIGHTS["unet"])
    return replace(file_t2i_adapter(header, file_contents(header.tensors)), path=folder)


def file_t2i_adapter(header: Header, contents: Contents) -> T2IAdapterFile:
    """The T2I-Adapter in a file. Raises CheckpointError for other files, and for adapters for Stable Diffusion XL."""
    prefix = next((prefix for prefix in _PREFIXES if f"{prefix}conv_in.weight" in header.tensors), None)
    if prefix is None or contents.content not in (None, "t2i_adapter") or contents.other_family:
        raise file_refusal("t2i_adapter", header.path, header.tensors, found=contents, hint=_NOT_ONE)
    inside = [int(match[2]) for key in header.tensors if (match := _RESNET.match(key.removeprefix(prefix)))]
    blocks = 1 + max(inside, default=1)
    ours = {
        key: _our_name(key.removeprefix(prefix), blocks if inside else None) for key in header.tensors if key.startswith(prefix)
    }
    shapes = Shapes(Header(header.path, {ours[key]: info for key, info in header.tensors.items() if key in ours}))
    with damage_of(header.path, "a T2I-Adapter"):
        _, channels = shapes.get("conv_in.weight", 4)[:2]
        count = shapes.count("body.{}.block1.weight")
        in_channels = channels // _SCALE**2
        if in_channels not in (1, 3) or channels % _SCALE**2:
            raise ValueError(f"{channels} input channels, not those of an adapter for Stable Diffusion 1 (64 or 192)")
        config = T2IAdapterConfig(
            in_channels=in_channels,
            channels=tuple(shapes.get(f"body.{i}.block1.weight", 4)[0] for i in range(0, count, blocks)),
            blocks=blocks,
            unshuffle=_SCALE,
        )
    return network_file(T2IAdapterFile, header, config, t2i_adapter_shapes(config), name="T2I-Adapter", rename=ours.get)


def _our_name(key: str, blocks: int | None) -> str:
    """Our name, that of the authors, of a tensor; diffusers counts levels, and `blocks` on each level."""
    if blocks is None:
        return key
    if match := _RESNET.fullmatch(key):
        return f"body.{int(match[1]) * blocks + int(match[2])}.{match[3]}"
    match = _IN_CONV.fullmatch(key)
    return key if match is None else f"body.{int(match[1]) * blocks}.in_conv.{match[2]}"
