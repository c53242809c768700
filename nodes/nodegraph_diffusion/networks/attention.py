"""Attention and the spatial transformer of the denoising network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

KeysValues = tuple[Tensor, Tensor]


class AttentionHook(Protocol):
    """Replaces self-attention layers. It is called for each, by name ("middle_block.1.transformer_blocks.0.attn1").

    Receives queries, keys and values, each (B, heads, L, d), and returns the result, (B, L, heads * d), or None to leave that layer
    as it is. L is h * w of the feature map there.
    """

    def __call__(self, layer: str, q: Tensor, k: Tensor, v: Tensor, /) -> Tensor | None: ...


class TokenHook(Protocol):
    """Changes the tokens of transformer blocks between their self-attention and their cross-attention.

    It is called for each block by name ("middle_block.1.transformer_blocks.0"), with the tokens (B, L, C) there, and returns
    tokens of the same shape. L is h * w of the feature map there.
    """

    def __call__(self, block: str, tokens: Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class Context:
    """A prompt as the cross-attention layers see it: keys and values, each (B, heads, L, d), in the order of use."""

    layers: tuple[KeysValues, ...]

    def expand(self, batch: int) -> Context:
        """The same context for `batch` pictures; copies nothing. Its own batch must be 1 or `batch`."""
        return Context(tuple((k.expand(batch, -1, -1, -1), v.expand(batch, -1, -1, -1)) for k, v in self.layers))


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, L, heads * d) -> (B, heads, L, d), a view."""
    return x.reshape(*x.shape[:-1], heads, -1).transpose(1, 2)


def pixels_as_tokens(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h * w, C), contiguous: a view if `x` is laid out channels last, else a copy."""
    return x.flatten(2).transpose(1, 2).contiguous()


def attend(q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> Tensor:
    """Scaled dot-product attention (Vaswani et al. 2017, eq. 1) of split heads, joined again: (B, L, heads * d)."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Multi-head attention of `channels` over a context of `context_dim`; over itself if the two are one tensor."""

    layer_name = ""  # its name in the network that it is part of

    def __init__(self, channels: int, context_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context_dim, channels, bias=False)
        self.to_v = nn.Linear(context_dim, channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels))

    def project(self, context: Tensor) -> KeysValues:
        """Keys and values of `context` (B, L, context_dim), each (B, heads, L, d)."""
        return split_heads(self.to_k(context), self.heads), split_heads(self.to_v(context), self.heads)

    def forward(self, x: Tensor, keys_values: KeysValues, hook: AttentionHook | None = None) -> Tensor:
        """(B, N, channels) -> (B, N, channels)."""
        q = split_heads(self.to_q(x), self.heads)
        attended = None if hook is None else hook(self.layer_name, q, *keys_values)
        out: Tensor = self.to_out(attend(q, *keys_values) if attended is None else attended)
        return out


class GEGLU(nn.Module):
    """A linear layer gated by GELU of another (Shazeer 2020, "GLU Variants Improve Transformer", eq. 6)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, hidden * 2)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        out: Tensor = value * F.gelu(gate)
        return out


class FeedForward(nn.Module):
    """The transformer's per-token network, four times as wide inside; `net.1` is the published model's dropout."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(GEGLU(channels, channels * 4), nn.Identity(), nn.Linear(channels * 4, channels))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention and feed-forward, each normalised first and added to its input."""

    def __init__(self, channels: int, context_dim: int, heads: int) -> None:
        super().__init__()
        self.attn1 = Attention(channels, channels, heads)
        self.attn2 = Attention(channels, context_dim, heads)
        self.ff = FeedForward(channels)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.norm3 = nn.LayerNorm(channels)

    def forward(
        self, x: Tensor, context: KeysValues, hook: AttentionHook | None = None, token_hooks: Sequence[TokenHook] = ()
    ) -> Tensor:
        """(B, N, channels) -> (B, N, channels)."""
        normed = self.norm1(x)
        x = x + self.attn1(normed, self.attn1.project(normed), hook)
        for change in token_hooks:
            x = change(self.attn1.layer_name.removesuffix(".attn1"), x)
        x = x + self.attn2(self.norm2(x), context)
        out: Tensor = x + self.ff(self.norm3(x))
        return out


class SpatialTransformer(nn.Module):
    """Transformer blocks over the pixels of a feature map (Rombach et al. 2022, appendix E.2.1).

    `linear`: in and out through linear layers, as in Stable Diffusion 2 and XL, instead of convolutions of size one.
    """

    def __init__(self, channels: int, context_dim: int, heads: int, *, depth: int, norm_groups: int, linear: bool = False) -> None:
        super().__init__()
        self.linear = linear
        self.norm = nn.GroupNorm(norm_groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels) if linear else nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList(TransformerBlock(channels, context_dim, heads) for _ in range(depth))
        self.proj_out = nn.Linear(channels, channels) if linear else nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.proj_out.weight)

    def forward(
        self,
        x: Tensor,
        context: Iterator[KeysValues],
        hook: AttentionHook | None = None,
        token_hooks: Sequence[TokenHook] = (),
    ) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w); uses one layer of the context for each of its blocks."""
        normed = self.norm(x)
        tokens = self.proj_in(pixels_as_tokens(normed)) if self.linear else pixels_as_tokens(self.proj_in(normed))  # (B, h * w, C)
        for block in self.transformer_blocks:
            tokens = block(tokens, next(context), hook, token_hooks)
        if self.linear:
            tokens = self.proj_out(tokens)
        pixels = tokens.transpose(1, 2).reshape(x.shape)
        return x + (pixels if self.linear else self.proj_out(pixels))
