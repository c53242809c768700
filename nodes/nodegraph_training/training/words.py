"""A new word in training: its vectors, and the captions that it stands in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nodegraph_diffusion.checkpoint.detect.embedding import PAIR
from nodegraph_diffusion.training.tuning.inversion import InversionCondition, PairedInversionCondition
from nodegraph_training.training.examples import captions_of, tokens_of, tokens_of_template
from nodegraph_training.training.latents import PictureLatents, TokenLatents, encode_texts

if TYPE_CHECKING:
    from nodegraph_diffusion.text.encode import Reader
    from nodegraph_training.types import Pictures


class NewWord:
    """A word of `vectors` vectors for each of a model's text encoders; they begin as those of the words `start`.

    `template` is a caption in which {word} stands for it. `added_dim` is the width of the UNet's vector conditioning, such as
    SDXL's, if it has one. Raises ValueError for a template without {word}, or for a start that has no words.
    """

    def __init__(self, readers: Sequence[Reader], template: str, start: str, vectors: int, *, added_dim: int | None) -> None:
        if "{word}" not in template:
            raise ValueError(f"template: expected a caption with {{word}} in it, found '{template}'; write it there")
        first = [reader.tokenizer.encode(start) for reader in readers]
        if not all(first):
            raise ValueError("start: expected a word, found none; give a word that the model knows, such as 'picture'")
        self._readers, self._template, self._vectors, self._added_dim = readers, template, vectors, added_dim
        encoders, empty = [reader.model for reader in readers], [tokens_of(reader.tokenizer, [""])[0] for reader in readers]
        self._paired = len(readers) > 1 or added_dim is not None  # a part of the vector conditioning is text
        self.condition: InversionCondition | PairedInversionCondition
        if self._paired:
            self.condition = PairedInversionCondition(encoders, torch.stack(empty), start=first, count=vectors)
        else:
            self.condition = InversionCondition(encoders[0], empty[0], start=first[0], count=vectors)

    def examples(self, pictures: Pictures, latents: PictureLatents) -> TokenLatents:
        """The latents of pictures, each with the template for its caption."""
        captions = captions_of(pictures, 1)
        tokens = [
            tokens_of_template(reader.tokenizer, self._template, self._inserted(reader), captions) for reader in self._readers
        ]
        sizes = [pictures.size(index) for index in range(len(pictures))]
        added = None
        if self._added_dim is not None:  # the sizes of the pictures; the condition puts its own text into it
            added = encode_texts(self._readers, captions, sizes, added_dim=self._added_dim).added
        return TokenLatents(latents, torch.stack(tokens, 1) if self._paired else tokens[0], added)

    def tensors(self) -> dict[str, Tensor]:
        """The vectors, with the names that files of words have."""
        vectors = self.condition.vectors
        if isinstance(vectors, Tensor):
            return {"emb_params": vectors}
        return dict(zip(PAIR if len(vectors) > 1 else ("emb_params",), vectors, strict=True))

    def _inserted(self, reader: Reader) -> range:
        """The tokens that stand for the vectors."""
        size = reader.model.config.vocab_size
        return range(size, size + self._vectors)
