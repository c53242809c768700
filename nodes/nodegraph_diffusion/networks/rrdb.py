"""Upscaling networks of the ESRGAN kind: residual-in-residual dense blocks (Wang et al. 2018; Wang et al. 2021, Real-ESRGAN)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nodegraph_diffusion.networks.config import UpscalerConfig as UpscalerConfig

_RESIDUAL = 0.2  # the share of a block's output that is added to its input
_SLOPE = 0.2  # of the leaky ReLUs
_MULTIPLE = 4


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees the outputs of all before it."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.conv4, self.conv5 = (
            nn.Conv2d(width + i * growth, growth if i < 4 else width, 3, padding=1) for i in range(5)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) -> (B, width, h, w)."""
        seen = x
        for convolution in (self.conv1, self.conv2, self.conv3, self.conv4):
            seen = torch.cat([seen, F.leaky_relu(convolution(seen), _SLOPE)], dim=1)
        out: Tensor = x + self.conv5(seen) * _RESIDUAL
        return out


class ResidualBlock(nn.Module):
    """Three dense blocks."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (DenseBlock(width, growth) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) -> (B, width, h, w)."""
        out: Tensor = x + self.rdb3(self.rdb2(self.rdb1(x))) * _RESIDUAL
        return out


class Upscaler(nn.Module):
    """Enlarges pictures `config.scale` times. The modules are named as in Real-ESRGAN's files."""

    def __init__(self, config: UpscalerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.conv_first = nn.Conv2d(config.channels * config.unshuffle**2, width, 3, padding=1)
        self.body = nn.ModuleList(ResidualBlock(width, config.growth) for _ in range(config.blocks))
        self.conv_body = nn.Conv2d(width, width, 3, padding=1)
        for i in range(1, config.doublings + 1):
            setattr(self, f"conv_up{i}", nn.Conv2d(width, width, 3, padding=1))
        self.conv_hr = nn.Conv2d(width, width, 3, padding=1)
        self.conv_last = nn.Conv2d(width, config.channels, 3, padding=1)

    @property
    def scale(self) -> int:
        """How many times pictures become larger."""
        return self.config.scale

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, 3, scale * H, scale * W).

        For a network that makes pictures smaller first, they are mirrored up to multiples of 4, as by spandrel.
        """
        config, (height, width) = self.config, pixels.shape[-2:]
        multiple = math.lcm(_MULTIPLE, config.unshuffle) if config.unshuffle > 1 else 1
        rows, columns = -height % multiple, -width % multiple
        x = F.pixel_unshuffle(F.pad(pixels, (0, columns, 0, rows), mode="reflect"), config.unshuffle)
        x = first = self.conv_first(x)
        for block in self.body:
            x = block(x)
        x = first + self.conv_body(x)
        for i in range(1, config.doublings + 1):
            x = F.leaky_relu(getattr(self, f"conv_up{i}")(F.interpolate(x, scale_factor=2.0, mode="nearest")), _SLOPE)
        out: Tensor = self.conv_last(F.leaky_relu(self.conv_hr(x), _SLOPE))
        return out[..., : height * config.scale, : width * config.scale]
