"""GLIGEN: layers in a UNet's transformers through which texts in boxes are painted where the boxes are (Li et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from nodegraph_diffusion.networks.attention import Attention, FeedForward
from nodegraph_diffusion.networks.config import GligenConfig as GligenConfig
from nodegraph_diffusion.networks.source import NetworkSource, network_from
from nodegraph_diffusion.networks.unet import box_waves

_HIDDEN = 512  # the width of the network that makes tokens of boxes


@dataclass(frozen=True, eq=False, kw_only=True)
class TextBox:
    """A text and its place: `embedding` (1, D) of the text, and the box in pixels, or with `fraction` in fractions of the sides."""

    embedding: Tensor
    left: float
    top: float
    width: float
    height: float
    fraction: bool = False

    def corners(self, cells: tuple[int, int], cell: int) -> Tensor:
        """Left, top, right and bottom in fractions of a latent with `cells` (rows, columns) of `cell` pixels: (4,).

        Pixels are rounded down to whole cells, as in ComfyUI.
        """
        rows, columns = (1, 1) if self.fraction else cells
        sides = (self.left, self.top, self.width, self.height)
        left, top, width, height = sides if self.fraction else (side // cell for side in sides)
        return torch.tensor([left / columns, top / rows, (left + width) / columns, (top + height) / rows])


class PositionNet(nn.Module):
    """Makes a token of each text and box (sec. 3.2); a place without a text has learned values instead."""

    def __init__(self, config: GligenConfig) -> None:
        super().__init__()
        position = 8 * config.frequencies  # sine and cosine of four numbers
        self.frequencies = config.frequencies
        self.linears = nn.Sequential(
            nn.Linear(config.text_width + position, _HIDDEN),
            nn.SiLU(),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.SiLU(),
            nn.Linear(_HIDDEN, config.token_width),
        )
        self.null_positive_feature = nn.Parameter(torch.zeros(config.text_width))
        self.null_position_feature = nn.Parameter(torch.zeros(position))

    def forward(self, boxes: Tensor, present: Tensor, texts: Tensor) -> Tensor:
        """Boxes (B, N, 4) of left, top, right, bottom, whether there is a text (B, N), texts (B, N, D) -> tokens (B, N, D')."""
        waves = box_waves(boxes, self.frequencies).to(texts)  # (B, N, 8 * F)
        known = present[:, :, None].to(texts)
        texts = texts * known + self.null_positive_feature * (1 - known)
        waves = waves * known + self.null_position_feature * (1 - known)
        out: Tensor = self.linears(torch.cat([texts, waves], dim=-1))
        return out


class GatedAttention(nn.Module):
    """Attention of pixels to each other and to the tokens of texts, gated by learned factors (Eq. 8)."""

    def __init__(self, channels: int, config: GligenConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.token_width, channels)
        self.attn = Attention(channels, channels, config.heads(channels))
        self.ff = FeedForward(channels)
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.alpha_attn, self.alpha_dense = nn.Parameter(torch.tensor(0.0)), nn.Parameter(torch.tensor(0.0))

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """(B, L, channels), (B, N, D') -> (B, L, channels)."""
        both = self.norm1(torch.cat([x, self.linear(tokens)], dim=1))
        attended = self.attn(both[:, : x.shape[1]], self.attn.project(both))
        x = x + self.alpha_attn.tanh() * attended
        out: Tensor = x + self.alpha_dense.tanh() * self.ff(self.norm2(x))
        return out


class Gligen(nn.Module):
    """The gated layers for the transformer blocks of a UNet, by the blocks' names, and the network that makes their tokens."""

    def __init__(self, config: GligenConfig) -> None:
        super().__init__()
        self.config = config
        self.position_net = PositionNet(config)
        self.layers = nn.ModuleDict({_key(name): GatedAttention(channels, config) for name, channels in config.blocks})

    def tokens(self, boxes: Sequence[TextBox], cells: tuple[int, int], cell: int = 8) -> Tensor:
        """The tokens of boxes in a latent, and of the free places after them: (1, places, D'). Raises ValueError for too many.

        `cells` and `cell` are the latent's, as for `TextBox.corners`.
        """
        places, weight = self.config.places, next(self.parameters())
        if len(boxes) > places:
            raise ValueError(f"boxes: expected at most {places}, found {len(boxes)}; leave some out")
        corners, present = torch.zeros(1, places, 4), torch.zeros(1, places)
        texts = torch.zeros(1, places, self.config.text_width)
        for i, box in enumerate(boxes):
            corners[0, i] = box.corners(cells, cell)
            present[0, i], texts[0, i] = 1, box.embedding[0]
        out: Tensor = self.position_net(corners.to(weight), present.to(weight), texts.to(weight))
        return out


class GligenGuide:
    """GLIGEN's layers with boxes, as a denoiser's `Control`: they change the tokens of a UNet's transformer blocks.

    `cell` is the side of a latent cell in pixels.
    """

    start, end = 0.0, 1.0

    def __init__(self, network: Gligen | NetworkSource[Gligen], boxes: Sequence[TextBox], cell: int = 8) -> None:
        self.network, self.boxes, self.cell = network, tuple(boxes), cell
        self._tokens: WeakKeyDictionary[Gligen, tuple[tuple[int, int], Tensor]] = WeakKeyDictionary()  # freed with their network

    def __call__(self, x: Tensor, timesteps: Tensor, context: Tensor, added: Tensor | None, /) -> GatedTokens:
        """The layers, for the size of x (n * B, C, h, w); nothing else of the input counts."""
        network, cells = network_from(self.network), (x.shape[-2], x.shape[-1])
        known = self._tokens.get(network)
        if known is None or known[0] != cells:
            known = self._tokens[network] = (cells, network.tokens(self.boxes, cells, self.cell))
        return GatedTokens(network, known[1])


@dataclass(frozen=True, eq=False)
class GatedTokens:
    """A `TokenHook` of GLIGEN's layers and the tokens of its boxes, (1, N, D')."""

    network: Gligen
    boxes: Tensor

    def __call__(self, block: str, tokens: Tensor, /) -> Tensor:
        """(B, L, C) -> (B, L, C)."""
        layers = self.network.layers
        if _key(block) not in layers:
            return tokens
        out: Tensor = layers[_key(block)](tokens.to(self.boxes), self.boxes.expand(tokens.shape[0], -1, -1))
        return out.to(tokens)


def _key(name: str) -> str:
    """The name of a block as one of torch's modules may have it, without dots."""
    return name.replace(".", "/")
