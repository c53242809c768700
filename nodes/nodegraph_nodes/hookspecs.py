"""The hooks that this pack adds to nodegraph's."""

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
    """Offer samplers: `register("heun", sample_heun)`, a function `sample(denoise, x, sigmas, *, noise, on_step, **options)`."""


@hookspec
def register_schedules(register: Callable[[str, Schedule], None]) -> None:
    """Offer schedules: `register("karras", schedule_karras)`, a function `schedule(noise_schedule, steps, **options)`."""


@hookspec
def register_guidance(register: Callable[[str, Guidance], None]) -> None:
    """Offer guidance: `register("rescale", guidance_rescale)`, a function `guidance(denoiser, **options)` to another denoiser."""
