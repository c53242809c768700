"""CLIP's transformers: the text encoder and the image encoder."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nodegraph_diffusion.networks.attention import attend, split_heads
from nodegraph_diffusion.networks.config import CLIPTextConfig as CLIPTextConfig
from nodegraph_diffusion.networks.config import CLIPVisionConfig as CLIPVisionConfig


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

    def forward(self, tokens: Tensor, inserted: Tensor | None = None) -> Tensor:
        """(B, L) int64 -> (B, L, width). Tokens beyond the vocabulary are the rows of `inserted` (n, width)."""
        table = self.token_embedding.weight
        known = tokens if inserted is None else tokens.where(tokens < len(table), 0)
        embedded: Tensor = self.token_embedding(known)
        if inserted is not None:
            row = (tokens - len(table)).clamp(min=0)
            embedded = torch.where((tokens >= len(table))[:, :, None], inserted.to(embedded)[row], embedded)
        return embedded + self.position_embedding.weight[: tokens.shape[1]]


class CLIPAttention(nn.Module):
    """Self-attention, causal in CLIP's text encoder."""

    def __init__(self, config: CLIPTextConfig | CLIPVisionConfig) -> None:
        super().__init__()
        self.causal = isinstance(config, CLIPTextConfig) and config.causal
        self.heads = config.heads
        self.q_proj = nn.Linear(config.width, config.width)
        self.k_proj = nn.Linear(config.width, config.width)
        self.v_proj = nn.Linear(config.width, config.width)
        self.out_proj = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, width) -> (B, L, width)."""
        q, k, v = (split_heads(project(x), self.heads) for project in (self.q_proj, self.k_proj, self.v_proj))
        out: Tensor = self.out_proj(attend(q, k, v, causal=self.causal))
        return out


class CLIPMLP(nn.Module):
    """The transformer's per-token network."""

    def __init__(self, config: CLIPTextConfig | CLIPVisionConfig) -> None:
        super().__init__()
        self.activation = quick_gelu if config.activation == "quick_gelu" else partial(F.gelu, approximate="none")
        self.fc1 = nn.Linear(config.width, config.mlp_width)
        self.fc2 = nn.Linear(config.mlp_width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(self.activation(self.fc1(x)))
        return out


class CLIPLayer(nn.Module):
    """One pre-norm transformer layer."""

    def __init__(self, config: CLIPTextConfig | CLIPVisionConfig) -> None:
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

    def __init__(self, config: CLIPTextConfig | CLIPVisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(CLIPLayer(config) for _ in range(config.layers))

    def forward(self, x: Tensor, skip: int = 0) -> Tensor:
        """(B, L, width) -> (B, L, width) after all but the last `skip` layers."""
        for layer in self.layers[: len(self.layers) - skip]:
            x = layer(x)
        return x


class CLIPTextModel(nn.Module):
    """CLIP's text transformer (Radford et al. 2021, sec. 2.4): causal, padding not masked.

    If the config says that it is not causal, it is the encoder like BERT's of the latent diffusion paper (Rombach et al. 2022,
    sec. 4.3.1), whose layers begin with their norms and which masks no padding either.
    """

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = CLIPEmbeddings(config)
        self.encoder = CLIPEncoder(config)
        self.final_layer_norm = nn.LayerNorm(config.width)
        if config.projection is not None:
            self.text_projection = nn.Linear(config.width, config.projection, bias=False)

    def forward(self, tokens: Tensor, clip_skip: int | None = None) -> Tensor:
        """The encoding of each token (see `encode`)."""
        return self.encode(tokens, clip_skip)[0]

    def encode(self, tokens: Tensor, clip_skip: int | None = None, inserted: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(B, L) int64 -> (B, L, width), L at most `max_length`, and the pooled (B, projection) or None.

        `clip_skip` 1 reads the last layer, 2 the last but one, and so on; None reads the config's layer. The pooled output is that
        of the first end token in the last layer. Tokens from `vocab_size` on are the rows of `inserted` (n, width). Raises
        ValueError if `clip_skip` is not one of the layers.
        """
        config = self.config
        skip = config.layer if clip_skip is None else clip_skip
        if not 1 <= skip <= config.layers:
            raise ValueError(f"clip_skip must be between 1 and {config.layers}, the number of layers, got {skip}")
        if tokens.shape[1] > config.max_length:
            raise ValueError(f"at most {config.max_length} tokens fit the text encoder, got {tokens.shape[1]}")
        read = self.encoder(self.embeddings(tokens, inserted), skip=skip - 1)
        hidden: Tensor = self.final_layer_norm(read) if config.final_norm else read
        if config.projection is None:
            return hidden, None
        last = read
        for layer in self.encoder.layers[config.layers - skip + 1 :]:
            last = layer(last)
        end = (tokens == config.eos).int().argmax(dim=1)
        pooled: Tensor = self.text_projection(self.final_layer_norm(last[torch.arange(len(tokens)), end]))
        return hidden, pooled


_MEAN, _DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of OpenAI's training pictures


def clip_pixels(pixels: Tensor, size: int, *, crop: bool) -> Tensor:
    """Pictures (B, 3, H, W) in [0, 1] as the published image encoders expect them: (B, 3, size, size), normalised.

    They are resized bicubically, so that their shorter side is `size` with `crop`, which then cuts out the middle; otherwise they
    are stretched. As in the published preprocessing, they have 8 bits.
    """
    height, width = pixels.shape[-2:]
    scale = size / min(height, width)
    target = (round(scale * height), round(scale * width)) if crop else (size, size)
    if (height, width) != (size, size):
        pixels = F.interpolate(pixels, size=target, mode="bicubic", antialias=True)
        top, left = (target[0] - size) // 2, (target[1] - size) // 2
        pixels = pixels[..., top : top + size, left : left + size]
    pixels = (pixels * 255).clamp(0, 255).round() / 255
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (_MEAN, _DEVIATION))
    return (pixels - mean) / deviation


class CLIPVisionEmbeddings(nn.Module):
    """A class token and patches, plus position embeddings."""

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.randn(config.width) * config.width**-0.5)
        self.patch_embedding = nn.Conv2d(3, config.width, config.patch, stride=config.patch, bias=False)
        self.position_embedding = nn.Embedding(config.patches + 1, config.width)
        nn.init.normal_(self.position_embedding.weight, std=0.02)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, size, size) -> (B, 1 + patches, width)."""
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)  # (B, patches, width)
        first = self.class_embedding.to(patches).expand(len(patches), 1, -1)
        out: Tensor = torch.cat([first, patches], dim=1) + self.position_embedding.weight.to(patches)
        return out


class CLIPVisionModel(nn.Module):
    """CLIP's vision transformer (Radford et al. 2021, sec. 2.4). The module names are those of the published model."""

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = CLIPVisionEmbeddings(config)
        self.pre_layrnorm = nn.LayerNorm(config.width)
        self.encoder = CLIPEncoder(config)
        self.post_layernorm = nn.LayerNorm(config.width)
        self.visual_projection = nn.Linear(config.width, config.projection, bias=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, size, size) -> embeddings (B, projection), not normalised.

        The published models expect pixels whose channels are normalised with their training set's means and deviations.
        """
        tokens = self.encoder(self.pre_layrnorm(self.embeddings(pixels)))
        out: Tensor = self.visual_projection(self.post_layernorm(tokens[:, 0]))
        return out

    def feature_maps(self, pixels: Tensor) -> list[Tensor]:
        """The patches after each layer, (B, width, h, w) each, for a perceptual loss."""
        tokens, side = self.pre_layrnorm(self.embeddings(pixels)), self.config.size // self.config.patch
        maps = []
        for layer in self.encoder.layers:
            tokens = layer(tokens)
            maps.append(tokens[:, 1:].transpose(1, 2).unflatten(2, (side, side)))
        return maps
