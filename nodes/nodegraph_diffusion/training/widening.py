"""Starting a network from a narrower one that is trained (Chen et al. 2016, "Net2Net", arXiv:1511.05641, sec. 2.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def widen(narrow: nn.Module, wide: nn.Module, *, seed: int = 0) -> None:
    """Let `wide` compute what `narrow` computes. They have the same layers; `wide` has 1, 2, 3, ... times the channels in each.

    The new channels are copies of the old ones. What reads a channel now reads all its copies, each with a random share of the old
    weight, so the copies learn different things. Two things limit this: normalisation must be over all channels together (one
    group), since the mean and the deviation are the same among the copies only then; and attention, which divides by the square
    root of its channels, must keep their number. Raises ValueError if a layer is missing, or has another number of channels.
    """
    generator = torch.Generator().manual_seed(seed)
    old, new = narrow.state_dict(), wide.state_dict()
    if old.keys() != new.keys():
        raise ValueError(f"the networks have different layers: {', '.join(sorted(old.keys() ^ new.keys()))}")
    for name, weights in new.items():
        if any(now % before for now, before in zip(weights.shape, old[name].shape, strict=True)):
            raise ValueError(f"{name} is {tuple(weights.shape)}; expected multiples of {tuple(old[name].shape)}")
        weights.copy_(_with_copies(old[name], weights.shape, generator))


def _with_copies(weights: Tensor, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Weights (outputs, inputs, ...) or (outputs,) of the wider layer."""
    weights = weights[torch.arange(shape[0]) % len(weights)]
    if len(shape) == 1 or weights.shape[1] == shape[1]:
        return weights
    source = torch.arange(shape[1]) % weights.shape[1]  # of which input each input is a copy
    parts = torch.rand(*shape[:2], generator=generator) + 0.5
    sums = torch.zeros(shape[0], weights.shape[1]).index_add_(1, source, parts)
    shares = parts / sums[:, source]  # those of the copies of one input add up to 1
    return weights[:, source] * shares.view(*shares.shape, *[1] * (len(shape) - 2))
