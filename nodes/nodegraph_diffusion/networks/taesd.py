"""TAESD: a tiny autoencoder for the latents of Stable Diffusion, distilled from the large one.

Source: O. B. Bohan, github.com/madebyollin/taesd, 2023. Its latents are scaled as the UNet sees them, without a scaling factor.
Modules are named as in the published files, by their index in the sequence.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nodegraph_diffusion.networks.config import TAESDConfig as TAESDConfig

_LARGEST = 3.0  # latents are limited to [-3, 3]


class Clamp(nn.Module):
    """A soft limit of latents to [-3, 3]: large values are compressed, small ones hardly change."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        return torch.tanh(x / _LARGEST) * _LARGEST


class Block(nn.Module):
    """Three convolutions, added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers = [layer for _ in range(3) for layer in (nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU())]
        self.conv = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        return torch.relu(self.conv(x) + x)


class TAESD(nn.Sequential):
    """One half of a tiny autoencoder: the encoder or the decoder, as `config` says."""

    def __init__(self, config: TAESDConfig) -> None:
        last = len(config.layers) - 1
        super().__init__(*(_layer(kind, config, index == last) for index, kind in enumerate(config.layers)))
        self.config = config

    def forward(self, x: Tensor) -> Tensor:
        """An encoder: pixels (B, 3, H, W) in [-1, 1] -> latent (B, c, ceil(H / 8), ceil(W / 8)).

        A decoder: latent (B, c, h, w) -> pixels (B, 3, 8 * h, 8 * w), about [-1, 1] and not clamped.
        """
        encoding = self.config.half == "encoder"
        x = x / 2 + 0.5 if encoding else x
        for layer in self:
            x = layer(x)
        return x if encoding else x * 2 - 1


def _layer(kind: str, config: TAESDConfig, last: bool) -> nn.Module:
    (into, out), wide = config.ends, config.WIDTH
    match kind:
        case "conv":
            return nn.Conv2d(wide, out, 3, padding=1) if last else nn.Conv2d(into, wide, 3, padding=1)
        case "plain":
            return nn.Conv2d(wide, wide, 3, padding=1, bias=False)
        case "down":
            return nn.Conv2d(wide, wide, 3, padding=1, stride=2, bias=False)
        case "up":
            return nn.Upsample(scale_factor=2)
        case "clamp":
            return Clamp()
        case "relu":
            return nn.ReLU()
        case _:
            return Block(wide)
