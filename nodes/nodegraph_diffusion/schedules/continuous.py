"""Schedules that are a curve from the largest noise level to the smallest, independent of the training steps between them.

Those of k-diffusion are computed in float32 and in the same order of operations, so that every bit is the same: the noise of a
Brownian path depends on the last bit of a level.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nodegraph_diffusion.schedules.levels import append_zero, require_steps

if TYPE_CHECKING:
    from torch import Tensor

    from nodegraph_diffusion.noise_schedule import NoiseSchedule


def schedule_karras(noise_schedule: NoiseSchedule, steps: int, *, rho: float = 7.0) -> Tensor:
    """Levels evenly spaced in sigma^(1 / rho), then 0 (Karras et al. 2022, Eq. 5).

    A larger `rho` spends more steps on low noise. Raises ValueError unless rho is positive.
    """
    require_steps(steps)
    if not 0 < rho < math.inf:
        raise ValueError(f"schedule karras: expected rho above 0, found {rho}; 7 is the paper's value")
    import torch

    largest, smallest = torch.tensor([noise_schedule.sigma_max, noise_schedule.sigma_min], dtype=torch.float64) ** (1 / rho)
    return append_zero((float(largest) + torch.linspace(0, 1, steps) * float(smallest - largest)) ** rho)


def schedule_exponential(noise_schedule: NoiseSchedule, steps: int) -> Tensor:
    """Levels evenly spaced in their logarithm, then 0 (k-diffusion)."""
    import torch

    require_steps(steps)
    return append_zero(torch.linspace(math.log(noise_schedule.sigma_max), math.log(noise_schedule.sigma_min), steps).exp())


def schedule_polyexponential(noise_schedule: NoiseSchedule, steps: int, *, rho: float = 1.0) -> Tensor:
    """Levels whose logarithm is a ramp to the power `rho`, then 0 (k-diffusion).

    log sigma = log sigma_min + r^rho (log sigma_max - log sigma_min) for r from 1 to 0. A larger `rho` spends more steps
    on low noise; 1 is the schedule exponential. Raises ValueError unless rho is positive.
    """
    import torch

    require_steps(steps)
    if not 0 < rho < math.inf:
        raise ValueError(f"schedule polyexponential: expected rho above 0, found {rho}; 1 is the schedule exponential")
    largest, smallest = math.log(noise_schedule.sigma_max), math.log(noise_schedule.sigma_min)
    return append_zero((torch.linspace(1, 0, steps) ** rho * (largest - smallest) + smallest).exp())


def schedule_laplace(noise_schedule: NoiseSchedule, steps: int, *, mu: float = 0.0, beta: float = 0.5) -> Tensor:
    """Levels at even quantiles of a Laplace distribution of log sigma, then 0.

    Hang et al. 2024, Table 1.
    log sigma = mu - beta sign(1/2 - x) log(1 - 2 |1/2 - x| + 1e-5) for x from 0 to 1, clamped to the smallest and the largest
    level; equal levels count once. `beta` is the width: with a small one, nearly all steps are near e^mu. In float32, as ComfyUI
    computes it; ComfyUI's list has no 0. Raises ValueError unless mu is finite and beta positive.
    """
    require_steps(steps)
    if not math.isfinite(mu) or not 0 < beta < math.inf:
        raise ValueError(f"schedule laplace: expected a finite mu and beta above 0, found {mu} and {beta}; 0 and 0.5 are usual")
    import torch

    offset = 0.5 - torch.linspace(0, 1, steps)
    log_sigma = mu - beta * offset.sign() * (1 - 2 * offset.abs() + 1e-5).log()
    return append_zero(log_sigma.exp().clamp(noise_schedule.sigma_min, noise_schedule.sigma_max))


def schedule_kl_optimal(noise_schedule: NoiseSchedule, steps: int) -> Tensor:
    """Levels evenly spaced in their arc tangent, then 0 (Sabour et al. 2024).

    "Align Your Steps": it has the lowest KL divergence if the data is one Gaussian of unit variance. In float32, as ComfyUI
    computes it; if a model's last training step has no signal, the rounding changes the fourth digit of the largest level.
    """
    require_steps(steps)
    import torch

    fraction = torch.arange(steps, dtype=torch.float32) / max(steps - 1, 1)
    return append_zero(
        (fraction * math.atan(noise_schedule.sigma_min) + (1 - fraction) * math.atan(noise_schedule.sigma_max)).tan()
    )


def schedule_linear_quadratic(
    noise_schedule: NoiseSchedule, steps: int, *, threshold_noise: float = 0.025, linear_steps: int | None = None
) -> Tensor:
    """Small equal steps down from the largest level, then ever larger ones to 0.

    Mochi 1, Genmo 2024; in float32.
    In fractions of the largest level: the `linear_steps` equal steps remove `threshold_noise` together, and a parabola that
    continues their slope removes the rest. By default, half of the steps are linear. Raises ValueError for a threshold outside (0,
    1), if no step or every step is linear, and if the linear steps are so large that the parabola would have to turn back.
    """
    require_steps(steps)
    if steps == 1:
        return _scaled([1.0], noise_schedule)
    linear = steps // 2 if linear_steps is None else linear_steps
    if not 0 < threshold_noise < 1:
        raise ValueError(
            f"schedule linear_quadratic: expected threshold_noise between 0 and 1, found {threshold_noise}; 0.025 is usual"
        )
    if not 1 <= linear < steps:
        raise ValueError(
            f"schedule linear_quadratic: expected linear_steps between 1 and {steps - 1} for {steps} steps, found {linear}; "
            "leave it out to make half of them linear"
        )
    slope, bent = threshold_noise / linear, steps - linear
    curvature = (1 - threshold_noise - slope * bent) / bent**2
    bound = linear * (2 * bent - 1) / (steps * (2 * bent - 1) - bent**2)  # from here on, the last step would be empty
    if threshold_noise >= bound:
        raise ValueError(
            f"schedule linear_quadratic: expected a threshold_noise below {bound:.3g} for {linear} linear "
            f"steps of {steps}, found {threshold_noise}; 0.025 is usual"
        )
    removed = [i * slope + (curvature * (i - linear) ** 2 if i > linear else 0.0) for i in range(steps)]
    return _scaled([1 - fraction for fraction in removed], noise_schedule)


def schedule_vp(
    noise_schedule: NoiseSchedule, steps: int, *, beta_d: float = 19.9, beta_min: float = 0.1, eps_s: float = 1e-3
) -> Tensor:
    """Levels of the continuous variance-preserving process, then 0.

    Song et al. 2021.
    Karras et al. 2022, Table 1: sigma(t) = sqrt(exp(beta_d t^2 / 2 + beta_min t) - 1) for t evenly spaced from 1 to `eps_s`.
    These are the levels of the process, 152 to 0.0105 by default, not those of the model; a denoiser treats a level outside its
    trained range as the nearest one inside. Raises ValueError if a number is out of range or the levels are not finite in float32.
    """
    require_steps(steps)
    if not (beta_d >= 0 and beta_min >= 0 and 0 < beta_d + beta_min < math.inf and 0 < eps_s < 1):
        raise ValueError(
            "schedule vp: expected beta_d and beta_min of at least 0, not both 0, and eps_s between 0 and 1, "
            f"found {beta_d}, {beta_min} and {eps_s}; 19.9, 0.1 and 0.001 are usual"
        )
    import torch

    t = torch.linspace(1, eps_s, steps, dtype=torch.float64)
    return append_zero((beta_d * t**2 / 2 + beta_min * t).expm1().sqrt())


def _scaled(fractions: list[float], noise_schedule: NoiseSchedule) -> Tensor:
    import torch

    return append_zero(torch.tensor(fractions, dtype=torch.float32) * noise_schedule.sigma_max)
