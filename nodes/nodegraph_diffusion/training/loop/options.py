"""How to train: the options of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from nodegraph_diffusion.training.budget import cosine
from nodegraph_diffusion.training.loop.precision import Precision

Schedule = Literal["cosine", "constant"]
Optimiser = Literal["adamw", "muon"]

_MAY_CHANGE = ("steps", "save_every", "log_every", "samples_every", "compile", "recompute")


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """The options of a run of `steps` optimiser steps, each on `accumulation` batches of `batch` examples.

    - `learning_rate`: the highest; `schedule` "cosine" falls to `floor` times that, "constant" stays. Both first rise for
      `warm_up` steps.
    - `optimiser`: "adamw", or "muon" for the weights of linear layers and convolutions (see `Muon`), with AdamW for all others.
    - `weight_decay`, and `clip`: the largest norm of the gradient of each network (None: any).
    - `average`: the largest decay of the moving average of the weights (None: there is no average).
    - `precision`: see `Precision`. `compile`: networks run through torch.compile. `recompute`: the backward pass computes the
      activations inside blocks again (Chen et al. 2016), which takes a third more time and needs far less memory.
    - `seed`: all that is random follows from it and from the number of the step.
    - `save_every`, `log_every`, `samples_every`: after how many steps (None: no samples).

    Raises ValueError for a number outside its range.
    """

    steps: int
    batch: int = 16
    accumulation: int = 1
    optimiser: Optimiser = "adamw"
    learning_rate: float = 1e-4
    schedule: Schedule = "cosine"
    warm_up: int = 0
    floor: float = 0.0
    weight_decay: float = 0.01
    clip: float | None = 1.0
    average: float | None = 0.999
    precision: Precision = "float32"
    compile: bool = False
    recompute: bool = False
    seed: int = 0
    save_every: int = 500
    log_every: int = 50
    samples_every: int | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulation", "save_every", "log_every", "samples_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"training: expected {name} of at least 1, found {value}")
        if self.optimiser not in ("adamw", "muon"):
            raise ValueError(f"training: expected optimiser adamw or muon, found {self.optimiser!r}")
        if not self.learning_rate > 0:
            raise ValueError(f"training: expected a learning_rate above 0, found {self.learning_rate}")
        if not 0 <= self.warm_up < self.steps:
            raise ValueError(f"training: expected a warm_up of 0 to {self.steps - 1} steps, found {self.warm_up}")
        if self.average is not None and not 0 <= self.average < 1:
            raise ValueError(f"training: expected average from 0 to below 1, found {self.average}; for example 0.999")

    def rate(self, step: int, highest: float | None = None) -> float:
        """The learning rate of a step, counted from 0. `highest`: another highest rate, such as that of one network."""
        peak = self.learning_rate if highest is None else highest
        if self.schedule == "constant":
            return peak * min(1.0, (step + 1) / max(1, self.warm_up))
        return cosine(peak, (step + 1) / (self.steps + 1), warm_up=self.warm_up / (self.steps + 1), floor=self.floor)

    def fixed(self) -> dict[str, Any]:
        """The options that a run cannot change when it continues: they would change what the steps so far have meant."""
        return {name: value for name, value in asdict(self).items() if name not in _MAY_CHANGE}


def require_same(options: TrainingOptions, saved: Mapping[str, Any]) -> None:
    """Raise ValueError if a saved run had other options that cannot change."""
    for name, value in options.fixed().items():
        if name in saved and saved[name] != value:
            raise ValueError(
                f"training: the saved state was trained with {name} {saved[name]}, expected {name} {value}; "
                f"use {name} {saved[name]} to continue it, or train in another folder"
            )
