"""Textual inversion: vectors for a new word, which is all that is trained (Gal et al. 2022, sec. 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from nodegraph_diffusion.checkpoint.detect.embedding import PAIR
from nodegraph_diffusion.networks.clip import CLIPTextModel
from nodegraph_diffusion.training.tasks.conditions import Condition, PairedTextCondition


class InversionCondition(Condition):
    """A frozen text encoder with `vectors` (n, width) for tokens from `vocab_size` on: the condition of a `DenoiserTask`.

    The vectors begin as those of the tokens `start`, words for a thing of this kind, of which the last is repeated. `empty` (L,)
    are the tokens of the empty text.
    """

    def __init__(self, encoder: CLIPTextModel, empty: Tensor, *, start: Sequence[int], count: int = 1) -> None:
        super().__init__(encoder.config.width)
        self.encoder = encoder.requires_grad_(False)
        self.vectors = nn.Parameter(_vectors_of(encoder, start, count))
        self.register_buffer("empty", empty, persistent=False)
        self.empty: Tensor

    def forward(self, values: Tensor, dropped: Tensor) -> Tensor:
        """Tokens (B, L) int64, of which vocab_size + i is the i-th vector -> (B, L, width)."""
        return self.encoder.encode(torch.where(dropped[:, None], self.empty, values), inserted=self.vectors)[0]


class PairedInversionCondition(PairedTextCondition):
    """Vectors of a new word for both text encoders of Stable Diffusion XL, which are frozen.

    The vectors begin as those of the tokens `start`, for each encoder.
    """

    def __init__(self, encoders: Sequence[CLIPTextModel], empty: Tensor, *, start: Sequence[Sequence[int]], count: int = 1) -> None:
        super().__init__([encoder.requires_grad_(False) for encoder in encoders], empty)
        self.vectors = nn.ParameterList(
            _vectors_of(encoder, tokens, count) for encoder, tokens in zip(encoders, start, strict=True)
        )

    def encode(self, index: int, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """What one of the encoders makes of tokens (B, L), of which its vocab_size + i is the i-th vector."""
        encoder = self.encoders[index]
        assert isinstance(encoder, CLIPTextModel)
        return encoder.encode(tokens, inserted=self.vectors[index])


def _vectors_of(encoder: CLIPTextModel, tokens: Sequence[int], count: int) -> Tensor:
    """`count` vectors (count, width): those of the tokens, of which the last is repeated."""
    wanted = [tokens[min(index, len(tokens) - 1)] for index in range(count)]
    return encoder.embeddings.token_embedding.weight[wanted].detach().float()


def save_inversion(path: Path, vectors: Tensor | Sequence[Tensor]) -> None:
    """Write the vectors (n, width) of a word as the file that our nodes, ComfyUI and diffusers load.

    For Stable Diffusion XL there are two, those for its first and for its second text encoder. Raises ValueError for more.
    """
    if isinstance(vectors, Tensor):
        tensors = {"emb_params": vectors}
    elif len(vectors) != len(PAIR):
        raise ValueError(f"inversion: expected vectors for one text encoder, or for two, found {len(vectors)}")
    else:
        tensors = dict(zip(PAIR, vectors, strict=True))
    plain = {name: tensor.detach().cpu().float().contiguous() for name, tensor in tensors.items()}
    partial = path.with_name(f"{path.name}.partial")
    save_file(plain, partial, metadata={"format": "pt"})
    partial.replace(path)
