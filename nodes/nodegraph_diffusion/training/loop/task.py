"""What a loop trains: networks, and the loss of a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Batch = TypeVar("Batch")


@dataclass(frozen=True, kw_only=True)
class TrainedNetwork:
    """A network with an optimiser. Its parameters that require gradients are trained.

    `averaged`: it has a moving average. `learning_rate`: its highest one (None: that of the options). `called`: the modules that
    torch.compile may compile (default: the whole module), for networks whose `forward` is not used.
    """

    module: nn.Module
    averaged: bool = True
    learning_rate: float | None = None
    called: tuple[nn.Module, ...] = ()

    def parameters(self) -> dict[str, nn.Parameter]:
        """The trained parameters, by name."""
        return {name: parameter for name, parameter in self.module.named_parameters() if parameter.requires_grad}

    def buffers(self) -> dict[str, Tensor]:
        """What the network keeps beside its parameters, such as the means of a batch norm, by name."""
        saved = self.module.state_dict().keys()
        return {name: buffer for name, buffer in self.module.named_buffers() if name in saved}


@dataclass(frozen=True, kw_only=True)
class Moment:
    """The number of the step, from 0, and the generator for all that is random in it, on the CPU."""

    step: int
    generator: torch.Generator

    def noise_like(self, values: Tensor) -> Tensor:
        """Standard normal float32 noise in the shape of `values`, on its device."""
        return torch.randn(values.shape, generator=self.generator).to(values.device)


@dataclass(frozen=True, kw_only=True)
class Losses:
    """The loss of each network, scalars; its gradient reaches only that network. `figures` are other scalars to log.

    The losses of two networks must not share a graph: detach what both use.
    """

    by_network: Mapping[str, Tensor]
    figures: Mapping[str, Tensor] = field(default_factory=dict)


class Task(ABC, Generic[Batch]):
    """What to train, and how to compute the loss of a batch."""

    @property
    @abstractmethod
    def networks(self) -> Mapping[str, TrainedNetwork]:
        """The networks that are trained, by name. They are on the device that the task computes on."""

    @abstractmethod
    def losses(self, batch: Batch, moment: Moment) -> Losses:
        """The losses of a batch. All that is random comes from the moment's generator."""

    def samples(self) -> Tensor | None:
        """Pictures (B, 3, H, W) in [-1, 1] that show what is learned so far; None: there are none.

        The trainer calls it while the networks have their average weights.
        """
        return None

    def state_dict(self) -> dict[str, Tensor]:
        """What the task learns outside its networks, such as the losses of each noise level."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from the result of `state_dict`."""
