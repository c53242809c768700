"""The data of a run: which examples each batch holds follows from the seed and the number of the batch."""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol, TypeVar, runtime_checkable

import torch

from nodegraph_diffusion.training.loop.seeds import generator_for

Batch_co = TypeVar("Batch_co", covariant=True)


class Examples(Protocol[Batch_co]):
    """Examples by index, such as pictures with captions."""

    def __len__(self) -> int: ...

    def batch(self, indices: list[int], generator: torch.Generator, /) -> Batch_co:
        """The examples with these indices. `generator` is for what is random about them, such as mirroring."""
        ...


class BatchOrder(Protocol):
    """Which examples each batch holds."""

    def indices(self, number: int, /) -> list[int]:
        """The examples of a batch, counted from 0."""
        ...


@runtime_checkable
class OrderedExamples(Protocol):
    """Examples that say which of them share a batch, such as pictures of several sizes."""

    def order(self, batch: int, seed: int, /) -> BatchOrder:
        """The order in batches of at most `batch`; all that is random about it follows from the seed."""
        ...


def order_of(examples: Examples[object], batch: int, seed: int) -> BatchOrder:
    """The order of examples: their own if they have one."""
    return examples.order(batch, seed) if isinstance(examples, OrderedExamples) else Order(len(examples), batch, seed)


class Order:
    """The order of `count` examples in batches of `batch`: each epoch has every example once, in another order.

    Raises ValueError if there are no examples.
    """

    def __init__(self, count: int, batch: int, seed: int) -> None:
        if count < 1:
            raise ValueError("training: expected at least one example, found none; check the folder or the data set")
        self._count, self._batch, self._seed = count, batch, seed
        self._epoch = lru_cache(maxsize=2)(self._shuffled)

    def indices(self, number: int) -> list[int]:
        """The examples of a batch, counted from 0. A batch may reach into the next epoch."""
        positions = range(number * self._batch, (number + 1) * self._batch)
        return [int(self._epoch(position // self._count)[position % self._count]) for position in positions]

    def _shuffled(self, epoch: int) -> torch.Tensor:
        return torch.randperm(self._count, generator=generator_for(self._seed, "order", epoch))
