"""What is said of a sampler, or of a schedule, where it is registered."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from nodegraph_diffusion.sampling.interface import NoiseSource, OnStep, Sampler
    from nodegraph_diffusion.schedule import NoiseSchedule
    from nodegraph_diffusion.schedules.interface import Schedule

StepNoiseKind = Literal["independent", "brownian"]

_GIVEN = ("denoise", "x", "sigmas")
_GIVEN_BY_NAME = ("noise", "on_step")


class SamplerSpec:
    """A sampler, and what is declared of it; calling it calls the sampler.

    `stochastic`: it draws noise. `evaluations_per_step`: calls of `denoise` in a step, not counting a cheaper last one; None where
    it decides so itself. `order`: that of its convergence, where it is deterministic. `paper`: where it is described.
    `noise` is what it is given as `noise`: independent draws, or the increments of one Brownian path, so that a finer
    schedule samples the same path. `discard_penultimate`: its schedule is one of a step more, whose last level above 0 is left out,
    as ComfyUI does for it. `other_mask_noise`: with a mask, ComfyUI noises what is kept with the noise of the next seed; so does a
    run whose step noise is `comfyui`. `aliases`: other names that people know it by.
    Raises ValueError where the function cannot be called as a sampler is.
    """

    def __init__(
        self,
        function: Sampler,
        *,
        stochastic: bool = False,
        evaluations_per_step: int | None = 1,
        order: int | None = None,
        paper: str = "",
        noise: StepNoiseKind = "independent",
        discard_penultimate: bool = False,
        other_mask_noise: bool = False,
        aliases: tuple[str, ...] = (),
    ) -> None:
        require_callable_with(function, "sampler", _GIVEN, _GIVEN_BY_NAME)
        if noise not in ("independent", "brownian"):
            raise ValueError(f"expected noise 'independent' or 'brownian', found {noise!r}")
        self.function = function
        self.stochastic, self.evaluations_per_step, self.order = stochastic, evaluations_per_step, order
        self.paper, self.noise, self.aliases = paper, noise, aliases
        self.discard_penultimate, self.other_mask_noise = discard_penultimate, other_mask_noise
        functools.update_wrapper(self, function)

    def __call__(
        self, denoise: Any, x: Tensor, sigmas: Tensor, /, *, noise: NoiseSource, on_step: OnStep, **options: Any
    ) -> Tensor:
        return self.function(denoise, x, sigmas, noise=noise, on_step=on_step, **options)

    def said(self) -> dict[str, Any]:
        """What was declared of it, for a listing."""
        calls = {None: "as many as it needs", 1: "1"}.get(self.evaluations_per_step, str(self.evaluations_per_step))
        said = {"stochastic": "yes" if self.stochastic else "no", "evaluations per step": calls}
        if self.order is not None:
            said["order"] = str(self.order)
        if self.noise != "independent" and self.stochastic:
            said["noise"] = "a Brownian path"
        if self.paper:
            said["paper"] = self.paper
        return said


class ScheduleSpec:
    """A sampling schedule, and what is declared of it; calling it calls the schedule.

    `paper`: where it is described. `aliases`: other names that people know it by. Raises ValueError where the function cannot be
    called as a schedule is.
    """

    def __init__(self, function: Schedule, *, paper: str = "", aliases: tuple[str, ...] = ()) -> None:
        require_callable_with(function, "schedule", ("noise_schedule", "steps"))
        self.function, self.paper, self.aliases = function, paper, aliases
        functools.update_wrapper(self, function)

    def __call__(self, schedule: NoiseSchedule, steps: int, /, **options: Any) -> Tensor:
        return self.function(schedule, steps, **options)

    def said(self) -> dict[str, Any]:
        """What was declared of it, for a listing."""
        return {"paper": self.paper} if self.paper else {}


def require_callable_with(function: Any, what: str, given: tuple[str, ...], by_name: tuple[str, ...] = ()) -> None:
    """Raise ValueError unless `function` can be called with these arguments, and what else it takes has defaults."""
    form = f"{what}({', '.join(given)}{', *, ' if by_name else ''}{', '.join(by_name)}, **options)"
    if not callable(function):
        raise ValueError(f"expected a function {form}, found {type(function).__name__}")
    try:
        inspect.signature(function).bind(*given, **dict.fromkeys(by_name))
    except (TypeError, ValueError) as error:
        found = f"{getattr(function, '__name__', function)}{_signature(function)}"
        raise ValueError(
            f"expected a function {form}, whose options are keyword-only with defaults, found {found}: {error}"
        ) from error


def _signature(function: Callable[..., Any]) -> str:
    try:
        return str(inspect.signature(function))
    except (TypeError, ValueError):
        return "(...)"
