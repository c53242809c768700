"""Examples for training, made of a data set: pixels, latents, captions, hints and classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor

from nodegraph_diffusion.conditioning.sdxl_sizes import AESTHETIC, vector_conditioning
from nodegraph_diffusion.text.encode import Reader, read_prompt
from nodegraph_diffusion.training.tasks.classifier import ClassifiedLatents
from nodegraph_diffusion.training.tasks.clip import CaptionedPictures
from nodegraph_diffusion.training.tasks.denoiser import ConditionedLatents
from nodegraph_diffusion.training.tuning.controlnet import HintedLatents
from nodegraph_training.training.loop import remembered

if TYPE_CHECKING:
    from nodegraph_diffusion.conditioning.prompt import Prompt
    from nodegraph_diffusion.networks.vae import AutoencoderKL
    from nodegraph_diffusion.text.tokenizer import Tokenizer
    from nodegraph_training.types import Pictures

CAPTIONS: Final = 4
"""How many captions of a picture are learned, if the data set has several."""

_AT_ONCE: Final = 16


def pixels_of(pictures: Pictures, indices: Sequence[int]) -> Tensor:
    """Pictures (B, 3, side, side) in [-1, 1]."""
    stacked = torch.from_numpy(np.stack([pictures.pixels(index) for index in indices]))
    return stacked.permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()


def latents_of(pictures: Pictures, vae: AutoencoderKL, folder: Path) -> Tensor:
    """The latents of all pictures, (N, c, h, w), scaled as a denoiser expects them; remembered in the work folder."""

    @torch.no_grad()
    def encode() -> dict[str, Tensor]:
        device, parts = next(vae.parameters()).device, []
        for start in range(0, len(pictures), _AT_ONCE):
            pixels = pixels_of(pictures, range(start, min(start + _AT_ONCE, len(pictures))))
            parts.append((vae.encode(pixels.to(device))[0] * vae.config.scaling_factor).cpu())
        return {"latents": torch.cat(parts)}

    return remembered(folder / "latents.safetensors", encode)["latents"]


@dataclass(frozen=True)
class Encoded:
    """Encoded captions: contexts (M, L, width), and what a UNet of SDXL receives besides, (M, added_dim)."""

    contexts: Tensor
    added: Tensor | None


@torch.no_grad()
def encode_texts(readers: Sequence[Reader], texts: Sequence[str], *, size: int, added_dim: int | None) -> Encoded:
    """Texts as a UNet attends to them, cut to what the encoder reads at once."""
    length = min(reader.tokenizer.max_length for reader in readers)
    prompts: dict[str, Prompt] = {text: read_prompt(readers, text) for text in dict.fromkeys(texts)}
    contexts = torch.cat([prompts[text].embedding[:, :length].cpu() for text in texts])
    if added_dim is None:
        return Encoded(contexts, None)
    vectors = [vector_conditioning(prompts[text], (size, size), AESTHETIC, added_dim).cpu() for text in texts]
    return Encoded(contexts, torch.cat(vectors))


class CaptionedLatents:
    """Latents (N, c, h, w) with encoded captions, several for each picture: caption k of picture i is row i * CAPTIONS + k."""

    def __init__(self, latents: Tensor, encoded: Encoded, captions: int) -> None:
        self._latents, self._encoded, self._captions = latents, encoded, captions

    def __len__(self) -> int:
        return len(self._latents)

    def batch(self, indices: list[int], generator: torch.Generator) -> ConditionedLatents:
        """The latents with these indices, each with one of its captions."""
        rows = self.rows(indices, generator)
        added = self._encoded.added
        return ConditionedLatents(
            latent=self._latents[indices],
            condition=self._encoded.contexts[rows],
            added=None if added is None else added[rows],
        )

    def rows(self, indices: list[int], generator: torch.Generator) -> Tensor:
        """The rows of one caption of each picture, drawn by chance."""
        return torch.tensor(indices) * self._captions + torch.randint(self._captions, (len(indices),), generator=generator)


def captions_of(pictures: Pictures, count: int) -> list[str]:
    """`count` captions of each picture, one after the other."""
    return [pictures.caption(index, number) for index in range(len(pictures)) for number in range(count)]


def number_of_captions(pictures: Pictures) -> int:
    """How many captions of each picture are learned: one if there are no others."""
    return 1 if all(pictures.caption(i, 1) == pictures.caption(i) for i in range(min(8, len(pictures)))) else CAPTIONS


class FromPixels:
    """Examples that are made of the pixels of a batch."""

    def __init__(self, pictures: Pictures, make: Callable[[list[int], Tensor, torch.Generator], object] | None = None) -> None:
        self._pictures, self._make = pictures, make

    def __len__(self) -> int:
        return len(self._pictures)

    def batch(self, indices: list[int], generator: torch.Generator) -> object:
        """Pixels (B, 3, side, side), or what is made of them."""
        pixels = pixels_of(self._pictures, indices)
        return pixels if self._make is None else self._make(indices, pixels, generator)


def require_side(pictures: Pictures, factor: int) -> None:
    """Raise ValueError if pictures do not fill whole cells of the latent."""
    if pictures.side % factor:
        raise ValueError(
            f"data: expected pictures whose side is a multiple of {factor}, which this autoencoder encodes, found {pictures.side}; "
            f"give the data set the side {pictures.side // factor * factor or factor}"
        )


def tokens_of_template(tokenizer: Tokenizer, template: str, inserted: Sequence[int]) -> Tensor:
    """The tokens (L,) of a caption in which `inserted` stands for {word}, filled to the length of the encoder."""
    before, _, after = template.partition("{word}")
    middle = [*tokenizer.encode(before), *inserted, *tokenizer.encode(after)]
    room = tokenizer.max_length - 2
    if len(middle) > room:
        raise ValueError(f"template: expected at most {room} tokens with the new word, found {len(middle)}; shorten it")
    tokens = [tokenizer.bos, *middle, tokenizer.eos]
    return torch.tensor(tokens + [tokenizer.pad] * (tokenizer.max_length - len(tokens)))


class TokenLatents:
    """Latents (N, c, h, w) that all have the same caption, as tokens (L,)."""

    def __init__(self, latents: Tensor, tokens: Tensor) -> None:
        self._latents, self._tokens = latents, tokens

    def __len__(self) -> int:
        return len(self._latents)

    def batch(self, indices: list[int], generator: torch.Generator) -> ConditionedLatents:
        """The latents with these indices."""
        return ConditionedLatents(latent=self._latents[indices], condition=self._tokens.expand(len(indices), -1))


class HintedPictures:
    """Captioned latents, with the edges of their pictures as hints."""

    def __init__(self, examples: CaptionedLatents, pictures: Pictures) -> None:
        self._examples, self._pictures = examples, pictures

    def __len__(self) -> int:
        return len(self._examples)

    def batch(self, indices: list[int], generator: torch.Generator) -> HintedLatents:
        """The latents with these indices, each with one of its captions and its edges."""
        found = self._examples.batch(indices, generator)
        hint = edges_of(pixels_of(self._pictures, indices) / 2 + 0.5)
        return HintedLatents(latent=found.latent, condition=found.condition, added=found.added, hint=hint)


def edges_of(pixels: Tensor, threshold: float = 0.15) -> Tensor:
    """Edges of pictures (B, 3, H, W) in [0, 1]: 1 where a pixel differs from the one below or beside it, in all channels."""
    right = (pixels[..., :, 1:] - pixels[..., :, :-1]).abs().amax(1, keepdim=True)
    below = (pixels[..., 1:, :] - pixels[..., :-1, :]).abs().amax(1, keepdim=True)
    strength = torch.zeros_like(pixels[:, :1])
    strength[..., :, :-1] = right
    strength[..., :-1, :] = torch.maximum(strength[..., :-1, :], below)
    return (strength > threshold).float().expand(-1, 3, -1, -1)


class CaptionedPixels:
    """Pictures with the tokens of one of their captions, for CLIP."""

    def __init__(self, pictures: Pictures, tokenizer: Tokenizer) -> None:
        self._pictures, self._tokenizer = pictures, tokenizer

    def __len__(self) -> int:
        return len(self._pictures)

    def batch(self, indices: list[int], generator: torch.Generator) -> CaptionedPictures:
        """The pictures with these indices; the number of each one's caption is drawn by chance."""
        numbers = torch.randint(CAPTIONS, (len(indices),), generator=generator).tolist()
        texts = [self._pictures.caption(index, number) for index, number in zip(indices, numbers, strict=True)]
        return CaptionedPictures(pixels=pixels_of(self._pictures, indices), tokens=tokens_of(self._tokenizer, texts))


def tokens_of(tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """The tokens of texts (B, L), cut and filled to the length of the encoder."""
    rows = []
    for text in texts:
        row = [tokenizer.bos, *tokenizer.encode(text)[: tokenizer.max_length - 2], tokenizer.eos]
        rows.append(row + [tokenizer.pad] * (tokenizer.max_length - len(row)))
    return torch.tensor(rows)


class LabelledLatents:
    """Latents (N, c, h, w) with classes (N,)."""

    def __init__(self, latents: Tensor, labels: Tensor) -> None:
        self._latents, self._labels = latents, labels

    def __len__(self) -> int:
        return len(self._latents)

    def batch(self, indices: list[int], generator: torch.Generator) -> ClassifiedLatents:
        """The latents with these indices."""
        return ClassifiedLatents(latent=self._latents[indices], classes=self._labels[indices])


def class_names(pictures: Pictures) -> tuple[Tensor, list[str]]:
    """The class of each picture, (N,) int64, and the names of the classes. Raises ValueError unless there are two or more."""
    labels = [pictures.label(index) for index in range(len(pictures))]
    names = sorted({label for label in labels if label is not None})
    if None in labels or len(names) < 2:
        without = labels.count(None)
        found = f"{without} pictures without a class" if without else f"only '{names[0]}'"
        raise ValueError(
            f"data: expected pictures of at least two classes, found {found}; give PictureWorld 'things: 1', or put the "
            f"pictures of each class into a folder of its own"
        )
    return torch.tensor([names.index(label) for label in labels if label is not None]), names
