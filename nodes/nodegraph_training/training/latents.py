"""Latents as examples for training: with captions, tokens, hints or classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from nodegraph.plugin_api import dataclass
from nodegraph_diffusion.conditioning.sdxl_sizes import AESTHETIC, vector_conditioning
from nodegraph_diffusion.text.encode import Reader, read_prompt
from nodegraph_diffusion.training.loop.examples import BatchOrder, Order
from nodegraph_diffusion.training.pictures.buckets import BucketOrder
from nodegraph_diffusion.training.tasks.classifier import ClassifiedLatents
from nodegraph_diffusion.training.tasks.denoiser import ConditionedLatents
from nodegraph_diffusion.training.tuning.controlnet import HintedLatents
from nodegraph_training.training.examples import edges_of, pixels_of
from nodegraph_training.training.loop import remembered

if TYPE_CHECKING:
    from nodegraph_diffusion.conditioning.prompt import Prompt
    from nodegraph_diffusion.networks.vae import AutoencoderKL
    from nodegraph_training.types import Pictures

_AT_ONCE: Final = 16


class PictureLatents:
    """The latents of pictures, each (c, h, w), scaled as a denoiser expects them. Pictures of one size share batches."""

    def __init__(self, latents: Sequence[Tensor]) -> None:
        self._latents = latents
        self.shapes = [tuple(latent.shape) for latent in latents]

    def __len__(self) -> int:
        return len(self._latents)

    def __getitem__(self, index: int) -> Tensor:
        return self._latents[index]

    def stacked(self, indices: Sequence[int]) -> Tensor:
        """Latents of one size, (B, c, h, w)."""
        return torch.stack([self._latents[index] for index in indices])

    def order(self, batch: int, seed: int) -> BatchOrder:
        """Batches of one size each."""
        return _order(self.shapes, batch, seed)


class PixelLatents:
    """Pictures themselves in place of latents, (3, H, W) in [-1, 1], for a denoiser without an autoencoder."""

    def __init__(self, pictures: Pictures) -> None:
        self._pictures = pictures
        self.shapes = [(3, *pictures.size(index)) for index in range(len(pictures))]

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> Tensor:
        return pixels_of(self._pictures, [index])[0]

    def stacked(self, indices: Sequence[int]) -> Tensor:
        """Pictures of one size, (B, 3, H, W)."""
        return pixels_of(self._pictures, indices)

    def order(self, batch: int, seed: int) -> BatchOrder:
        """Batches of one size each."""
        return _order(self.shapes, batch, seed)


Latents = PictureLatents | PixelLatents


def _order(shapes: Sequence[tuple[int, ...]], batch: int, seed: int) -> BatchOrder:
    return Order(len(shapes), batch, seed) if len({*shapes}) == 1 else BucketOrder(shapes, batch, seed)


def latents_of(pictures: Pictures, vae: AutoencoderKL, folder: Path) -> PictureLatents:
    """The latents of all pictures; remembered in the work folder."""
    by_size: dict[tuple[int, int], list[int]] = {}
    for index in range(len(pictures)):
        by_size.setdefault(pictures.size(index), []).append(index)

    @torch.no_grad()
    def encode() -> dict[str, Tensor]:
        return {_name(size): _encoded(pictures, indices, vae) for size, indices in by_size.items()}

    stored = remembered(folder / "latents.safetensors", encode)
    found = {index: latent for size, indices in by_size.items() for index, latent in zip(indices, stored[_name(size)], strict=True)}
    return PictureLatents([found[index] for index in range(len(pictures))])


def _name(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _encoded(pictures: Pictures, indices: Sequence[int], vae: AutoencoderKL) -> Tensor:
    """The latents of pictures of one size, (N, c, h, w)."""
    device, parts = next(vae.parameters()).device, []
    for start in range(0, len(indices), _AT_ONCE):
        pixels = pixels_of(pictures, indices[start : start + _AT_ONCE])
        parts.append((vae.encode(pixels.to(device))[0] * vae.config.scaling_factor).cpu())
    return torch.cat(parts)


@dataclass(frozen=True)
class Encoded:
    """Captions as contexts (M, L, width), or as tokens (M, L), and what a UNet of SDXL receives besides, (M, added_dim)."""

    contexts: Tensor
    added: Tensor | None


@torch.no_grad()
def encode_texts(
    readers: Sequence[Reader], texts: Sequence[str], sizes: Sequence[tuple[int, int]], *, added_dim: int | None
) -> Encoded:
    """Texts as a UNet attends to them, cut to what the encoder reads at once. `sizes` are those of their pictures, for SDXL's."""
    length = min(reader.tokenizer.max_length for reader in readers)
    prompts: dict[str, Prompt] = {text: read_prompt(readers, text) for text in dict.fromkeys(texts)}
    contexts = torch.cat([prompts[text].embedding[:, :length].cpu() for text in texts])
    if added_dim is None:
        return Encoded(contexts, None)
    vectors = [
        vector_conditioning(prompts[text], size, AESTHETIC, added_dim).cpu() for text, size in zip(texts, sizes, strict=True)
    ]
    return Encoded(contexts, torch.cat(vectors))


class CaptionedLatents:
    """Latents with encoded captions, several for each picture: caption k of picture i is row i * CAPTIONS + k."""

    def __init__(self, latents: PictureLatents, encoded: Encoded, captions: int) -> None:
        self._latents, self._encoded, self._captions = latents, encoded, captions

    def __len__(self) -> int:
        return len(self._latents)

    def order(self, batch: int, seed: int) -> BatchOrder:
        """Batches of one size each."""
        return self._latents.order(batch, seed)

    def batch(self, indices: list[int], generator: torch.Generator) -> ConditionedLatents:
        """The latents with these indices, each with one of its captions."""
        rows = self.rows(indices, generator)
        added = self._encoded.added
        return ConditionedLatents(
            latent=self._latents.stacked(indices),
            condition=self._encoded.contexts[rows],
            added=None if added is None else added[rows],
        )

    def rows(self, indices: list[int], generator: torch.Generator) -> Tensor:
        """The rows of one caption of each picture, drawn by chance."""
        return torch.tensor(indices) * self._captions + torch.randint(self._captions, (len(indices),), generator=generator)


class TokenLatents:
    """Latents with captions, as tokens (N, ...), and what a UNet of SDXL receives besides, (N, added_dim)."""

    def __init__(self, latents: PictureLatents, tokens: Tensor, added: Tensor | None) -> None:
        self._latents, self.tokens, self._added = latents, tokens, added

    def __len__(self) -> int:
        return len(self._latents)

    def order(self, batch: int, seed: int) -> BatchOrder:
        """Batches of one size each."""
        return self._latents.order(batch, seed)

    def batch(self, indices: list[int], generator: torch.Generator) -> ConditionedLatents:
        """The latents with these indices."""
        added = None if self._added is None else self._added[indices]
        return ConditionedLatents(latent=self._latents.stacked(indices), condition=self.tokens[indices], added=added)


class HintedPictures:
    """Captioned latents, with the edges of their pictures as hints."""

    def __init__(self, examples: CaptionedLatents, pictures: Pictures) -> None:
        self._examples, self._pictures = examples, pictures

    def __len__(self) -> int:
        return len(self._examples)

    def order(self, batch: int, seed: int) -> BatchOrder:
        """Batches of one size each."""
        return self._examples.order(batch, seed)

    def batch(self, indices: list[int], generator: torch.Generator) -> HintedLatents:
        """The latents with these indices, each with one of its captions and its edges."""
        found = self._examples.batch(indices, generator)
        hint = edges_of(pixels_of(self._pictures, indices) / 2 + 0.5)
        return HintedLatents(latent=found.latent, condition=found.condition, added=found.added, hint=hint)


class LabelledLatents:
    """Latents with classes (N,)."""

    def __init__(self, latents: PictureLatents, labels: Tensor) -> None:
        self._latents, self._labels = latents, labels

    def __len__(self) -> int:
        return len(self._latents)

    def order(self, batch: int, seed: int) -> BatchOrder:
        """Batches of one size each."""
        return self._latents.order(batch, seed)

    def batch(self, indices: list[int], generator: torch.Generator) -> ClassifiedLatents:
        """The latents with these indices."""
        return ClassifiedLatents(latent=self._latents.stacked(indices), classes=self._labels[indices])
