"""What sizes each network: plain data, readable without torch. The defaults are Stable Diffusion 1.x."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class CLIPTextConfig:
    """Sizes of a text encoder; the defaults are CLIP ViT-L/14's. Raises ValueError where they cannot be built.

    `projection` is the width of its pooled output (None: it has none). `layer` is the one that the model's UNet was trained
    to read, counted from the last, with the final layer norm on it where `final_norm` says so.
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

    def __post_init__(self) -> None:
        _check_positive(self)
        _check_divides("heads", self.heads, self.width)


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of a denoising network. `attention` says which levels have transformers, `added_dim` how wide the vector
    conditioning is (None: there is none).

    Raises ValueError where they cannot be built: every width must be divisible by `num_heads` and `norm_groups`.
    """

    in_channels: int = 4
    out_channels: int = 4
    model_channels: int = 320
    channel_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    attention: tuple[bool, ...] = (True, True, True, False)
    num_heads: int = 8
    context_dim: int = 768
    transformer_depth: int = 1
    norm_groups: int = 32
    added_dim: int | None = None

    def __post_init__(self) -> None:
        _check_positive(self)
        if len(self.attention) != len(self.channel_mult):
            raise ValueError(f"attention names {len(self.attention)} levels, channel_mult {len(self.channel_mult)}")
        _check_divides("num_heads", self.num_heads, self.model_channels)
        _check_divides("norm_groups", self.norm_groups, self.model_channels)


@dataclass(frozen=True)
class VAEConfig:
    """Sizes of an autoencoder. Raises ValueError where they cannot be built: `norm_groups` must divide every width."""

    channels: int = 128
    channel_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    latent_channels: int = 4
    norm_groups: int = 32
    mid_attention: bool = True
    scaling_factor: float = 0.18215

    def __post_init__(self) -> None:
        _check_positive(self)
        _check_divides("norm_groups", self.norm_groups, self.channels)

    @property
    def factor(self) -> int:
        """Pixels per latent cell along a side."""
        return 1 << (len(self.channel_mult) - 1)


def _check_positive(config: CLIPTextConfig | UNetConfig | VAEConfig) -> None:
    for name, value in vars(config).items():
        sizes = value if isinstance(value, tuple) else (value,)
        if not sizes or any(isinstance(size, (int, float)) and not isinstance(size, bool) and size <= 0 for size in sizes):
            raise ValueError(f"{name} must be positive, got {value}")


def _check_divides(name: str, divisor: int, width: int) -> None:
    if width % divisor:
        raise ValueError(f"{name} {divisor} does not divide the width {width}")
