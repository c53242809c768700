"""Sampling schedules: functions from a model's noise schedule and a number of steps to the noise levels of a run."""

from __future__ import annotations

from typing import Final

from nodegraph_diffusion.options import Range
from nodegraph_diffusion.schedules.align_your_steps import schedule_align_your_steps
from nodegraph_diffusion.schedules.continuous import (
    schedule_exponential,
    schedule_karras,
    schedule_kl_optimal,
    schedule_laplace,
    schedule_linear_quadratic,
    schedule_polyexponential,
    schedule_vp,
)
from nodegraph_diffusion.schedules.levels import explicit_sigmas, flip_sigmas, split_sigmas
from nodegraph_diffusion.schedules.spec import Schedule, ScheduleSpec
from nodegraph_diffusion.schedules.timestep_spacing import schedule_leading, schedule_linspace, schedule_trailing
from nodegraph_diffusion.schedules.timesteps import (
    schedule_beta,
    schedule_ddim_uniform,
    schedule_normal,
    schedule_sgm_uniform,
    schedule_simple,
    schedule_turbo,
)

POSITIVE: Final[Range] = (1e-3, None)
"""The range of an option that must be above 0."""

_ALIGN = "Sabour et al. 2024, arXiv:2404.14507"
_FLAWED = "Lin et al. 2023, arXiv:2305.08891"
_KARRAS = "Karras et al. 2022, arXiv:2206.00364"

SCHEDULES: dict[str, ScheduleSpec] = {
    "align_your_steps": ScheduleSpec(
        schedule_align_your_steps, paper=_ALIGN, aliases=("Align Your Steps", "AlignYourStepsScheduler", "AYS")
    ),
    "beta": ScheduleSpec(
        schedule_beta,
        paper="Lee et al. 2024, arXiv:2407.12173",
        ranges={"alpha": POSITIVE, "beta": POSITIVE},
        aliases=("Beta", "BetaSamplingScheduler", "use_beta_sigmas"),
    ),
    "ddim_uniform": ScheduleSpec(schedule_ddim_uniform, paper="Song et al. 2021, arXiv:2010.02502", aliases=("DDIM",)),
    "exponential": ScheduleSpec(schedule_exponential, aliases=("Exponential", "ExponentialScheduler", "use_exponential_sigmas")),
    "karras": ScheduleSpec(
        schedule_karras, paper=_KARRAS, ranges={"rho": (0.1, None)}, aliases=("Karras", "KarrasScheduler", "use_karras_sigmas")
    ),
    "kl_optimal": ScheduleSpec(schedule_kl_optimal, paper=_ALIGN, aliases=("KL Optimal",)),
    "laplace": ScheduleSpec(
        schedule_laplace,
        paper="Hang et al. 2024, arXiv:2407.03297",
        ranges={"beta": POSITIVE},
        aliases=("Laplace", "LaplaceScheduler"),
    ),
    "leading": ScheduleSpec(schedule_leading, paper=_FLAWED, ranges={"steps_offset": (0, None)}),
    "linear_quadratic": ScheduleSpec(
        schedule_linear_quadratic,
        ranges={"threshold_noise": (1e-6, 0.999999), "linear_steps": (1, None)},
        aliases=("Linear Quadratic",),
    ),
    "linspace": ScheduleSpec(schedule_linspace, paper=_FLAWED),
    "normal": ScheduleSpec(schedule_normal, aliases=("Normal", "Automatic", "Uniform")),
    "polyexponential": ScheduleSpec(
        schedule_polyexponential, ranges={"rho": POSITIVE}, aliases=("Polyexponential", "PolyexponentialScheduler")
    ),
    "sgm_uniform": ScheduleSpec(schedule_sgm_uniform, aliases=("SGM Uniform",)),
    "simple": ScheduleSpec(schedule_simple, aliases=("Simple",)),
    "trailing": ScheduleSpec(schedule_trailing, paper=_FLAWED),
    "turbo": ScheduleSpec(
        schedule_turbo,
        paper="Sauer et al. 2023, arXiv:2311.17042",
        ranges={"denoise": (0.1, 1.0)},
        aliases=("Turbo", "SDTurboScheduler"),
    ),
    "vp": ScheduleSpec(
        schedule_vp,
        paper="Song et al. 2021, arXiv:2011.13456",
        ranges={"beta_d": (0.0, None), "beta_min": (0.0, None), "eps_s": (1e-9, 0.999999)},
        aliases=("VP", "VPScheduler"),
    ),
}

__all__ = [
    "SCHEDULES",
    "Schedule",
    "ScheduleSpec",
    "explicit_sigmas",
    "flip_sigmas",
    "split_sigmas",
]
