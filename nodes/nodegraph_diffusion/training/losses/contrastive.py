"""Learning pictures and texts together (Radford et al. 2021, CLIP)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOST_SCALE = 100.0


class Temperature(nn.Module):
    """The learned factor of similarities. It begins at 1 / 0.07 and stays at most 100 (sec. 2.5)."""

    def __init__(self) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, images: Tensor, texts: Tensor) -> Tensor:
        """Embeddings (B, d) of pictures and (N, d) of texts -> scaled cosine similarities (B, N)."""
        with torch.no_grad():  # the parameter itself, since a clamp in the product would stop its gradient for ever
            self.logit_scale.clamp_(max=math.log(MOST_SCALE))
        return self.logit_scale.exp() * F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T


def contrastive_loss(similarities: Tensor) -> Tensor:
    """Cross entropy of finding the text of each picture and the picture of each text, from (B, B) similarities (fig. 3).

    Picture i belongs to text i.
    """
    pairs = torch.arange(len(similarities), device=similarities.device)
    return (F.cross_entropy(similarities, pairs) + F.cross_entropy(similarities.T, pairs)) / 2


def zero_shot_accuracy(similarities: Tensor, classes: Tensor) -> float:
    """The share of pictures whose most similar text is that of their class; similarities (B, N), classes (B,) (sec. 3.1)."""
    return float((similarities.argmax(1) == classes).double().mean())
