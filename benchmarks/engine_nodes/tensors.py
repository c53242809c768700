"""A plugin with nodes that do almost nothing with tensors. Nodes of its file are watched, so plain ones are in another."""

from __future__ import annotations

from nodegraph import hookimpl, node
from nodegraph_nodes.types import Latent


@node("Tensor")
def tensor(mebibytes: int = 64, seed: int = 0) -> Latent:
    """A latent of Gaussian noise in float32 that takes `mebibytes` MiB."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    return Latent(torch.randn(mebibytes, 4, 256, 256, generator=generator), (2048, 2048))  # (B, 4, 256, 256): 1 MiB each


@node("Shift", numeric=True)
def shift(latent: Latent, amount: float = 1.0) -> Latent:
    """The sum of a latent and `amount`."""
    return Latent(latent.samples + amount, latent.size)


@node("Small")
def small() -> Latent:
    """A latent of zeros, (1, 4, 8, 8): 1 KiB."""
    import torch

    return Latent(torch.zeros(1, 4, 8, 8), (64, 64))


@hookimpl
def register_nodes(register):  # type: ignore[no-untyped-def]
    """Tensor, Shift and Small."""
    for function in (tensor, shift, small):
        register(function)
