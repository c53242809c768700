"""The text encoder: CLIP's text transformer."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nodegraph_diffusion.attention import attend, split_heads
from nodegraph_diffusion.config import CLIPTextConfig as CLIPTextConfig


def quick_gelu(x: Tensor) -> Tensor:
    """GELU's sigmoid approximation, which CLIP was trained with (Hendrycks and Gimpel 2016, sec. 2)."""
    return x * torch.sigmoid(1.702 * x)


class CLIPEmbeddings(nn.Module):
    """Token plus position embeddings."""

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.position_embedding = nn.Embedding(config.max_length, config.width)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.position_embedding.weight, std=0.01)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L) int64 -> (B, L, width)."""
        embedded: Tensor = self.token_embedding(tokens)
        return embedded + self.position_embedding.weight[: tokens.shape[1]]


class CLIPAttention(nn.Module):
    """Causal self-attention."""

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.q_proj = nn.Linear(config.width, config.width)
        self.k_proj = nn.Linear(config.width, config.width)
        self.v_proj = nn.Linear(config.width, config.width)
        self.out_proj = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, width) -> (B, L, width)."""
        q, k, v = (split_heads(project(x), self.heads) for project in (self.q_proj, self.k_proj, self.v_proj))
        out: Tensor = self.out_proj(attend(q, k, v, causal=True))
        return out


class CLIPMLP(nn.Module):
    """The transformer's per-token network."""

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.activation = quick_gelu if config.activation == "quick_gelu" else partial(F.gelu, approximate="none")
        self.fc1 = nn.Linear(config.width, config.mlp_width)
        self.fc2 = nn.Linear(config.mlp_width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(self.activation(self.fc1(x)))
        return out


class CLIPLayer(nn.Module):
    """One pre-norm transformer layer."""

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.width)
        self.self_attn = CLIPAttention(config)
        self.layer_norm2 = nn.LayerNorm(config.width)
        self.mlp = CLIPMLP(config)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, width) -> (B, L, width)."""
        x = x + self.self_attn(self.layer_norm1(x))
        out: Tensor = x + self.mlp(self.layer_norm2(x))
        return out


class CLIPEncoder(nn.Module):
    """The stack of layers."""

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(CLIPLayer(config) for _ in range(config.layers))

    def forward(self, x: Tensor, skip: int = 0) -> Tensor:
        """(B, L, width) -> (B, L, width) after all but the last `skip` layers."""
        for layer in self.layers[: len(self.layers) - skip]:
            x = layer(x)
        return x


class CLIPTextModel(nn.Module):
    """CLIP's text transformer (Radford et al. 2021, sec. 2.4): causal, padding not masked, no pooling or projection."""

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = CLIPEmbeddings(config)
        self.encoder = CLIPEncoder(config)
        self.final_layer_norm = nn.LayerNorm(config.width)

    def forward(self, tokens: Tensor, clip_skip: int = 1) -> Tensor:
        """(B, L) int64 -> (B, L, width), L at most `max_length`, with the final layer norm applied.

        `clip_skip` 1 reads the last layer, 2 the last but one, and so on. Raises ValueError where it names no layer.
        """
        if not 1 <= clip_skip <= self.config.layers:
            raise ValueError(f"clip_skip must be between 1 and {self.config.layers} (the layers there are), got {clip_skip}")
        if tokens.shape[1] > self.config.max_length:
            raise ValueError(f"at most {self.config.max_length} tokens fit the text encoder, got {tokens.shape[1]}")
        out: Tensor = self.final_layer_norm(self.encoder(self.embeddings(tokens), skip=clip_skip - 1))
        return out
