"""LoRA files made of small tensors, and what they change in a small UNet."""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from nodegraph_diffusion.adapters.lora.patch import patched
from nodegraph_diffusion.checkpoint import describe
from nodegraph_diffusion.networks.unet import UNet
from tests.support import small_networks as small

OURS = "input_blocks.1.1.transformer_blocks.0.attn2.to_k"  # (32, 128)
THEIRS = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
CONV = "input_blocks.1.0.in_layers.2"  # (32, 32, 3, 3)
CONV_THEIRS = "down_blocks.0.resnets.0.conv1"


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) / shape[-1] ** 0.5


UP, DOWN = noise(32, 4, seed=1), noise(4, 128, seed=2)
CHANGE = UP @ DOWN


@functools.cache
def shared_unet() -> UNet:
    """A network that no test changes."""
    return small.our_unet()


def write(folder: Path, tensors: dict[str, Tensor], name: str = "lora.safetensors") -> Path:
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / name)
    return folder / name


def apply(folder: Path, tensors: dict[str, Tensor], strength: float = 1.0, module: str = OURS) -> Tensor:
    """The change that the file makes to the weight of `module`."""
    unet = shared_unet()
    before = unet.state_dict()[f"{module}.weight"].clone()
    after = patched(unet, "unet", [(describe(write(folder, tensors)).lora(), strength)])
    assert torch.equal(unet.state_dict()[f"{module}.weight"], before)
    return after.state_dict()[f"{module}.weight"] - before


def kohya(module: str) -> str:
    return "lora_unet_" + module.replace(".", "_")
