"""Examples for training, made of a data set: pixels, captions and classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor

from nodegraph.plugin_api import dataclass
from nodegraph_diffusion.recipes.embedded.autoencoder import augmented
from nodegraph_diffusion.recipes.embedded.text import ReadCaptions, random_caption, read_captions
from nodegraph_diffusion.training.tasks.clip import CaptionedPictures
from nodegraph_training.data.picture_world import DrawnPictures

if TYPE_CHECKING:
    from nodegraph_diffusion.text.tokenizer import Tokenizer
    from nodegraph_training.types import Pictures

CAPTIONS: Final = 4
"""How many captions of a picture are learned, if the data set has several."""


def pixels_of(pictures: Pictures, indices: Sequence[int]) -> Tensor:
    """Pictures of one size, (B, 3, H, W) in [-1, 1]."""
    stacked = torch.from_numpy(np.stack([pictures.pixels(index) for index in indices]))
    return stacked.permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()


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


@dataclass(frozen=True)
class Cropped:
    """What an autoencoder learns from: squares of `side` pixels at any place of a picture (None: all of it), perhaps augmented."""

    side: int | None
    augment: bool

    def __call__(self, indices: list[int], pixels: Tensor, generator: torch.Generator) -> Tensor:
        """(B, 3, H, W) -> (B, 3, side, side)."""
        return torch.stack([self._one(picture, generator) for picture in pixels])

    def _one(self, picture: Tensor, generator: torch.Generator) -> Tensor:
        if self.side is not None:
            top, left = (int(torch.randint(room - self.side + 1, (), generator=generator)) for room in picture.shape[1:])
            picture = picture[:, top : top + self.side, left : left + self.side]
        return augmented(picture, generator) if self.augment else picture


def require_crop(pictures: Pictures, side: int | None, factor: int) -> None:
    """Raise ValueError if squares of this side cannot be cut from pictures, or do not fill whole cells of the latent."""
    if side is not None and (side > pictures.side or side % factor):
        raise ValueError(
            f"crop: expected a multiple of {factor}, which this autoencoder encodes, of at most {pictures.side}, the side of the "
            f"pictures, found {side}"
        )


def require_side(pictures: Pictures, factor: int) -> None:
    """Raise ValueError if pictures do not fill whole cells of the latent."""
    if any(side % factor for index in range(len(pictures)) for side in pictures.size(index)):
        raise ValueError(
            f"data: expected pictures whose side is a multiple of {factor}, which this autoencoder encodes, found {pictures.side}; "
            f"give the data set the side {pictures.side // factor * factor or factor}"
        )


def require_squares(pictures: Pictures) -> None:
    """Raise ValueError unless all pictures are squares of one size."""
    if any(pictures.size(index) != (pictures.side, pictures.side) for index in range(len(pictures))):
        raise ValueError("data: expected squares of one size, found pictures of several aspect ratios; leave out 'buckets: true'")


def tokens_of_template(tokenizer: Tokenizer, template: str, inserted: Sequence[int], captions: Sequence[str]) -> Tensor:
    """Tokens (B, L) of the template for each caption: `inserted` stands for {word}; filled to the length of the encoder."""
    room, rows = tokenizer.max_length - 2, []
    for caption in captions:
        before, _, after = template.partition("{word}")
        first, last = (tokenizer.encode(part.replace("{caption}", caption)) for part in (before, after))
        middle = [*first, *inserted, *last]
        if len(middle) > room:
            raise ValueError(
                f"template: expected at most {room} tokens with the new word, found {len(middle)}; shorten it"
                + (f" or the caption '{caption}'" if "{caption}" in template else "")
            )
        tokens = [tokenizer.bos, *middle, tokenizer.eos]
        rows.append(tokens + [tokenizer.pad] * (tokenizer.max_length - len(tokens)))
    return torch.tensor(rows)


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


class ReadPictures:
    """Random captions of drawn pictures, with what they demand. Raises ValueError for pictures of other kinds."""

    def __init__(self, pictures: Pictures, device: str) -> None:
        if not isinstance(pictures, DrawnPictures):
            raise ValueError("data: expected the pictures of PictureWorld, whose captions can be read, found others; use TrainCLIP")
        self._pictures, self._device = pictures, device

    def __len__(self) -> int:
        return len(self._pictures)

    def batch(self, indices: list[int], generator: torch.Generator) -> ReadCaptions:
        """A caption of each of these pictures."""
        read = read_captions([random_caption(self._pictures.scene(index), generator) for index in indices])
        return ReadCaptions(tokens=read.tokens.to(self._device), attributes=read.attributes.to(self._device))


def tokens_of(tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """The tokens of texts (B, L), cut and filled to the length of the encoder."""
    rows = []
    for text in texts:
        row = [tokenizer.bos, *tokenizer.encode(text)[: tokenizer.max_length - 2], tokenizer.eos]
        rows.append(row + [tokenizer.pad] * (tokenizer.max_length - len(row)))
    return torch.tensor(rows)


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
