"""Training with a time limit: the progress of a stage, and the learning rate for it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from nodegraph_diffusion.training import team


@dataclass
class Budget:
    """A stage of training that ends after `seconds` of work, counted across resumed runs.

    So the number of steps depends on the machine; all other results depend only on the seed.
    """

    seconds: float
    spent: float = 0.0
    fraction: float = 0.0
    _started: float = field(default_factory=time.monotonic, repr=False)

    @property
    def elapsed(self) -> float:
        """The seconds spent so far, earlier runs included."""
        return self.spent + time.monotonic() - self._started

    def remains(self) -> bool:
        """Whether there is time for another step. Updates `fraction`, the progress in [0, 1], for the whole team."""
        self.fraction = min(1.0, team.agree(self.elapsed / self.seconds))
        return self.fraction < 1.0


def cosine(peak: float, fraction: float, warm_up: float = 0.01, floor: float = 0.02) -> float:
    """The learning rate at a fraction of a stage: a linear rise over `warm_up`, then half a cosine to `floor` of the peak."""
    if fraction < warm_up:
        return peak * max(fraction / warm_up, floor)
    progress = (fraction - warm_up) / (1 - warm_up)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))
