"""ControlNet: a copy of a UNet's encoder that sees a hint and adds residuals to the UNet (Zhang et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from weakref import WeakKeyDictionary

import torch.nn.functional as F
from torch import Tensor, nn

from nodegraph_diffusion.networks.attention import Context
from nodegraph_diffusion.networks.config import HINT_WIDTHS, UNetConfig
from nodegraph_diffusion.networks.source import NetworkSource, network_from
from nodegraph_diffusion.networks.unet import Controls, UNetEncoder
from nodegraph_diffusion.resizing import cropped


class ControlNet(UNetEncoder):
    """Residuals for each skip connection of a UNet of the same config, and for its middle block, from a latent and a hint.

    Zhang et al. 2023, sec. 3.2; the modules are named as in the published files. `hint_widths` are the channels of the maps that it
    makes of a hint, each of half the height and width of the one before; `hint_scale` are pixels of the hint per latent cell along
    a side.
    """

    def __init__(self, config: UNetConfig, hint_widths: Sequence[int] = HINT_WIDTHS) -> None:
        super().__init__(config)
        self.hint_widths = tuple(hint_widths)
        self.hint_scale = 2 ** (len(hint_widths) - 1)
        layers: list[nn.Module] = [nn.Conv2d(3, hint_widths[0], 3, padding=1), nn.SiLU()]
        for width, following in pairwise(hint_widths):
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.SiLU()]
            layers += [nn.Conv2d(width, following, 3, padding=1, stride=2), nn.SiLU()]
        last = nn.Conv2d(hint_widths[-1], config.model_channels, 3, padding=1)
        self.input_hint_block = nn.Sequential(*layers, last)
        self.zero_convs = nn.ModuleList(nn.Sequential(nn.Conv2d(width, width, 1)) for width in self.skips)
        self.middle_block_out = nn.Sequential(nn.Conv2d(self.skips[-1], self.skips[-1], 1))
        for zero in (last, self.zero_convs, self.middle_block_out):
            for parameter in zero.parameters():
                nn.init.zeros_(parameter)

    def forward(
        self, x: Tensor, hint: Tensor, timesteps: Tensor, context: Tensor | Context, added: Tensor | None = None
    ) -> Controls:
        """(B, in_channels, h, w), a picture (B, 3, 8h, 8w) in [0, 1], (B,), a prompt -> residuals for `UNet.forward`."""
        layers = iter((context if isinstance(context, Context) else self.project_context(context)).layers)
        embedding = self.embed(timesteps, added, x.dtype)
        residuals = []
        for i, (block, convolution) in enumerate(zip(self.input_blocks, self.zero_convs, strict=True)):
            x = block(x, embedding, layers)
            if i == 0:
                x = x + self.input_hint_block(hint)
            residuals.append(convolution(x))
        middle: Tensor = self.middle_block_out(self.middle_block(x, embedding, layers))
        return tuple(residuals), middle


class ControlNetGuide:
    """A ControlNet with its hint, as a denoiser's `Control`: residuals times `strength` between `start` and `end`.

    `hint` is pictures (1 or B, H, W, 3) in [0, 1]. It is cropped around its centre to the proportions of the latent, and resized to
    the nearest pixels, as in ComfyUI. `global_pool`: each map of residuals is replaced by its mean, which holds the contents of the
    hint but not their places; ControlNet 1.1's "shuffle" was trained so.
    """

    def __init__(
        self,
        network: ControlNet | NetworkSource[ControlNet],
        hint: Tensor,
        strength: float,
        *,
        start: float = 0.0,
        end: float = 1.0,
        global_pool: bool = False,
    ) -> None:
        self.network, self.hint, self.strength, self.start, self.end = network, hint, strength, start, end
        self.global_pool = global_pool
        self._projected: WeakKeyDictionary[ControlNet, tuple[Tensor, Context]] = WeakKeyDictionary()  # freed with their network

    def __call__(self, x: Tensor, timesteps: Tensor, context: Tensor, added: Tensor | None, /) -> Controls:
        """(n * B, C, h, w), (n * B,), (n * B, L, D), (n * B, A) or None -> residuals."""
        network = network_from(self.network)
        weight = next(network.parameters())
        projected = self._projected.get(network)
        if projected is None or projected[0] is not context:
            projected = self._projected[network] = (context, network.project_context(context.to(weight)))
        hint = fitted(self.hint, (x.shape[-2] * network.hint_scale, x.shape[-1] * network.hint_scale)).to(weight)
        if x.shape[0] % hint.shape[0]:
            raise ValueError(
                f"image: expected one hint, or one for each of the pictures, found {hint.shape[0]} for {x.shape[0]} "
                "at once; give one"
            )
        hint = hint.repeat(x.shape[0] // hint.shape[0], 1, 1, 1)
        added = None if added is None else added.to(weight)
        skips, middle = network(x.to(weight), hint, timesteps, projected[1], added=added)
        if self.global_pool:
            skips, middle = tuple(map(_mean, skips)), _mean(middle)
        return tuple((skip * self.strength).to(x) for skip in skips), (middle * self.strength).to(x)


def _mean(residual: Tensor) -> Tensor:
    """(B, C, h, w) with its mean over h and w in each place."""
    return residual.mean((2, 3), keepdim=True).expand_as(residual)


def fitted(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, H, W, 3) cropped around its centre to the proportions of `size`, and resized to it: (B, 3, *size)."""
    return F.interpolate(cropped(pictures.movedim(-1, 1), size), size=size, mode="nearest-exact")
