"""The schedule tangent: evenly spaced in the angle between picture and noise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nodegraph import hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from nodegraph_diffusion.noise_schedule import NoiseSchedule


def schedule_tangent(noise_schedule: NoiseSchedule, steps: int, *, shift: float = 1.0) -> Tensor:
    """Levels evenly spaced in the angle phi = atan(sigma / shift), then 0: (steps + 1,) float32.

    Scaled to unit variance, a latent is cos(phi) * picture + sin(phi) * noise: sampling rotates it by a quarter circle (Salimans &
    Ho 2022, "Progressive Distillation", App. D; the time of TrigFlow, Lu & Song 2024), here by the same angle in each step. `shift`
    is the noise level in the middle of this rotation, about the deviation of the data. Above 1, more steps have much noise, which
    helps the content of a picture; below 1, more have little noise, which helps its texture; 1 is `kl_optimal`. Raises ValueError
    unless it is positive.
    """
    import torch

    if steps < 1:
        raise ValueError(f"schedule tangent: expected at least 1 step, found {steps}; 20 to 30 are usual")
    if not (shift > 0 and math.isfinite(shift)):
        raise ValueError(f"schedule tangent: expected shift above 0, found {shift}; 1 means no shift, 0.3 to 3 are usual")
    first, last = math.atan(noise_schedule.sigma_max / shift), math.atan(noise_schedule.sigma_min / shift)
    sigmas = shift * torch.tan(torch.linspace(first, last, steps, dtype=torch.float64))  # (steps,)
    return torch.cat([sigmas, torch.zeros(1)]).float()


@hookimpl
def register_schedules(register):
    register(
        "tangent",
        schedule_tangent,
        paper="Salimans & Ho 2022, arXiv:2202.00512; Lu & Song 2024, arXiv:2410.11081",
        ranges={"shift": (0.001, None)},
    )
