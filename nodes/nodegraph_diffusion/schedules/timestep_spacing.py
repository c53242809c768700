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

    What Stable Diffusion 1 and 2 are configured for. Training steps k (T // steps) + steps_offset: the largest level is not
    visited. `steps_offset` is 1 in Stable Diffusion's configurations, 0 for diffusers by itself. `rule`: euler is diffusers' Euler,
    Heun, DDIM, PNDM, ...; dpm is its DPMSolverMultistep, UniPC, DEIS, ..., which make one part more and leave out its first step.
    Raises ValueError where that leads beyond the last training step.
    """
    import torch

    require_steps(steps)
    if steps_offset < 0:
        raise ValueError(f"schedule leading: expected steps_offset of at least 0, found {steps_offset}; Stable Diffusion has 1")
    spare = int(rule == "dpm")
    stride = noise_schedule.steps // (steps + spare)
    visited = torch.arange(spare, steps + spare) * stride + steps_offset
    if stride < 1 or visited[-1] > noise_schedule.steps - 1:
        raise ValueError(
            f"schedule leading: expected steps that fit into {noise_schedule.steps} training steps with steps_offset "
            f"{steps_offset}, found {steps}; take fewer steps"
        )
    return append_zero(noise_schedule.sigmas()[visited.flip(0)])


def schedule_trailing(noise_schedule: NoiseSchedule, steps: int) -> Tensor:
    """Levels of the last training step of each of `steps` equal parts, then 0.

    What Lin et al. 2023 recommend. Training steps round(T - k T / steps) - 1, a half rounded to an even number. Raises ValueError
    when there are more steps than training steps.
    """
    import numpy as np
    import torch

    require_steps(steps)
    if steps > noise_schedule.steps:
        raise ValueError(
            f"schedule trailing: expected at most {noise_schedule.steps} steps, one per trained noise level, "
            f"found {steps}; take fewer"
        )
    ends = np.arange(noise_schedule.steps, 0, -noise_schedule.steps / steps)[
        :steps
    ]  # its own rounding decides how a half is rounded
    return append_zero(noise_schedule.sigmas()[torch.from_numpy(ends.round() - 1).long()])


def schedule_linspace(noise_schedule: NoiseSchedule, steps: int, *, rule: Rule = "euler") -> Tensor:
    """Levels of evenly spaced training steps, linear in sigma between, then 0.

    As normal, but for what is between two training steps. A single step starts from the last one. `rule`: euler is diffusers'
    EulerDiscrete, HeunDiscrete, ...; dpm is its DPMSolverMultistep, UniPC, DEIS, ..., which round to whole training steps, and take
    one more of which they leave out the first. Raises ValueError where rounding makes two of them one.
    """
    import numpy as np
    import torch

    require_steps(steps)
    last = noise_schedule.steps - 1
    if rule == "dpm":
        if steps > last:
            raise ValueError(
                f"schedule linspace: expected at most {last} steps with rule dpm, training steps but the first, found {steps}; "
                "take fewer"
            )
        visited = np.linspace(0, last, steps + 1).round()[:0:-1]
    else:
        visited = np.linspace(last, 0, steps)
    levels = np.interp(visited, np.arange(noise_schedule.steps), noise_schedule.sigmas().double().numpy())
    return append_zero(torch.from_numpy(levels))
