"""Which training steps a batch is trained at."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class StepSampler(Protocol):
    """Draws training steps, and the weights that keep the mean loss the same as with evenly drawn steps."""

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Steps (count,) int64 and weights (count,) float64."""
        ...

    def learn(self, steps: Tensor, losses: Tensor) -> None:
        """Take note of the loss at each of the steps drawn."""
        ...


class EvenSteps:
    """Every step is equally likely."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Steps (count,) int64 and weights of 1."""
        return torch.randint(self._steps, (count,), generator=generator), torch.ones(count, dtype=torch.float64)

    def learn(self, steps: Tensor, losses: Tensor) -> None:
        """Nothing to learn."""


class ImportanceSteps:
    """A step is as likely as the root of the mean square of its last `history` losses (Nichol & Dhariwal 2021, eq. 18).

    Until each step has that many losses, all are equally likely. So that no step is left out, a share `even` is drawn evenly.
    """

    def __init__(self, steps: int, *, history: int = 10, even: float = 0.001) -> None:
        self._losses = torch.zeros(steps, history, dtype=torch.float64)
        self._counts = torch.zeros(steps, dtype=torch.int64)
        self._even = even

    def probabilities(self) -> Tensor:
        """The probability of each step, (steps,) float64."""
        steps, history = self._losses.shape
        roots = self._losses.square().mean(1).sqrt()
        if bool((self._counts < history).any()) or not float(roots.sum()) > 0:
            return torch.full((steps,), 1 / steps, dtype=torch.float64)
        return (1 - self._even) * roots / roots.sum() + self._even / steps

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Steps (count,) int64, and weights 1 / (probability * steps), (count,) float64."""
        probabilities = self.probabilities()
        steps = torch.multinomial(probabilities, count, replacement=True, generator=generator)
        return steps, 1 / (probabilities[steps] * len(probabilities))

    def learn(self, steps: Tensor, losses: Tensor) -> None:
        """Remember the last losses of each step. `losses` are unweighted, (count,)."""
        for step, loss in zip(steps.tolist(), losses.detach().double().tolist(), strict=True):
            self._losses[step, int(self._counts[step]) % self._losses.shape[1]] = loss
            self._counts[step] += 1

    def state_dict(self) -> dict[str, Tensor]:
        """The state from which training can continue."""
        return {"losses": self._losses, "counts": self._counts}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from the result of `state_dict`."""
        self._losses.copy_(state["losses"])
        self._counts.copy_(state["counts"])
