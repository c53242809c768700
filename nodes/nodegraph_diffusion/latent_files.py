"""ComfyUI's `.latent` files: safetensors files with latents that are not scaled, and nothing about their size or their model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

import torch
from safetensors.torch import load, save
from torch import Tensor

_TENSOR: Final = "latent_tensor"
_VERSION: Final = "latent_format_version_0"
"""An empty tensor. Files without it are older, and their latents are scaled as those of Stable Diffusion 1."""
_OLD_SCALE: Final = 0.18215


def is_latent_file(data: bytes) -> bool:
    """Whether the content of a file is that of such a file."""
    return f'"{_TENSOR}"'.encode() in data[: _end_of_header(data)]


def encode_latent(unscaled: Tensor, texts: Mapping[str, str]) -> bytes:
    """The content of a file with latents (B, C, h, w), and with `texts`, which ComfyUI does not read."""
    return save({_TENSOR: unscaled.contiguous(), _VERSION: torch.tensor([])}, metadata=dict(texts))


def decode_latent(data: bytes) -> tuple[Tensor, dict[str, str]]:
    """The latents in a file, not scaled, (B, C, h, w), float32; and its texts."""
    tensors = load(data)
    texts = json.loads(data[8 : _end_of_header(data)]).get("__metadata__", {})
    latents = tensors[_TENSOR].float()
    return latents if _VERSION in tensors else latents / _OLD_SCALE, texts


def _end_of_header(data: bytes) -> int:
    return 8 + int.from_bytes(data[:8], "little")
