"""The hooks that this pack adds to those of nodegraph."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nodegraph import hookspec

if TYPE_CHECKING:
    from nodegraph_diffusion.guidance import Guidance
    from nodegraph_diffusion.sampling import Sampler
    from nodegraph_diffusion.schedules import Schedule


@hookspec
def register_samplers(register: Callable[[str, Sampler], None]) -> None:
    """Add samplers: call `register("heun", sample_heun)`.

    A sampler is a function `sample(denoise, x, sigmas, *, noise, on_step, **options)`.
    """


@hookspec
def register_schedules(register: Callable[[str, Schedule], None]) -> None:
    """Add schedules: call `register("karras", schedule_karras)`.

    A schedule is a function `schedule(noise_schedule, steps, **options)`.
    """


@hookspec
def register_guidance(register: Callable[[str, Guidance], None]) -> None:
    """Add guidance: call `register("rescale", guidance_rescale)`.

    Guidance is a function `guidance(denoiser, **options)` that returns another denoiser.
    """
