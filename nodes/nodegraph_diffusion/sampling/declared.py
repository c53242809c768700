"""What is said of a sampler, or of a schedule, where it is registered."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from nodegraph_diffusion.sampling.options import Range, options_of

if TYPE_CHECKING:
    from torch import Tensor

    from nodegraph_diffusion.denoising.noise_schedule import NoiseSchedule
    from nodegraph_diffusion.sampling.protocols import NoiseSource, OnStep, Sampler
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
    run whose step noise is `comfyui`. `aliases`: other names that people know it by. `measured` is the order that was found on a
    problem with a known answer, where somebody measured it (see `nodegraph_diffusion.testing`). `ranges`: the least and the largest
    value of options that are numbers, None where there is none.
    Raises ValueError where the function cannot be called as a sampler is, or has no option that a range is for, and where
    what is declared is none.
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
        ranges: Mapping[str, Range] | None = None,
        aliases: tuple[str, ...] = (),
    ) -> None:
        require_callable_with(function, "sampler", _GIVEN, _GIVEN_BY_NAME)
        if noise not in ("independent", "brownian"):
            raise ValueError(f"expected noise 'independent' or 'brownian', found {noise!r}")
        for what, count in (("evaluations_per_step", evaluations_per_step), ("order", order)):
            if count is not None and (type(count) is not int or count < 1):
                raise ValueError(f"expected {what} to be a whole number of at least 1, or None, found {count!r}")
        self.ranges = known_ranges(function, ranges)
        self.function = function
        self.stochastic, self.evaluations_per_step, self.order = stochastic, evaluations_per_step, order
        self.paper, self.noise, self.aliases = paper, noise, aliases
        self.discard_penultimate, self.other_mask_noise = discard_penultimate, other_mask_noise
        self.measured: float | None = None
        functools.update_wrapper(self, function)

    def __call__(
        self, denoise: Any, x: Tensor, sigmas: Tensor, /, *, noise: NoiseSource, on_step: OnStep, **options: Any
    ) -> Tensor:
        return self.function(denoise, x, sigmas, noise=noise, on_step=on_step, **options)

    def describe(self) -> dict[str, Any]:
        """What was declared of it, for a listing."""
        calls = {None: "as many as it needs", 1: "1"}.get(self.evaluations_per_step, str(self.evaluations_per_step))
        said = {"stochastic": "yes" if self.stochastic else "no", "evaluations per step": calls}
        order = [str(self.order)] if self.order is not None else []
        order += [f"measured {self.measured:.2f}"] if self.measured is not None else []
        if order:
            said["order"] = ", ".join(order)
        if self.noise != "independent" and self.stochastic:
            said["noise"] = "a Brownian path"
        if self.paper:
            said["paper"] = self.paper
        return said


class ScheduleSpec:
    """A sampling schedule, and what is declared of it; calling it calls the schedule.

    `paper`: where it is described. `ranges`: the least and the largest value of options that are numbers, None where there is none.
    `aliases`: other names that people know it by. Raises ValueError where the function cannot be called as a schedule is, or
    has no option that a range is for.
    """

    def __init__(
        self, function: Schedule, *, paper: str = "", ranges: Mapping[str, Range] | None = None, aliases: tuple[str, ...] = ()
    ) -> None:
        require_callable_with(function, "schedule", ("noise_schedule", "steps"))
        self.ranges = known_ranges(function, ranges)
        self.function, self.paper, self.aliases = function, paper, aliases
        functools.update_wrapper(self, function)

    def __call__(self, schedule: NoiseSchedule, steps: int, /, **options: Any) -> Tensor:
        return self.function(schedule, steps, **options)

    def describe(self) -> dict[str, Any]:
        """What was declared of it, for a listing."""
        return {"paper": self.paper} if self.paper else {}


def known_ranges(function: Callable[..., Any], ranges: Mapping[str, Range] | None) -> dict[str, Range]:
    """`ranges` as they are. Raises ValueError where one is for an option that `function` does not have."""
    known = options_of(function)
    for option in ranges or {}:
        if option not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise ValueError(f"expected ranges of options, found one for {option!r}; {has}")
    return dict(ranges or {})


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
