"""Textual inversion: vectors for a new word, which is all that is trained (Gal et al. 2022, sec. 3.1)."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from nodegraph_diffusion.networks.clip import CLIPTextModel
from nodegraph_diffusion.training.tasks.conditions import Condition


class InversionCondition(Condition):
    """A frozen text encoder with `vectors` (n, width) for tokens from `vocab_size` on: the condition of a `DenoiserTask`.

    The vectors begin as those of the token `start`, a word for a thing of this kind. `empty` (L,) are the tokens of the empty text.
    """

    def __init__(self, encoder: CLIPTextModel, empty: Tensor, *, start: int, count: int = 1) -> None:
        super().__init__(encoder.config.width)
        self.encoder = encoder.requires_grad_(False)
        first = encoder.embeddings.token_embedding.weight[start].detach().float()
        self.vectors = nn.Parameter(first.repeat(count, 1))
        self.register_buffer("empty", empty, persistent=False)
        self.empty: Tensor

    def forward(self, values: Tensor, dropped: Tensor) -> Tensor:
        """Tokens (B, L) int64, of which vocab_size + i is the i-th vector -> (B, L, width)."""
        return self.encoder.encode(torch.where(dropped[:, None], self.empty, values), inserted=self.vectors)[0]


def save_inversion(path: Path, vectors: Tensor) -> None:
    """Write the vectors (n, width) of a word as the file that our nodes, ComfyUI and diffusers load."""
    partial = path.with_name(f"{path.name}.partial")
    save_file({"emb_params": vectors.detach().cpu().float().contiguous()}, partial, metadata={"format": "pt"})
    partial.replace(path)
