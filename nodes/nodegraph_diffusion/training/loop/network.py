"""A network in training: its optimiser, its average, and their state."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from nodegraph_diffusion.training.loop.average import Average
from nodegraph_diffusion.training.loop.options import TrainingOptions
from nodegraph_diffusion.training.loop.task import TrainedNetwork

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # what AdamW remembers of each parameter


class NetworkInTraining:
    """A network with AdamW (Loshchilov & Hutter 2019) and, unless switched off, a moving average of its weights.

    Raises ValueError if no parameter of the network requires gradients.
    """

    def __init__(self, name: str, trained: TrainedNetwork, options: TrainingOptions) -> None:
        self.module, self._trained, self._options = trained.module, trained, options
        self.parameters = trained.parameters()
        if not self.parameters:
            raise ValueError(f"training: expected parameters to train in '{name}', found none that requires gradients")
        self.device = next(iter(self.parameters.values())).device
        self.optimiser = torch.optim.AdamW(
            self.parameters.values(), options.learning_rate, weight_decay=options.weight_decay, fused=self.device.type != "mps"
        )
        averaged = trained.averaged and options.average is not None
        self.average = Average(self.parameters, options.average or 0.0) if averaged else None
        self.gradient_norm = torch.zeros(())

    def step(self, number: int, scaler: torch.amp.GradScaler) -> None:
        """Apply and clear the gradients, if there are any; `number` is that of the step, from 0."""
        if all(parameter.grad is None for parameter in self.parameters.values()):
            return  # its task does not train it yet
        scaler.unscale_(self.optimiser)
        most = math.inf if self._options.clip is None else self._options.clip
        self.gradient_norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), most).detach()
        for group in self.optimiser.param_groups:
            group["lr"] = self._options.rate(number, self._trained.learning_rate)
        scaler.step(self.optimiser)
        self.optimiser.zero_grad()
        if self.average is not None:
            self.average.update(number + 1)

    def state_dict(self) -> dict[str, Tensor]:
        """Everything from which training continues bit for bit."""
        state = {f"weights/{name}": parameter.detach() for name, parameter in self.parameters.items()}
        state |= {f"buffers/{name}": buffer for name, buffer in self._trained.buffers().items()}
        if self.average is not None:
            state |= {f"average/{name}": tensor for name, tensor in self.average.tensors.items()}
        for name, parameter in self.parameters.items():
            moments = self.optimiser.state.get(parameter, {})  # none for a parameter that never had a gradient
            state |= {f"optimiser/{key}/{name}": moments[key] for key in _MOMENTS if key in moments}
        return state

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from the result of `state_dict`. Raises ValueError if it is that of another network."""
        targets = {name: target for name, target in self.state_dict().items() if not name.startswith("optimiser/")}
        for name, target in targets.items():
            if name not in state or state[name].shape != target.shape:
                found = f"a tensor of shape {tuple(state[name].shape)}" if name in state else "no such tensor"
                raise ValueError(f"training: the saved state has {found} for {name}, expected shape {tuple(target.shape)}")
            target.copy_(state[name])
        for name, parameter in self.parameters.items():
            moments = {key: state[f"optimiser/{key}/{name}"] for key in _MOMENTS if f"optimiser/{key}/{name}" in state}
            if moments:  # in the memory layout of the parameter, which the fused kernel needs
                self.optimiser.state[parameter] = {
                    key: value.to(self.device) if key == "step" else torch.empty_like(parameter).copy_(value)
                    for key, value in moments.items()
                }
