"""Captions as a denoiser needs them: as tokens, or encoded by the text encoders of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nodegraph_diffusion.text.encode import Reader
from nodegraph_diffusion.text.tokenizer import Tokenizer
from nodegraph_diffusion.training.pictures.store import EncodingStore, joined_digest, network_digest


def caption_tokens(tokenizer: Tokenizer, caption: str, words: dict[str, Sequence[int]] | None = None) -> list[int]:
    """The tokens of a caption, `max_length` of them: read as it stands, without weights, cut if it is longer.

    `words` are new words with their tokens, such as those of a textual inversion.
    """
    pieces: list[str | Sequence[int]] = [caption]
    for word, tokens in (words or {}).items():
        split: list[str | Sequence[int]] = []
        for piece in pieces:
            if isinstance(piece, str):
                first, *rest = piece.split(word)
                split.append(first)
                for text in rest:
                    split += [tokens, text]
            else:
                split.append(piece)
        pieces = split
    inside = [token for piece in pieces for token in (tokenizer.encode(piece) if isinstance(piece, str) else piece)]
    room = tokenizer.max_length - 2
    tokens = [tokenizer.bos, *inside[:room], tokenizer.eos]
    return tokens + [tokenizer.pad] * (tokenizer.max_length - len(tokens))


@dataclass(frozen=True, kw_only=True)
class EncodedCaptions:
    """The contexts of captions, (N, L, width) float32, and the pooled encodings (N, p) of models that have them."""

    contexts: Tensor
    pooled: Tensor | None


@torch.no_grad()
def encode_captions(
    readers: Sequence[Reader],
    captions: Sequence[str],
    store: EncodingStore,
    *,
    clip_skip: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> EncodedCaptions:
    """Captions encoded with all text encoders of a model, each caption once. Embeddings of the readers are not used."""
    encoders = joined_digest([network_digest(reader.model) for reader in readers])
    distinct = list(dict.fromkeys(captions))
    tokens = [[caption_tokens(reader.tokenizer, caption) for reader in readers] for caption in distinct]

    def compute(index: int) -> dict[str, Tensor]:
        read = [
            reader.model.encode(torch.tensor([ids], device=next(reader.model.parameters()).device), clip_skip)
            for reader, ids in zip(readers, tokens[index], strict=True)
        ]
        encoding = {"context": torch.cat([hidden[0].float().cpu() for hidden, _ in read], dim=-1)}
        pooled = read[-1][1]
        return encoding if pooled is None else {**encoding, "pooled": pooled[0].float().cpu()}

    items = [{"kind": "caption", "tokens": ids, "encoders": encoders, "clip_skip": clip_skip} for ids in tokens]
    by_caption = dict(zip(distinct, store.encode(items, compute, on_progress=on_progress), strict=True))
    found = [by_caption[caption] for caption in captions]
    pooled = torch.stack([each["pooled"] for each in found]) if "pooled" in found[0] else None
    return EncodedCaptions(contexts=torch.stack([each["context"] for each in found]), pooled=pooled)
