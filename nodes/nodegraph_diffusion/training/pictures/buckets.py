"""Buckets of aspect ratios: pictures are trained at sizes of about the same area, and each batch has pictures of one size.

The rules for the sizes are those of kohya's trainers, so that a folder of pictures is trained at the same sizes here and there.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch

from nodegraph_diffusion.training.loop.seeds import generator_for

Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True, kw_only=True)
class Buckets:
    """The sizes that pictures can be trained at: each side a multiple of `step`, from `least` to `most`, at most `side`^2 pixels.

    If `most` does not limit it, the other side is the longest that is possible. There is a square, too. Raises ValueError for
    sizes of which there is none.
    """

    side: int = 512
    step: int = 64
    least: int = 256
    most: int = 1024

    def __post_init__(self) -> None:
        if self.step < 1 or not self.step <= self.least <= self.most or self.side < self.step:
            raise ValueError(
                "buckets: expected 1 <= step <= least <= most and a side of at least step (512, 64, 256 and 1024 are usual), "
                f"found {self}"
            )

    @cached_property
    def sizes(self) -> tuple[Size, ...]:
        """All sizes, the narrowest first."""
        square = self.side // self.step * self.step
        found = {(square, square)}
        for short in range(self.least, self.most + 1, self.step):
            long = min(self.most, self.side**2 // short // self.step * self.step)
            if long >= self.least:
                found |= {(short, long), (long, short)}
        return tuple(sorted(found, key=lambda size: (size[1], size[0])))

    def of(self, height: int, width: int) -> Size:
        """The size for a picture: its own if that is one, else that of the nearest ratio of width to height."""
        if (height, width) in self.sizes:
            return height, width
        return min(self.sizes, key=lambda size: abs(size[1] / size[0] - width / height))


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How a picture becomes one of a bucket's size: it is resized to `resized`, and cut at `top` and `left` to `size`."""

    original: Size
    resized: Size
    top: int
    left: int
    size: Size


def fit(height: int, width: int, size: Size) -> Fit:
    """The smallest resizing that covers `size`, cut around the centre."""
    scale = size[0] / height if width / height > size[1] / size[0] else size[1] / width
    resized = (max(size[0], math.floor(height * scale + 0.5)), max(size[1], math.floor(width * scale + 0.5)))
    top, left = (resized[0] - size[0]) // 2, (resized[1] - size[1]) // 2
    return Fit(original=(height, width), resized=resized, top=top, left=left, size=size)


class BucketOrder:
    """The order of examples in batches of one bucket each. In each epoch every example comes once, in an order of its own.

    `buckets` has the bucket of each example. The last batch of a bucket in an epoch has the examples that are left. The order
    follows from the seed. Raises ValueError if there are no examples.
    """

    def __init__(self, buckets: Sequence[Hashable], batch: int, seed: int) -> None:
        if not buckets:
            raise ValueError("training: expected at least one example, found none; check the folder or the data set")
        self._batch, self._seed = batch, seed
        self._members: dict[Hashable, list[int]] = {}
        for index, bucket in enumerate(buckets):
            self._members.setdefault(bucket, []).append(index)
        self.batches_per_epoch = sum(-(-len(members) // batch) for members in self._members.values())
        self._epoch = lru_cache(maxsize=2)(self._shuffled)

    def indices(self, number: int) -> list[int]:
        """The examples of a batch, counted from 0."""
        return self._epoch(number // self.batches_per_epoch)[number % self.batches_per_epoch]

    def _shuffled(self, epoch: int) -> list[list[int]]:
        generator = generator_for(self._seed, "order", epoch)
        batches = []
        for members in self._members.values():
            order = [members[index] for index in torch.randperm(len(members), generator=generator).tolist()]
            batches += [order[start : start + self._batch] for start in range(0, len(order), self._batch)]
        return [batches[index] for index in torch.randperm(len(batches), generator=generator).tolist()]
