"""The distance of two pictures as a network sees them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Features = Callable[[Tensor], Sequence[Tensor]]
"""From pictures (B, 3, H, W) to feature maps (B, c, h, w), one for each layer."""


def perceptual_loss(features: Features, pixels: Tensor, target: Tensor) -> Tensor:
    """Squared distance of the features, normalised over channels, summed over layers: (B,) (Zhang et al. 2018, eq. 1; weights 1).

    The published networks (VGG and the learned weights of LPIPS) are not shipped: `features` is a network trained here, such as a
    CLIP image encoder. It receives no gradient for `target`.
    """
    with torch.no_grad():
        expected = features(target)
    found = features(pixels)
    return torch.stack([_distance(a, b) for a, b in zip(found, expected, strict=True)]).sum(0)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    return (_normalised(a) - _normalised(b)).square().sum(1).flatten(1).mean(1)


def _normalised(features: Tensor) -> Tensor:
    return features / (features.square().sum(1, keepdim=True).sqrt() + 1e-10)
