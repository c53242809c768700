"""Muon: momentum whose direction is made orthogonal, for the weights of linear layers and convolutions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

_MOMENTUM = 0.95
_ITERATIONS, _COEFFICIENTS = 5, (3.4445, -4.7750, 2.0315)
_UPDATE_SIZE = 0.2  # root mean square of an update, per learning rate: about that of AdamW


class Muon(torch.optim.Optimizer):
    """Moves each weight, as a matrix (out, in * kernel), along an orthogonal matrix close to U V^T of its momentum U S V^T.

    See Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks", with Nesterov's momentum. Updates are scaled
    by 0.2 sqrt(max(rows, columns)) as in Liu et al. 2025, "Muon is scalable for LLM training", eq. 4, so that the learning rate and
    the weight decay mean what they mean for AdamW.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], learning_rate: float, *, weight_decay: float) -> None:
        super().__init__([*parameters], {"lr": learning_rate, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # it returns no loss
        """Apply the gradients."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[nn.Parameter]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault((len(parameter), parameter[0].numel()), []).append(parameter)
            for shape, parameters in by_shape.items():
                self._move(parameters, shape, group)

    def _move(self, parameters: list[nn.Parameter], shape: tuple[int, int], group: dict[str, Any]) -> None:
        """Move parameters that are matrices of one shape."""
        wanted = torch.stack([self._direction(parameter).reshape(shape) for parameter in parameters])
        length = group["lr"] * _UPDATE_SIZE * math.sqrt(max(shape))
        for parameter, update in zip(parameters, orthogonal(wanted), strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.sub_(update.reshape(parameter.shape), alpha=length)

    def _direction(self, parameter: nn.Parameter) -> Tensor:
        """Where Nesterov's momentum points."""
        gradient = parameter.grad
        assert gradient is not None
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum"]
        momentum.lerp_(gradient, 1 - _MOMENTUM)
        return gradient.lerp(momentum, _MOMENTUM)


def orthogonal(matrices: Tensor) -> Tensor:
    """About U V^T of each matrix U S V^T, (B, rows, columns), by Newton and Schulz's iteration: its singular values become about 1.

    The coefficients are those of Jordan et al. 2024; singular values end between 0.7 and 1.2, unless they were nearly 0.
    """
    a, b, c = _COEFFICIENTS
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_ITERATIONS):
        product = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(product, product, product, beta=b, alpha=c), x, beta=a)
    return x if wide else x.mT


def matrix_weights(network: nn.Module) -> set[Tensor]:
    """The weights of a network's linear layers and convolutions."""
    return {layer.weight for layer in network.modules() if isinstance(layer, nn.Linear | nn.Conv2d)}
