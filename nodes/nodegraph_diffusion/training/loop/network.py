"""A network in training: its optimiser, its average, and their state."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nodegraph_diffusion.training.loop.average import Average
from nodegraph_diffusion.training.loop.muon import Muon, matrix_weights
from nodegraph_diffusion.training.loop.options import TrainingOptions
from nodegraph_diffusion.training.loop.task import TrainedNetwork

_MOMENTS = ("step", "exp_avg", "exp_avg_sq", "momentum")  # what AdamW and Muon remember of each parameter


class NetworkInTraining:
    """A network with its optimiser and, unless switched off, a moving average of its weights.

    The optimiser is AdamW (Loshchilov & Hutter 2019), or Muon with AdamW for what Muon is not made for.

    Raises ValueError if no parameter of the network requires gradients.
    """

    def __init__(self, name: str, trained: TrainedNetwork, options: TrainingOptions) -> None:
        self.module, self._trained, self._options = trained.module, trained, options
        self.parameters = trained.parameters()
        if not self.parameters:
            raise ValueError(f"training: expected parameters to train in '{name}', found none that requires gradients")
        self.device = next(iter(self.parameters.values())).device
        self.optimisers = self._new_optimisers()
        averaged = trained.averaged and options.average is not None
        self.average = Average(self.parameters, options.average or 0.0) if averaged else None
        self.gradient_norm = torch.zeros(())

    def step(self, number: int, scaler: torch.amp.GradScaler) -> None:
        """Apply and clear the gradients, if there are any; `number` is that of the step, from 0."""
        if all(parameter.grad is None for parameter in self.parameters.values()):
            return  # its task does not train it yet
        for optimiser in self.optimisers:
            scaler.unscale_(optimiser)
        most = math.inf if self._options.clip is None else self._options.clip
        self.gradient_norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), most).detach()
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self._options.rate(number, self._trained.learning_rate)
            scaler.step(optimiser)
            optimiser.zero_grad()
        if self.average is not None:
            self.average.update(number + 1)

    def state_dict(self) -> dict[str, Tensor]:
        """Everything from which training continues bit for bit."""
        state = {f"weights/{name}": parameter.detach() for name, parameter in self.parameters.items()}
        state |= {f"buffers/{name}": buffer for name, buffer in self._trained.buffers().items()}
        if self.average is not None:
            state |= {f"average/{name}": tensor for name, tensor in self.average.tensors.items()}
        for name, parameter in self.parameters.items():
            moments = self._state(parameter)  # none for a parameter that never had a gradient
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
                self._optimiser_of(parameter).state[parameter] = {
                    key: value.to(self.device) if key == "step" else torch.empty_like(parameter).copy_(value)
                    for key, value in moments.items()
                }

    def _new_optimisers(self) -> list[torch.optim.Optimizer]:
        """Those of the options, without one that has nothing to do."""
        options = self._options
        weights: set[Tensor] = matrix_weights(self.module) if options.optimiser == "muon" else set()
        matrices = [parameter for parameter in self.parameters.values() if parameter in weights]
        others = [parameter for parameter in self.parameters.values() if parameter not in weights]
        found: list[torch.optim.Optimizer] = []
        if matrices:
            found.append(Muon(matrices, options.learning_rate, weight_decay=options.weight_decay))
        if others:
            fused = self.device.type != "mps"
            found.append(torch.optim.AdamW(others, options.learning_rate, weight_decay=options.weight_decay, fused=fused))
        return found

    def _optimiser_of(self, parameter: nn.Parameter) -> torch.optim.Optimizer:
        return next(each for each in self.optimisers if any(parameter is other for other in each.param_groups[0]["params"]))

    def _state(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """What its optimiser remembers of a parameter."""
        for optimiser in self.optimisers:
            if parameter in optimiser.state:
                state: dict[str, Tensor] = optimiser.state[parameter]
                return state
        return {}
