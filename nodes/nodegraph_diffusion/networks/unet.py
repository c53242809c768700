"""The denoising network: a UNet with cross-attention to the prompt."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nodegraph_diffusion.networks.attention import (
    AttentionHook,
    Context,
    KeysValues,
    SpatialTransformer,
    TokenHook,
    TransformerBlock,
)
from nodegraph_diffusion.networks.config import UNetConfig as UNetConfig

Controls = tuple[tuple[Tensor, ...], Tensor]
"""Residuals for the skip connections, in order of `input_blocks`, and for the middle block (Zhang et al. 2023, Eq. 2)."""


@dataclass(frozen=True, eq=False)
class EncoderMaps:
    """Maps to add to the outputs of `input_blocks`, in order; None adds nothing (Mou et al. 2023, Eq. 5).

    The following blocks see the sums, and so do the skip connections. Fewer maps than blocks are enough.
    """

    maps: tuple[Tensor | None, ...]


_BOX_BASE = 100.0  # of the frequencies of a box's edges


def timestep_embedding(timesteps: Tensor, channels: int) -> Tensor:
    """Sinusoids of `timesteps` (B,), cosines first: (B, channels) float32 (Ho et al. 2020, appendix B)."""
    half = channels // 2
    exponents = torch.arange(half, dtype=torch.float32, device=timesteps.device) / half
    angles = timesteps.float()[:, None] * torch.exp(-math.log(10000.0) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def guidance_embedding(scale: float, channels: int) -> Tensor:
    """Sinusoids of a guidance scale w, 0 for none, sines first: (1, channels) float32 (Luo et al. 2023, sec. 4.2).

    As for the published networks: of 1000 w, with a last frequency of exactly 1 / 10000.
    """
    half = channels // 2
    exponents = torch.arange(half, dtype=torch.float32) / max(half - 1, 1)
    angles = 1000 * scale * torch.exp(-math.log(10000.0) * exponents)
    return F.pad(torch.cat([angles.sin(), angles.cos()]), (0, channels % 2))[None]


def box_waves(boxes: Tensor, frequencies: int) -> Tensor:
    """Sines and cosines of the edges of boxes, (B, N, 4) in fractions of the sides: (B, N, 8 * frequencies).

    See Li et al. 2023 ("GLIGEN"), sec. 3.2.
    """
    exponents = torch.arange(frequencies, dtype=torch.float32, device=boxes.device) / frequencies
    angles = boxes[:, :, None].float() * _BOX_BASE ** exponents[:, None]  # (B, N, F, 4)
    return torch.stack([angles.sin(), angles.cos()], dim=3).flatten(2)


class LabelTokens(nn.Module):
    """A learned vector for each class, to which a network adds one for the box (Rombach et al. 2022, sec. 4.3 and appendix D.1).

    Beside the `classes` there are two more: "there is no label" fills up pictures that have fewer labels than others, and "nothing
    is said" is what a denoiser receives without a condition. Without `frequencies`, boxes are ignored.
    """

    def __init__(self, classes: int, frequencies: int | None, width: int) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.classes = nn.Embedding(classes + 2, width)
        if frequencies is not None:
            self.places = nn.Sequential(nn.Linear(8 * frequencies, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, labels: Tensor) -> Tensor:
        """(B, N, LABEL_WIDTH), see there -> (B, N, width)."""
        tokens: Tensor = self.classes(labels[:, :, 0].long())
        if self.frequencies is None:
            return tokens
        placed: Tensor = tokens + self.places(box_waves(labels[:, :, 1:], self.frequencies).to(tokens))
        return placed


class ResBlock(nn.Module):
    """Two convolutions with the timestep added between them; `out_layers.2` is the published model's unused dropout."""

    def __init__(self, channels: int, out_channels: int, embedding: int, norm_groups: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(norm_groups, channels, eps=1e-5), nn.SiLU(), nn.Conv2d(channels, out_channels, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, out_channels))
        last = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        nn.init.zeros_(last.weight)
        self.out_layers = nn.Sequential(nn.GroupNorm(norm_groups, out_channels, eps=1e-5), nn.SiLU(), nn.Identity(), last)
        self.skip_connection = nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(B, C, h, w), (B, E) -> (B, C', h, w)."""
        hidden = self.in_layers(x) + self.emb_layers(embedding)[:, :, None, None]
        out: Tensor = self.skip_connection(x) + self.out_layers(hidden)
        return out


class Downsample(nn.Module):
    """A convolution of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, ceil(h / 2), ceil(w / 2))."""
        out: Tensor = self.op(x)
        return out


class Upsample(nn.Module):
    """Nearest-neighbour enlargement and a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, C, h, w) -> (B, C, *size)."""
        out: Tensor = self.conv(F.interpolate(x, size=size, mode="nearest"))
        return out


class Block(nn.ModuleList):
    """One entry of the UNet's block lists: layers with different inputs besides the feature map."""

    def forward(
        self,
        x: Tensor,
        embedding: Tensor,
        context: Iterator[KeysValues],
        size: tuple[int, int] | None = None,
        attention: AttentionHook | None = None,
        token_hooks: Sequence[TokenHook] = (),
    ) -> Tensor:
        """(B, C, h, w) -> (B, C', h', w'). `size` is the output size of an Upsample; a block with one needs it."""
        for layer in self:
            if isinstance(layer, ResBlock):
                x = layer(x, embedding)
            elif isinstance(layer, SpatialTransformer):
                x = layer(x, context, attention, token_hooks)
            elif isinstance(layer, Upsample):
                x = layer(x, size)
            else:
                x = layer(x)
        return x


class UNetEncoder(nn.Module):
    """The encoder and the middle block of a UNet, which a ControlNet copies. `skips` are the widths of the skip connections."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.model_channels
        embedding = channels * 4
        self.time_embed = nn.Sequential(nn.Linear(channels, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        if config.guidance_dim is not None:
            self.time_embedding = nn.ModuleDict({"cond_proj": nn.Linear(config.guidance_dim, channels, bias=False)})
        if config.added_dim is not None:
            added = nn.Sequential(nn.Linear(config.added_dim, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
            self.label_emb = nn.Sequential(added)

        if config.labels is not None:
            self.label_tokens = LabelTokens(len(config.labels), config.box_frequencies, config.context_dim)

        levels = list(zip(config.channel_mult, config.transformer_depth, strict=True))
        self.input_blocks = nn.ModuleList([Block([nn.Conv2d(config.in_channels, channels, 3, padding=1)])])
        self.skips = [channels]
        for level, (mult, depth) in enumerate(levels):
            for _ in range(config.num_res_blocks):
                block = Block([self._res_block(channels, mult * config.model_channels)])
                channels = mult * config.model_channels
                block.extend(self._transformer(channels, depth))
                self.input_blocks.append(block)
                self.skips.append(channels)
            if level < len(levels) - 1:
                self.input_blocks.append(Block([Downsample(channels)]))
                self.skips.append(channels)

        middle: list[nn.Module] = [self._res_block(channels, channels) for _ in range(config.middle_blocks)]
        self.middle_block = Block([*middle[:1], *self._transformer(channels, config.middle_depth), *middle[1:]])

    def _res_block(self, channels: int, out_channels: int) -> ResBlock:
        return ResBlock(channels, out_channels, self.config.model_channels * 4, self.config.norm_groups)

    def _transformer(self, channels: int, depth: int) -> list[SpatialTransformer]:
        config = self.config
        heads, groups, linear = config.heads(channels), config.norm_groups, config.linear_projection
        if not depth:
            return []
        return [SpatialTransformer(channels, config.context_dim, heads, depth=depth, norm_groups=groups, linear=linear)]

    def project_context(self, context: Tensor) -> Context:
        """Keys and values of every cross-attention for `context` (B, L, prompt_width): computed once for all steps."""
        if self.config.labels is not None:
            context = self.label_tokens(context)
        blocks = (module for module in self.modules() if isinstance(module, TransformerBlock))
        return Context(tuple(block.attn2.project(context) for block in blocks))

    def embed(self, timesteps: Tensor, added: Tensor | None, dtype: torch.dtype, guidance: Tensor | None = None) -> Tensor:
        """The input of all residual blocks, (B, E), from timesteps (B,), the vector conditioning (B, added_dim) and the guidance
        (1 or B, guidance_dim), if there are any."""
        sinusoids = timestep_embedding(timesteps, self.config.model_channels).to(dtype)
        if guidance is not None:
            sinusoids = sinusoids + self.time_embedding["cond_proj"](guidance)
        embedding: Tensor = self.time_embed(sinusoids)
        return embedding if self.config.added_dim is None else embedding + self.label_emb(added)


class UNet(UNetEncoder):
    """Predicts noise (or velocity) from a noisy latent, its timestep and a prompt (Rombach et al. 2022, sec. 3.3)."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        skips, channels = list(self.skips), self.skips[-1]
        levels = list(zip(config.channel_mult, config.up_depths, strict=True))
        self.output_blocks = nn.ModuleList()
        for level, (mult, depths) in reversed(list(enumerate(levels))):
            for i, depth in enumerate(depths):
                block = Block([self._res_block(channels + skips.pop(), mult * config.model_channels)])
                channels = mult * config.model_channels
                block.extend(self._transformer(channels, depth))
                if level > 0 and i == config.num_res_blocks:
                    block.append(Upsample(channels))
                self.output_blocks.append(block)

        last = nn.Conv2d(channels, config.out_channels, 3, padding=1)
        nn.init.zeros_(last.weight)
        self.out = nn.Sequential(nn.GroupNorm(config.norm_groups, channels, eps=1e-5), nn.SiLU(), last)
        for name, module in self.named_modules():
            if isinstance(module, TransformerBlock):
                module.attn1.layer_name = f"{name}.attn1"

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor | Context,
        added: Tensor | None = None,
        controls: Controls | None = None,
        attention: AttentionHook | None = None,
        guidance: Tensor | None = None,
        encoder_maps: Sequence[EncoderMaps] = (),
        token_hooks: Sequence[TokenHook] = (),
    ) -> Tensor:
        """(B, in_channels, h, w), (B,) and a prompt (B, L, prompt_width) or its projection -> (B, out_channels, h, w).

        `added` is the vector conditioning (B, added_dim) of networks that have one. `attention` may replace self-attention layers.
        `guidance` is the embedding (1 or B, guidance_dim) of the guidance scale for a distilled network; None means no guidance.
        `encoder_maps` are added in the encoder; `token_hooks` change the tokens of transformer blocks, one after the other.
        Timesteps may lie between the trained ones. Heights and widths that the downsampling does not divide are rounded up on the
        way down and restored on the way up, as in the published model.
        """
        layers = iter((context if isinstance(context, Context) else self.project_context(context)).layers)
        embedding = self.embed(timesteps, added, x.dtype, guidance)
        skips: list[Tensor] = []
        for i, block in enumerate(self.input_blocks):
            x = block(x, embedding, layers, attention=attention, token_hooks=token_hooks)
            for added_maps in encoder_maps:
                if i < len(added_maps.maps) and (one := added_maps.maps[i]) is not None:
                    x = x + one
            skips.append(x)
        x = self.middle_block(x, embedding, layers, attention=attention, token_hooks=token_hooks)
        if controls is not None:
            skips = [skip + residual for skip, residual in zip(skips, controls[0], strict=True)]
            x = x + controls[1]
        for block in self.output_blocks:
            x = torch.cat([x, skips.pop()], dim=1)
            size = skips[-1].shape[-2:] if skips else None  # an upsampling block is never the last
            x = block(x, embedding, layers, size=size, attention=attention, token_hooks=token_hooks)
        out: Tensor = self.out(x)
        return out
