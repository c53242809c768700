"""The sizes of each network: plain data, importable without torch. The defaults are those of Stable Diffusion 1.x."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

from nodegraph_diffusion.tiny import preview_map

_WIDEST = 1 << 20  # more than any network has, and small enough that the product of two is a possible number of bytes
_REPEATED = (
    "layers",
    "blocks",
    "doublings",
    "num_res_blocks",
    "transformer_depth",
    "up_depth",
    "middle_blocks",
    "middle_depth",
    "channel_mult",
)
_MOST_REPEATED = 256
_MOST_LEVELS = 16

LABEL_WIDTH = 5
"""The numbers of a label: the number of its class, and left, top, right and bottom of its box as fractions of the sides."""

HINT_WIDTHS = (16, 32, 96, 256)
"""The channels of a ControlNet's maps of its hint; each has half the height and width of the one before."""


@dataclass(frozen=True, kw_only=True)
class CLIPTextConfig:
    """Sizes of a text encoder; the defaults are those of CLIP ViT-L/14. Raises ValueError for sizes that cannot be built.

    `projection` is the width of its pooled output (None: no pooled output). `layer` is the layer that the model's UNet was trained
    on, counted from the last; with `final_norm`, the final layer norm is applied to it. Unless it is `causal`, each token attends
    to all others, as in BERT.
    """

    vocab_size: int = 49408
    width: int = 768
    layers: int = 12
    heads: int = 12
    max_length: int = 77
    mlp_width: int = 3072
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    projection: int | None = None
    layer: int = 1
    final_norm: bool = True
    eos: int = 49407
    causal: bool = True

    def __post_init__(self) -> None:
        _check_sizes(self)
        _check_divides("heads", self.heads, self.width)


@dataclass(frozen=True, kw_only=True)
class CLIPVisionConfig:
    """Sizes of an image encoder of square pictures; the defaults are those of CLIP ViT-L/14.

    `size` and `patch` are sides in pixels; `projection` is the width of the embedding that texts share. Raises ValueError for sizes
    that cannot be built.
    """

    size: int = 224
    patch: int = 14
    width: int = 1024
    layers: int = 24
    heads: int = 16
    mlp_width: int = 4096
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    projection: int = 768

    def __post_init__(self) -> None:
        _check_sizes(self)
        _check_divides("heads", self.heads, self.width)
        _check_divides("patch", self.patch, self.size)

    @property
    def patches(self) -> int:
        """The number of patches of a picture."""
        return (self.size // self.patch) ** 2


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Sizes of a denoising network.

    `transformer_depth` is the number of transformer blocks after each residual block of a level (0: none). `up_depth` has these
    numbers for each residual block on the way up, in the order of use, level by level from the finest; None means that they are
    those of `transformer_depth`. The middle block has `middle_blocks` residual blocks (0: there is no middle block, 1: in distilled
    networks, 2), with `middle_depth` transformer blocks between them. Give either `num_heads` or `head_channels`.
    `linear_projection`: the transformers have linear input and output layers instead of convolutions. `added_dim` is the width of
    the vector conditioning of Stable Diffusion XL and its refiner, `guidance_dim` the width of the guidance embedding of a network
    that was distilled with guidance; None means that the network has no such input. With `labels`, the names of classes, it attends
    to labels instead of a prompt, and to their boxes with so many `box_frequencies`. `beside` says what the channels show that it
    receives beside the latent: a "map" of classes, or a smaller "picture"; None: there are none, or those of published networks.
    Raises ValueError for sizes that cannot be built.
    """

    in_channels: int = 4
    out_channels: int = 4
    model_channels: int = 320
    channel_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    transformer_depth: tuple[int, ...] = (1, 1, 1, 0)
    up_depth: tuple[tuple[int, ...], ...] | None = None
    middle_blocks: int = 2
    middle_depth: int = 1
    num_heads: int | None = 8
    head_channels: int | None = None
    context_dim: int = 768
    linear_projection: bool = False
    norm_groups: int = 32
    added_dim: int | None = None
    guidance_dim: int | None = None
    labels: tuple[str, ...] | None = None
    box_frequencies: int | None = None
    beside: Literal["map", "picture"] | None = None

    def __post_init__(self) -> None:
        _check_sizes(self, may_be_zero=("transformer_depth", "up_depth", "middle_blocks", "middle_depth"))
        for name, levels in (("transformer_depth", self.transformer_depth), ("up_depth", self.up_depths)):
            if len(levels) != len(self.channel_mult):
                raise ValueError(f"{name} names {len(levels)} levels, channel_mult {len(self.channel_mult)}")
        if any(len(depths) != self.num_res_blocks + 1 for depths in self.up_depths):
            raise ValueError(f"up_depth is {self.up_depth}, not {self.num_res_blocks + 1} numbers for each level")
        if self.middle_blocks > 2 or (self.middle_depth and self.middle_blocks < 2):
            raise ValueError(f"a middle block of {self.middle_blocks} residual blocks and {self.middle_depth} transformer blocks")
        if (self.num_heads is None) == (self.head_channels is None):
            raise ValueError(f"one of num_heads and head_channels must be given, got {self.num_heads} and {self.head_channels}")
        for name, divisor in (("num_heads", self.num_heads), ("head_channels", self.head_channels)):
            for mult, depth, up in zip(self.channel_mult, self.transformer_depth, self.up_depths, strict=True):
                if divisor is not None and (depth or any(up)):
                    _check_divides(name, divisor, self.model_channels * mult)
        _check_divides("norm_groups", self.norm_groups, self.model_channels)
        if self.labels is not None and (not self.labels or len({*self.labels}) < len(self.labels)):
            raise ValueError(f"labels must be different names, at least one, got {', '.join(self.labels) or 'none'}")
        if self.box_frequencies is not None and self.labels is None:
            raise ValueError(f"box_frequencies {self.box_frequencies} are for the boxes of labels, and there are none")
        if self.beside is not None and self.in_channels <= self.out_channels:
            raise ValueError(
                f"a {self.beside} beside the latent needs more channels in than out, got {self.in_channels} and {self.out_channels}"
            )

    @property
    def prompt_width(self) -> int:
        """The numbers of each token of a prompt that it receives."""
        return self.context_dim if self.labels is None else LABEL_WIDTH

    @property
    def no_label(self) -> int:
        """The number of the class "there is no label", for pictures without any."""
        return len(self.labels or ())

    @property
    def unsaid(self) -> int:
        """The number of the class "nothing is said": what a denoiser receives without a condition."""
        return len(self.labels or ()) + 1

    @property
    def receives(self) -> str | None:
        """What it receives instead of a text, or besides, in words; None if that is nothing."""
        if self.labels is not None:
            boxes = "" if self.box_frequencies is None else " in boxes"
            return f"labels{boxes} ({len(self.labels)} classes)"
        return {"map": "a map of classes", "picture": "a smaller picture", None: None}[self.beside]

    @property
    def up_depths(self) -> tuple[tuple[int, ...], ...]:
        """The transformer blocks after each residual block on the way up, in the order of use, by level from the finest."""
        return self.up_depth or tuple((depth,) * (self.num_res_blocks + 1) for depth in self.transformer_depth)

    def heads(self, channels: int) -> int:
        """The number of attention heads of a transformer of this width."""
        return self.num_heads if self.num_heads is not None else channels // (self.head_channels or channels)


@dataclass(frozen=True)
class LatentSpace:
    """The latents of an autoencoder: their channels, pixels per cell along a side, and scaling factor."""

    channels: int = 4
    factor: int = 8
    scaling_factor: float = 0.18215

    def __str__(self) -> str:
        tiny = tuple(preview_map()[name] for name in ("channels", "factor", "scaling_factor"))
        known = {(4, 8, 0.18215): "Stable Diffusion 1 and 2", (4, 8, 0.13025): "Stable Diffusion XL", tiny: "builtin:tiny"}
        sizes = f"{self.channels} channels, scale {self.scaling_factor:g}"
        name = known.get((self.channels, self.factor, self.scaling_factor))
        return f"{name} ({sizes})" if name else f"an autoencoder with {sizes}, {self.factor} pixels per cell"

    def holds(self, other: LatentSpace) -> bool:
        """Whether latents of `other` mean the same here. A UNet alone does not show the pixels per cell, so these may differ."""
        same_scale = math.isclose(self.scaling_factor, other.scaling_factor, rel_tol=1e-4)
        return self.channels == other.channels and same_scale


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """Sizes of an autoencoder. Raises ValueError for sizes that cannot be built: `norm_groups` must divide every width.

    With `codes`, each cell of its latents becomes the nearest of so many learned vectors; None: latents are Gaussians.
    """

    channels: int = 128
    channel_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    latent_channels: int = 4
    norm_groups: int = 32
    mid_attention: bool = True
    scaling_factor: float = 0.18215
    codes: int | None = None

    def __post_init__(self) -> None:
        _check_sizes(self)
        _check_divides("norm_groups", self.norm_groups, self.channels)

    @property
    def factor(self) -> int:
        """Pixels per latent cell along a side."""
        return 1 << (len(self.channel_mult) - 1)

    @property
    def encoded(self) -> int:
        """The numbers that the encoder gives for each cell: those of a vector, or mean and log-variance of each."""
        return self.latent_channels if self.codes is not None else 2 * self.latent_channels

    @property
    def latent(self) -> LatentSpace:
        """The latent space of this autoencoder."""
        return LatentSpace(self.latent_channels, self.factor, self.scaling_factor)


@dataclass(frozen=True)
class TAESDConfig:
    """One half of a tiny autoencoder (see `networks/taesd.py`); only the number of latent channels differs between models."""

    half: Literal["encoder", "decoder"] = "decoder"
    latent_channels: int = 4

    WIDTH: ClassVar[int] = 64

    def __post_init__(self) -> None:
        _check_sizes(self)

    @property
    def layers(self) -> tuple[str, ...]:
        """The kinds of its layers, in order."""
        if self.half == "encoder":
            return ("conv", "block", *("down", "block", "block", "block") * 3, "conv")
        return ("clamp", "conv", "relu", *("block", "block", "block", "up", "plain") * 3, "block", "conv")

    @property
    def ends(self) -> tuple[int, int]:
        """The numbers of input and output channels."""
        return (3, self.latent_channels) if self.half == "encoder" else (self.latent_channels, 3)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each of its tensors."""
        into, out, wide = *self.ends, self.WIDTH
        shapes: dict[str, tuple[int, ...]] = {}
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            if layer == "conv":
                sizes = (out, wide) if index == last else (wide, into)
                shapes |= {f"{index}.weight": (*sizes, 3, 3), f"{index}.bias": (sizes[0],)}
            elif layer in ("plain", "down"):
                shapes[f"{index}.weight"] = (wide, wide, 3, 3)
            elif layer == "block":
                for i in (0, 2, 4):
                    shapes |= {f"{index}.conv.{i}.weight": (wide, wide, 3, 3), f"{index}.conv.{i}.bias": (wide,)}
        return shapes


@dataclass(frozen=True, kw_only=True)
class UpscalerConfig:
    """Sizes of an upscaling network of the ESRGAN kind; the defaults are those of RealESRGAN_x4plus.

    The picture is made `unshuffle` times smaller, with as many more channels, then twice as large `doublings` times.
    """

    channels: int = 3
    width: int = 64
    growth: int = 32
    blocks: int = 23
    doublings: int = 2
    unshuffle: int = 1

    def __post_init__(self) -> None:
        _check_sizes(self, may_be_zero=("doublings",))
        _check_divides("unshuffle", self.unshuffle, 1 << self.doublings)

    @property
    def scale(self) -> int:
        """How many times a picture becomes larger."""
        return (1 << self.doublings) // self.unshuffle


@dataclass(frozen=True, kw_only=True)
class T2IAdapterConfig:
    """Sizes of a T2I-Adapter; the defaults are those for Stable Diffusion 1. `channels` are those of the UNet's levels."""

    in_channels: int = 3
    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    blocks: int = 2
    unshuffle: int = 8

    def __post_init__(self) -> None:
        _check_sizes(self)


@dataclass(frozen=True, kw_only=True)
class GligenConfig:
    """Sizes of GLIGEN's layers. `blocks` are the names of a UNet's transformer blocks, each with its channels."""

    blocks: tuple[tuple[str, int], ...]
    token_width: int = 768
    text_width: int = 768
    frequencies: int = 8
    places: int = 30

    def heads(self, channels: int) -> int:
        """The number of attention heads of a layer: 8 in Stable Diffusion 1, otherwise one for 64 channels."""
        return 8 if self.token_width == GligenConfig.token_width else max(channels // 64, 1)


Config = CLIPTextConfig | CLIPVisionConfig | UNetConfig | VAEConfig | TAESDConfig | UpscalerConfig | T2IAdapterConfig


def _check_sizes(config: Config, may_be_zero: Collection[str] = ()) -> None:
    """Raise ValueError unless each number is positive and possible for a network, and each count is a whole number."""
    for field in fields(config):
        name, value = field.name, getattr(config, field.name)
        if name == "labels":
            continue
        sizes = value if isinstance(value, tuple) else (value,)
        sizes = tuple(size for level in sizes for size in (level if isinstance(level, tuple) else (level,)))
        least = 0 if name in may_be_zero else 1
        most = _MOST_REPEATED if name in _REPEATED else _WIDEST
        if not 1 <= (len(value) if isinstance(value, tuple) else 1) <= _MOST_LEVELS:
            raise ValueError(f"{name} must have 1 to {_MOST_LEVELS} levels, got {len(value)}")
        for size in sizes:
            if "int" in str(field.type) and type(size) is not int and not (size is None and "None" in str(field.type)):
                raise ValueError(f"{name} must be a whole number, got {value!r}")
            if type(size) is int and not least <= size <= most:
                raise ValueError(f"{name} must be {least} to {most:,}, got {value}")
            if type(size) is float and not 0 < size < math.inf:
                raise ValueError(f"{name} must be positive, got {value}")


def _check_divides(name: str, divisor: int, width: int) -> None:
    if width % divisor:
        raise ValueError(f"{name} {divisor} does not divide the width {width}")
