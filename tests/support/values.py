"""Values of the pack around given or random tensors."""

from __future__ import annotations

import torch

from nodegraph_diffusion.conditioning.prompt import Area, Prompt
from nodegraph_nodes.codecs import CODECS
from nodegraph_nodes.types import Conditioning, Image, ImageEmbedding, Latent, Mask, Noise, Sigmas


def make(kind, tensor):
    """A value of `kind` around a tensor."""
    return {
        Image: lambda: Image(tensor),
        Mask: lambda: Mask(tensor),
        Latent: lambda: Latent(tensor, (24, 40)),
        Conditioning: lambda: Conditioning((Prompt(tensor, strength=0.1, area=Area(0.5, 1, 0, 0.25, fraction=True)),)),
        Noise: lambda: Noise(tensor, 2**64 - 1),
        ImageEmbedding: lambda: ImageEmbedding(tensor),
        Sigmas: lambda: Sigmas(tensor),
    }[kind]()


def tensor_of(value):
    (tensor,) = CODECS[type(value)].tensors(value).values()
    return tensor


def image(batch=1, height=3, width=5, seed=0):
    return Image(torch.rand(batch, height, width, 3, generator=torch.Generator().manual_seed(seed)))
