"""What a sampling schedule is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from nodegraph_diffusion.denoising.noise_schedule import NoiseSchedule


class Schedule(Protocol):
    """A sampling schedule: the noise levels to visit in `steps` steps.

    Gives (steps + 1,) float32 on the CPU, strictly decreasing, the last one 0; some that are made as another program makes them
    give more or fewer. Options are keyword-only with defaults.
    """

    def __call__(self, schedule: NoiseSchedule, steps: int, /) -> Tensor: ...
