"""The exponential moving average of a network's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


def average_decay(update: int, most: float) -> float:
    """The decay of an update, counted from 1: the smaller of `most` and n / (n + 9), 0 for the first.

    So that the first weights, which are random, do not stay in the average (the documentation of TensorFlow's
    ExponentialMovingAverage; diffusers' EMAModel counts the same way).
    """
    return 0.0 if update <= 1 else min(most, update / (update + 9))


class Average:
    """The moving average of parameters: average = decay * average + (1 - decay) * parameter after each step."""

    def __init__(self, parameters: Mapping[str, Tensor], most: float) -> None:
        self._parameters, self._most = dict(parameters), most
        self.tensors = {name: parameter.detach().clone() for name, parameter in parameters.items()}

    @torch.no_grad()
    def update(self, number: int) -> None:
        """Take in the parameters after a step; `number` is that of the update, from 1."""
        weight = 1 - average_decay(number, self._most)
        torch._foreach_lerp_(list(self.tensors.values()), list(self._parameters.values()), weight)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Inside, the parameters have the values of the average."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self._parameters.items():
            average = self.tensors[name]
            current = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(current)
