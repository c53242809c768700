"""Training with less memory: the activations inside a block are computed again when its gradients are (Chen et al. 2016)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from nodegraph_diffusion.networks import attention, clip, unet, vae

_BLOCKS: tuple[type[nn.Module], ...] = (unet.ResBlock, attention.TransformerBlock, vae.ResnetBlock, vae.AttnBlock, clip.CLIPLayer)


def recompute_activations(network: nn.Module) -> int:
    """Make the blocks of a network recompute their activations in training; returns how many they are. Results do not change."""
    blocks = [module for module in network.modules() if type(module) in _RECOMPUTING]
    for block in blocks:
        block.__class__ = _RECOMPUTING[type(block)]
    return len(blocks)


def _recomputing(block: type[nn.Module]) -> type[nn.Module]:
    """The class of blocks that recompute; names of weights, and copies, are those of the block."""

    def forward(self: nn.Module, *inputs: Any) -> Any:
        if not torch.is_grad_enabled():
            return block.forward(self, *inputs)
        return checkpoint(block.forward, self, *inputs, use_reentrant=False)

    return type(f"Recomputing{block.__name__}", (block,), {"forward": forward, "__doc__": block.__doc__})


_RECOMPUTING = {block: _recomputing(block) for block in _BLOCKS}
