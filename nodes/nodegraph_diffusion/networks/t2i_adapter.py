"""T2I-Adapter: a small network that adds feature maps of a picture to a UNet's encoder (Mou et al. 2023)."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch.nn.functional as F
from torch import Tensor, nn

from nodegraph_diffusion.networks.config import T2IAdapterConfig as T2IAdapterConfig
from nodegraph_diffusion.networks.controlnet import fitted
from nodegraph_diffusion.networks.source import NetworkSource, network_from
from nodegraph_diffusion.networks.unet import EncoderMaps


class AdapterBlock(nn.Module):
    """Two convolutions added to their input; `in_conv` changes the width before, if there is one."""

    def __init__(self, channels: int, out_channels: int, widens: bool) -> None:
        super().__init__()
        self.in_conv = nn.Conv2d(channels, out_channels, 1) if widens else None
        self.block1 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.block2 = nn.Conv2d(out_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C', h, w)."""
        x = x if self.in_conv is None else self.in_conv(x)
        out: Tensor = x + self.block2(F.relu(self.block1(x)))
        return out


class T2IAdapter(nn.Module):
    """A feature map of a picture for each level of a UNet's encoder. The modules are named as in the authors' files."""

    def __init__(self, config: T2IAdapterConfig) -> None:
        super().__init__()
        self.config = config
        self.conv_in = nn.Conv2d(config.in_channels * config.unshuffle**2, config.channels[0], 3, padding=1)
        self.body = nn.ModuleList()
        before = config.channels[0]
        for width in config.channels:
            for i in range(config.blocks):
                self.body.append(AdapterBlock(before if i == 0 else width, width, widens=i == 0 and before != width))
            before = width

    def forward(self, hint: Tensor) -> tuple[Tensor, ...]:
        """(B, in_channels, 8h, 8w) in [0, 1] -> (B, C, h, w), and a map of half the height and width for each further level."""
        x = self.conv_in(F.pixel_unshuffle(hint, self.config.unshuffle))
        maps = []
        for level in range(len(self.config.channels)):
            x = F.avg_pool2d(x, 2, ceil_mode=True) if level else x
            for i in range(self.config.blocks):
                x = self.body[level * self.config.blocks + i](x)
            maps.append(x)
        return tuple(maps)


class T2IAdapterGuide:
    """A T2I-Adapter with its picture, as a denoiser's `Control`: maps times `strength` between `start` and `end`.

    `hint` is pictures (1 or B, H, W, 3) in [0, 1], cropped and resized as for a ControlNet; an adapter with one input channel sees
    their mean. `blocks` is the number of residual blocks on each level of the UNet, after which the map of the level is added. The
    maps do not depend on the noise, so they are computed once.
    """

    def __init__(
        self,
        network: T2IAdapter | NetworkSource[T2IAdapter],
        hint: Tensor,
        strength: float,
        *,
        start: float = 0.0,
        end: float = 1.0,
        blocks: int = 2,
    ) -> None:
        self.network, self.hint, self.strength, self.start, self.end = network, hint, strength, start, end
        self.blocks = blocks
        self._maps: WeakKeyDictionary[T2IAdapter, tuple[tuple[int, int], tuple[Tensor, ...]]] = WeakKeyDictionary()

    def __call__(self, x: Tensor, timesteps: Tensor, context: Tensor, added: Tensor | None, /) -> EncoderMaps:
        """(n * B, C, h, w) -> the maps; nothing else of the input counts."""
        network = network_from(self.network)
        size = (x.shape[-2], x.shape[-1])
        known = self._maps.get(network)
        if known is None or known[0] != size:
            known = self._maps[network] = (size, self._maps_for(network, size))
        maps = known[1]
        if x.shape[0] % maps[0].shape[0]:
            raise ValueError(
                f"image: expected one picture, or one for each of those that are sampled, found {maps[0].shape[0]} for "
                f"{x.shape[0]} at once; give one"
            )
        repeats = x.shape[0] // maps[0].shape[0]
        after: list[Tensor | None] = []
        for one in maps:
            after += [None] * self.blocks + [(one * self.strength).repeat(repeats, 1, 1, 1).to(x)]
        return EncoderMaps(tuple(after))

    def _maps_for(self, network: T2IAdapter, size: tuple[int, int]) -> tuple[Tensor, ...]:
        weight, factor = next(network.parameters()), network.config.unshuffle
        hint = fitted(self.hint, (size[0] * factor, size[1] * factor)).to(weight)
        if network.config.in_channels == 1:
            hint = hint.mean(1, keepdim=True)
        maps: tuple[Tensor, ...] = network(hint)
        return maps
