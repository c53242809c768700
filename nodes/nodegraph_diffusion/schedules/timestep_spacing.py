"""The timestep spacings of diffusers' schedulers (Lin et al. 2023, "Common Diffusion Noise Schedules ... Flawed", Table 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from nodegraph_diffusion.schedules.levels import append_zero, require_steps

if TYPE_CHECKING:
    from torch import Tensor

    from nodegraph_diffusion.noise_schedule import NoiseSchedule

Rule = Literal["euler", "dpm"]


def schedule_leading(noise_schedule: NoiseSchedule, steps: int, *, steps_offset: int = 1, rule: Rule = "euler") -> Tensor:
    """Levels of the first training step of each of `steps` equal parts, then 0.

    The configuration of Stable Diffusion 1 and 2. The training steps are k (T // steps) + steps_offset, so the largest level is
    left out. `steps_offset` is 1 in Stable Diffusion's configurations, 0 by default in diffusers. `rule`: euler is for diffusers'
    Euler, Heun, DDIM, PNDM, ...; dpm is for its DPMSolverMultistep, UniPC, DEIS, ..., which make one more part and leave out its
    first step. Raises ValueError if a training step would be beyond the last one.
    """
    import torch

    require_steps(steps)
    if steps_offset < 0:
        raise ValueError(f"schedule leading: expected steps_offset of at least 0, found {steps_offset}; Stable Diffusion has 1")
    extra = int(rule == "dpm")
    stride = noise_schedule.steps // (steps + extra)
    visited = torch.arange(extra, steps + extra) * stride + steps_offset
    if stride < 1 or visited[-1] > noise_schedule.steps - 1:
        raise ValueError(
            f"schedule leading: expected steps that fit into {noise_schedule.steps} training steps with steps_offset "
            f"{steps_offset}, found {steps}; use fewer steps"
        )
    return append_zero(noise_schedule.sigmas()[visited.flip(0)])


def schedule_trailing(noise_schedule: NoiseSchedule, steps: int) -> Tensor:
    """Levels of the last training step of each of `steps` equal parts, then 0.

    Recommended by Lin et al. 2023. Training steps round(T - k T / steps) - 1; a half is rounded to the even number. Raises
    ValueError if there are more steps than training steps.
    """
    import numpy as np
    import torch

    require_steps(steps)
    if steps > noise_schedule.steps:
        raise ValueError(
            f"schedule trailing: expected at most {noise_schedule.steps} steps, one per trained noise level, "
            f"found {steps}; use fewer"
        )
    ends = np.arange(noise_schedule.steps, 0, -noise_schedule.steps / steps)[
        :steps
    ]  # its own rounding decides how a half is rounded
    return append_zero(noise_schedule.sigmas()[torch.from_numpy(ends.round() - 1).long()])


def schedule_linspace(noise_schedule: NoiseSchedule, steps: int, *, rule: Rule = "euler") -> Tensor:
    """Levels of evenly spaced training steps, linear in sigma between, then 0.

    Like normal, except between two training steps. A run of one step starts at the last training step. `rule`: euler is for
    diffusers' EulerDiscrete, HeunDiscrete, ...; dpm is for its DPMSolverMultistep, UniPC, DEIS, ..., which round to whole training
    steps, and take one more and leave out the first. Raises ValueError if two training steps are rounded to the same one.
    """
    import numpy as np
    import torch

    require_steps(steps)
    last = noise_schedule.steps - 1
    if rule == "dpm":
        if steps > last:
            raise ValueError(
                f"schedule linspace: expected at most {last} steps with rule dpm, all training steps except the first, "
                f"found {steps}; use fewer"
            )
        visited = np.linspace(0, last, steps + 1).round()[:0:-1]
    else:
        visited = np.linspace(last, 0, steps)
    levels = np.interp(visited, np.arange(noise_schedule.steps), noise_schedule.sigmas().double().numpy())
    return append_zero(torch.from_numpy(levels))
