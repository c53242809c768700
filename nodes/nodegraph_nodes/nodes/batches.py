"""Nodes that take batches apart and put them together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from nodegraph import Help, Range, node
from nodegraph_nodes.types import Image, Latent

if TYPE_CHECKING:
    from torch import Tensor

Index = Annotated[int, Range(-4096, 4096), Help("the first one, counted from 0; -1 is the last of the batch")]
Count = Annotated[int, Range(1, 4096), Help("how many")]
Times = Annotated[int, Range(1, 4096), Help("how often each one occurs in the result")]


@node("FromBatch", version=2, foreign_names=("LatentFromBatch",))
def from_batch(latent: Latent, index: Index = 0, count: Count = 1) -> Latent:
    """Take latents out of a batch: `count` of them, from `index` on.

    `Noise` for them is the noise that they have in the batch.
    """
    first, stop = _range(len(latent.samples), index, count)
    numbers = (latent.numbers or tuple(range(stop)))[first:stop]
    return replace(latent, samples=latent.samples[first:stop].contiguous(), numbers=numbers)


@node("ImageFromBatch")
def image_from_batch(image: Image, index: Index = 0, count: Count = 1) -> Image:
    """Take pictures out of a batch: `count` of them, from `index` on."""
    first, stop = _range(len(image.pixels), index, count)
    return Image(image.pixels[first:stop].contiguous())


def _range(size: int, index: int, count: int) -> tuple[int, int]:
    """The first of `count` items of a batch, and the one after the last. Raises ValueError if the batch does not have them."""
    first = index + size if index < 0 else index
    if not 0 <= first <= first + count <= size:
        found = f"{count} from {index} on"
        raise ValueError(f"index: expected pictures of a batch of {size}, counted from 0, found {found}. Choose others")
    return first, first + count


@node("RepeatLatent", foreign_names=("RepeatLatentBatch",))
def repeat_latent(latent: Latent, times: Times = 2) -> Latent:
    """Repeat a batch of latents: all of them, then all of them again, and so on.

    `Noise` for each of them is another one, so that sampling makes variations.
    """
    numbers = latent.numbers
    if numbers is not None:
        step = max(numbers) - min(numbers) + 1
        numbers = tuple(number + step * i for i in range(times) for number in numbers)
    return replace(latent, samples=latent.samples.repeat(times, 1, 1, 1), numbers=numbers)


@node("RepeatImage", foreign_names=("RepeatImageBatch",))
def repeat_image(image: Image, times: Times = 2) -> Image:
    """Repeat a batch of pictures: all of them, then all of them again, and so on."""
    return Image(image.pixels.repeat(times, 1, 1, 1))


@node("BatchNoise", foreign_names=("LatentBatchSeedBehavior",))
def batch_noise(
    latent: Latent,
    noise: Annotated[Literal["same", "different"], Help("same: as the first one has; different: each its own")] = "same",
) -> Latent:
    """Say whether the latents of a batch start from the same noise.

    It concerns the `Noise` that is drawn for the result.
    """
    numbers = None if noise == "different" else (latent.numbers or (0,))[:1] * len(latent.samples)
    return replace(latent, numbers=numbers)


@node("JoinLatents", foreign_names=("LatentBatch",))
def join_latents(latents: list[Latent]) -> Latent:
    """Make one batch of several.

    Latents of another size are cropped around the centre and resized to that of the first one. `Noise` for each of them is the one
    that it has in its own batch; `BatchNoise` changes that.
    """
    import torch
    import torch.nn.functional as F

    from nodegraph_diffusion.resizing import cropped

    first = _first(latents)
    size = (first.samples.shape[-2], first.samples.shape[-1])

    def fitted(samples: Tensor) -> Tensor:
        return samples if samples.shape[-2:] == size else F.interpolate(cropped(samples, size), size=size, mode="bilinear")

    numbers = tuple(number for latent in latents for number in _numbers(latent))
    return replace(first, samples=torch.cat([fitted(latent.samples) for latent in latents]), numbers=numbers)


@node("Rebatch", foreign_names=("RebatchLatents",))
def rebatch(
    latents: list[Latent], count: Annotated[int, Range(1, 4096), Help("latents in each batch; the last one may have fewer")] = 1
) -> list[Latent]:
    """Divide latents into batches of one size.

    Only latents of one size share a batch. Without numbers of their own, all are numbered in a row, so that the `Noise` of each is
    another one.
    """
    batches: list[Latent] = []
    pending: list[Latent] = []  # single latents of one size
    seen = 0
    for latent in latents:
        numbers = latent.numbers or range(seen, seen + len(latent.samples))
        seen += len(latent.samples)
        singles = [replace(latent, samples=row[None], numbers=(n,)) for row, n in zip(latent.samples, numbers, strict=True)]
        for single in singles:
            if len(pending) == count or (pending and pending[0].samples.shape != single.samples.shape):
                batches.append(_joined(pending))
                pending = []
            pending.append(single)
    return [*batches, *([_joined(pending)] if pending else [])]


def _joined(singles: Sequence[Latent]) -> Latent:
    import torch

    numbers = tuple(number for single in singles for number in _numbers(single))
    return replace(singles[0], samples=torch.cat([single.samples for single in singles]), numbers=numbers)


def _numbers(latent: Latent) -> Sequence[int]:
    """Which picture of a batch each latent is."""
    return range(len(latent.samples)) if latent.numbers is None else latent.numbers


def _first(latents: Sequence[Latent]) -> Latent:
    """The first latent. Raises ValueError if there is none, or if one is of another space."""
    if not latents:
        raise ValueError("latents: expected at least one, found an empty list. Link some")
    for latent in latents[1:]:
        latent.require_space(latents[0].space, "first latent is")
    return latents[0]
