"""Schedules over training steps, as ComfyUI chooses them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from nodegraph_diffusion.schedules.levels import append_zero, require_steps

if TYPE_CHECKING:
    from torch import Tensor

    from nodegraph_diffusion.noise_schedule import NoiseSchedule

_NO_NOISE = 1e-5  # a trained level up to this one counts as 0


def schedule_normal(noise_schedule: NoiseSchedule, steps: int) -> Tensor:
    """Levels of evenly spaced training steps, from the last to the first, then 0.

    If the level of the first training step is at most 1e-5, it counts as the 0 at the end, and the training steps are spaced as
    for one more step.
    """
    import torch

    require_steps(steps)
    clean = noise_schedule.sigma_min <= _NO_NOISE
    visited = torch.linspace(noise_schedule.steps - 1, 0, steps + clean)  # in float32, as ComfyUI's
    return append_zero(noise_schedule.sigma(visited[:steps]))


def schedule_sgm_uniform(noise_schedule: NoiseSchedule, steps: int) -> Tensor:
    """Levels of evenly spaced training steps, the first one left out, then 0.

    Like normal with one more step, without its last level. Stability's generative-models do this, and Turbo and Lightning models
    are made for it.
    """
    import torch

    require_steps(steps)
    return append_zero(noise_schedule.sigma(torch.linspace(noise_schedule.steps - 1, 0, steps + 1)[:-1]))


def schedule_simple(noise_schedule: NoiseSchedule, steps: int) -> Tensor:
    """Every (training steps / steps)-th trained level from the largest, then 0.

    Fractional training steps are rounded up. The smallest level is that of training step 1000 / steps, not of the first. Raises
    ValueError if there are more steps than trained levels.
    """
    import torch

    require_steps(steps)
    if steps > noise_schedule.steps:
        raise ValueError(
            f"schedule simple: expected at most {noise_schedule.steps} steps, one per trained noise level, found {steps}; "
            "use fewer steps, a strength nearer to 1, or the schedule normal"
        )
    stride = noise_schedule.steps / steps
    picks = torch.tensor([noise_schedule.steps - 1 - int(i * stride) for i in range(steps)])
    return append_zero(noise_schedule.sigmas()[picks])


def schedule_ddim_uniform(noise_schedule: NoiseSchedule, steps: int) -> Tensor:
    """Every k-th trained level from the second up, then 0 (Song et al. 2021).

    k is the training steps // steps. The largest level is rarely visited. There are more levels than `steps` if `steps` does not
    divide the training steps (30 steps of 1000 make 31), and fewer if it is larger than them. If the model's second level is at
    most 1e-5, it counts as the 0 at the end, and the stride is that of one more step.
    """
    require_steps(steps)
    sigmas = noise_schedule.sigmas()
    clean = float(sigmas[1]) <= _NO_NOISE
    picked = sigmas[1 :: max(noise_schedule.steps // (steps + clean), 1)]
    if clean and len(picked) > 1:
        picked = picked[1:]
    return append_zero(picked.flip(0))


def schedule_beta(
    noise_schedule: NoiseSchedule,
    steps: int,
    *,
    alpha: float = 0.6,
    beta: float = 0.6,
    spread: Literal["timestep", "sigma"] = "timestep",
) -> Tensor:
    """Levels at even quantiles of a beta distribution, then 0 (Lee et al. 2024).

    "Beta Sampling is All You Need".
    With alpha and beta below 1, most steps are at both ends. `spread`: over the training steps, rounded to whole ones, each counted
    once (ComfyUI), so that many steps give fewer levels; or over sigma itself, from the largest to the smallest (A1111, diffusers).
    Raises ValueError unless alpha and beta are positive.
    """
    require_steps(steps)
    if not (0 < alpha < math.inf and 0 < beta < math.inf):
        raise ValueError(f"schedule beta: expected alpha and beta above 0, found {alpha} and {beta}; both are usually 0.6")
    import numpy as np
    import torch
    from scipy import stats

    by_sigma = spread == "sigma"
    quantiles = stats.beta.ppf(1 - np.linspace(0, 1, steps, endpoint=by_sigma), alpha, beta)
    if by_sigma:
        return append_zero(
            torch.from_numpy(noise_schedule.sigma_min + quantiles * (noise_schedule.sigma_max - noise_schedule.sigma_min))
        )
    return append_zero(noise_schedule.sigmas()[torch.from_numpy(np.rint(quantiles * (noise_schedule.steps - 1))).long()])


def schedule_turbo(noise_schedule: NoiseSchedule, steps: int, *, denoise: float = 1.0) -> Tensor:
    """Levels of the training steps 999, 899, ..., then 0 (Sauer et al. 2023).

    The first `steps` of these ten levels, which SD Turbo and SDXL Turbo were distilled for. A `denoise` below 1 leaves out the
    first 10 - int(10 denoise) of the ten. Raises ValueError if fewer than `steps` remain, or denoise is outside (0, 1].
    """
    import torch

    require_steps(steps)
    if not 0 < denoise <= 1 or noise_schedule.steps < 10:
        raise ValueError(
            f"schedule turbo: expected denoise above 0 and at most 1, and a model of 10 training steps or more, "
            f"found {denoise} and {noise_schedule.steps}; 1 denoises from pure noise"
        )
    remaining = int(10 * denoise)
    if steps > remaining:
        raise ValueError(
            f"schedule turbo: expected at most {remaining} of 10 steps with denoise {denoise}, found {steps}; "
            "use another schedule for models that were not distilled"
        )
    visited = torch.tensor([k * noise_schedule.steps // 10 - 1 for k in range(remaining, remaining - steps, -1)])
    return append_zero(noise_schedule.sigmas()[visited])
