"""Pictures as prompts of SDXL: their encodings, with noise, replace the pooled encoding of the text (unCLIP, Ramesh et al. 2022).

The noise and the sums are those of ComfyUI's "revision".
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from nodegraph_diffusion.conditioning.prompt import Prompt

_LEVELS = 1000
_LARGEST_BETA = 0.999
_SEED_OFFSET = 10  # the noise is not that of the sampling


def with_images(prompt: Prompt, embeddings: Tensor, strength: float, noise: float, *, seed: int) -> Prompt:
    """The prompt with the encodings (n, P) of pictures: `pooled` is that of all its pictures, (1, P).

    Each encoding gets noise of the level `noise`, from 0 to 1, and is multiplied by `strength`. If there are several, `pooled` is
    their sum, with noise of level 0.
    """
    parts = torch.cat([strength * noised(one[None], noise, seed) for one in embeddings])  # (n, P)
    parts = parts if prompt.images is None else torch.cat([prompt.images, parts])
    pooled = parts if len(parts) == 1 else noised(parts.sum(0, keepdim=True), 0.0, seed)
    return replace(prompt, images=parts, pooled=pooled)


def noised(embedding: Tensor, noise: float, seed: int) -> Tensor:
    """An encoding (1, P) with noise of a level from 0 to 1, of the 1000 of a cosine schedule (Nichol & Dhariwal 2021, Eq. 17)."""
    signal = alphas_cumprod()[round((_LEVELS - 1) * noise)]
    drawn = torch.randn(embedding.shape, generator=torch.Generator().manual_seed((seed - _SEED_OFFSET) % 2**64))
    return float(signal.sqrt()) * embedding + float((1 - signal).sqrt()) * drawn


def alphas_cumprod() -> Tensor:
    """The signal's share of the variance at each level, (1000,) float64, decreasing."""
    times = torch.arange(_LEVELS + 1, dtype=torch.float64) / _LEVELS
    signal = ((times + 0.008) / 1.008 * math.pi / 2).cos().square()
    betas = (1 - signal[1:] / signal[:-1]).clamp(max=_LARGEST_BETA)
    return (1 - betas).cumprod(0)
