"""Distortions of drawn pictures that resemble what a model paints: blur, noise, wrong colours, the blocks of a coarse code."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nodegraph_diffusion.recipes.pictureworld.hashing import hashed

Distortion = Callable[[Tensor, torch.Generator], Tensor]


def distort(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Change most of a batch (B, 3, H, W) in [0, 1]: each picture by random amounts of blur, noise and shifts of colour."""
    batch = len(pictures)

    def amount(most: float, *shape: int) -> Tensor:
        return most * torch.rand(batch, *(shape or (1, 1, 1)), generator=generator)

    changed = pictures.lerp(_blurred(pictures, 2), amount(1.0))
    changed = changed.lerp(_blurred(changed, 4), amount(0.5) * (amount(1.0) < 0.3))
    changed = 0.5 + (changed - 0.5) * (0.88 + amount(0.24)) + amount(0.10, 3, 1, 1) - 0.05
    noise = torch.randn(pictures.shape, generator=generator)
    changed = changed + amount(0.06) * noise + amount(0.10) * _blurred(noise, 4)
    return torch.where(amount(1.0) < 0.8, changed, pictures).clamp(0, 1)


def _blurred(pictures: Tensor, factor: int) -> Tensor:
    """What is left after a reduction by a factor and back, by bilinear interpolation."""
    return F.interpolate(F.avg_pool2d(pictures, factor), scale_factor=float(factor), mode="bilinear", align_corners=False)


def _soft(pictures: Tensor, _: torch.Generator) -> Tensor:
    return pictures.lerp(_blurred(pictures, 4), 0.5)


def _noisy(pictures: Tensor, generator: torch.Generator) -> Tensor:
    return pictures + 0.04 * torch.randn(pictures.shape, generator=generator)


def _coded(pictures: Tensor, _: torch.Generator) -> Tensor:
    """8x8 blocks as the 18 lowest of their 64 cosine coefficients, rounded: the artefacts of a strong compression."""
    steps = torch.arange(8, dtype=torch.float64)
    basis = torch.cos((2 * steps[None] + 1) * steps[:, None] * torch.pi / 16) * 0.5
    basis[0] /= 2**0.5
    basis = basis.float()
    side = pictures.shape[-1]
    blocks = pictures.reshape(-1, 3, side // 8, 8, side // 8, 8).permute(0, 1, 2, 4, 3, 5)
    low = (steps[:, None] + steps[None] <= 5).float()
    coefficients = (basis @ blocks @ basis.T * low * 24).round() / 24
    return (basis.T @ coefficients @ basis).permute(0, 1, 2, 4, 3, 5).reshape(pictures.shape)


DISTORTIONS: dict[str, Distortion] = {"as drawn": lambda pictures, _: pictures, "blurred": _soft, "noisy": _noisy, "coded": _coded}
"""The fixed distortions that judges are measured on."""


def distorted(pixels: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    """Pictures (B, H, H, 3), 8-bit, after one of DISTORTIONS; the noise is always the same."""
    pictures = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).float() / 255
    generator = torch.Generator().manual_seed(hashed("distortion", name) >> 1)
    changed = DISTORTIONS[name](pictures, generator).clamp(0, 1)
    return (changed * 255).round().byte().permute(0, 2, 3, 1).numpy()
