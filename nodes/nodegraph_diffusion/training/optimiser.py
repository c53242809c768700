"""Training in bfloat16 with float32 master weights, and an exponential moving average of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nodegraph_diffusion.training import team
from nodegraph_diffusion.training.budget import Budget

ALIGNMENT = 64


class MasterWeights:
    """The parameters of `module` in one float32 vector, which AdamW steps; the module itself computes in `dtype`.

    The module's parameters become views of one `dtype` vector and its gradients of another. So a step, a copy or an average is one
    operation for any number of layers.
    """

    def __init__(self, module: nn.Module, lr: float, *, dtype: torch.dtype = torch.bfloat16, ema: float = 0.999) -> None:
        trained = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
        self._names, self._parameters = list(trained), list(trained.values())
        self._offsets, total = [], 0
        for parameter in self._parameters:
            self._offsets.append(total)
            total += -(-parameter.numel() // ALIGNMENT) * ALIGNMENT
        self.ema_decay = ema
        self.master = nn.Parameter(torch.zeros(total))
        self.master.grad = torch.zeros(total)
        self._weights, self._gradients = torch.zeros(total, dtype=dtype), torch.zeros(total, dtype=dtype)
        with torch.no_grad():
            for parameter, master in zip(self._parameters, self._views(self.master), strict=True):
                master.copy_(parameter)
        self._weights.copy_(self.master.detach())
        for parameter, weight, gradient in zip(
            self._parameters, self._views(self._weights), self._views(self._gradients), strict=True
        ):
            parameter.data, parameter.grad = weight, gradient
        self.average = self.master.detach().clone()
        self.steps = 0
        self._optimiser = torch.optim.AdamW([self.master], lr=lr, betas=(0.9, 0.99), weight_decay=0.0, fused=True)

    def _views(self, vector: Tensor) -> list[Tensor]:
        return [
            vector[offset : offset + parameter.numel()].view(parameter.shape)
            for offset, parameter in zip(self._offsets, self._parameters, strict=True)
        ]

    @torch.no_grad()
    def step(self, lr: float, clip: float = 1.0) -> float:
        """Apply the team's mean of the gradients that backward computed, and clear them; return the norm before clipping."""
        gradient = self.master.grad
        assert gradient is not None
        gradient.copy_(self._gradients)
        team.average(gradient)
        norm = float(gradient.norm())
        if norm > clip:
            gradient.mul_(clip / norm)
        self._optimiser.param_groups[0]["lr"] = lr
        self._optimiser.step()
        self._gradients.zero_()
        self._weights.copy_(self.master.detach())
        self.steps += 1
        self.average.lerp_(self.master.detach(), 1 - min(self.ema_decay, (1 + self.steps) / (10 + self.steps)))
        return norm

    @torch.no_grad()
    def write_average(self, module: nn.Module) -> None:
        """Copy the moving average into a copy of the module, of any dtype."""
        targets = dict(module.named_parameters())
        for name, value in zip(self._names, self._views(self.average), strict=True):
            targets[name].copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """The state from which a run can continue."""
        return {
            "master": self.master.detach(),
            "average": self.average,
            "steps": self.steps,
            "optimiser": self._optimiser.state_dict(),
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the result of `state_dict`."""
        self.master.copy_(state["master"])
        self.average.copy_(state["average"])
        self._weights.copy_(self.master.detach())
        self.steps = state["steps"]
        self._optimiser.load_state_dict(state["optimiser"])


def save_state(path: Path, weights: MasterWeights, budget: Budget) -> None:
    """Write the file that `resume` reads. The file is replaced atomically: a reader sees the old one or the new one."""
    partial = path.with_suffix(".partial")
    torch.save({"weights": weights.state_dict(), "spent": budget.elapsed}, partial)
    partial.replace(path)


def resume(path: Path, weights: MasterWeights, budget: Budget) -> None:
    """Continue a stage from the file of `save_state`, if there is one."""
    if path.exists():
        saved = torch.load(path, weights_only=True)
        weights.load_state_dict(saved["weights"])
        budget.spent = saved["spent"]
