"""Training by the clock: how long a stage may take, how far it is, and the learning rate that follows from that."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from nodegraph_diffusion.training import team


@dataclass
class Budget:
    """A stage of training that ends after `seconds` of work, counted across resumed runs.

    What a machine manages in that time is what the stage reaches, so a run's steps depend on the machine, its other results
    on the seed alone.
    """

    seconds: float
    spent: float = 0.0
    fraction: float = 0.0
    _started: float = field(default_factory=time.monotonic, repr=False)

    @property
    def elapsed(self) -> float:
        """Seconds spent until now, earlier runs included."""
        return self.spent + time.monotonic() - self._started

    def left(self) -> bool:
        """Whether there is time for another step. Updates `fraction`, how far the stage is in [0, 1], for the whole team."""
        self.fraction = min(1.0, team.agree(self.elapsed / self.seconds))
        return self.fraction < 1.0


def cosine(peak: float, fraction: float, warm_up: float = 0.01, floor: float = 0.02) -> float:
    """The learning rate at a fraction of a stage: a linear rise over `warm_up`, then half a cosine to `floor` of the peak."""
    if fraction < warm_up:
        return peak * max(fraction / warm_up, floor)
    progress = (fraction - warm_up) / (1 - warm_up)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))
