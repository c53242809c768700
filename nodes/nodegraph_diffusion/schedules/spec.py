"""A sampling schedule, and one with its registered description."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from nodegraph_diffusion.options import Range, checked_ranges, name_of, require_callable_with

if TYPE_CHECKING:
    from torch import Tensor

    from nodegraph_diffusion.noise_schedule import NoiseSchedule


class Schedule(Protocol):
    """A sampling schedule: the noise levels of a run of `steps` steps.

    Returns (steps + 1,) float32 on the CPU, strictly decreasing, the last one 0. Some schedules that copy another program's return
    more or fewer. Options are keyword-only with defaults.
    """

    def __call__(self, noise_schedule: NoiseSchedule, steps: int, /) -> Tensor: ...


class ScheduleSpec:
    """A sampling schedule and its description; calling it calls the schedule.

    `paper`: where it is described. `ranges`: the smallest and the largest value of number options; None means no limit.
    `aliases`: its other names. Raises ValueError if the function cannot be called as a schedule, or if it has no option of a
    range's name.
    """

    def __init__(
        self, function: Schedule, *, paper: str = "", ranges: Mapping[str, Range] | None = None, aliases: tuple[str, ...] = ()
    ) -> None:
        require_callable_with(function, "schedule", ("noise_schedule", "steps"))
        self.ranges = checked_ranges(function, ranges)
        self.function, self.paper, self.aliases = function, paper, aliases
        functools.update_wrapper(self, function)

    def __repr__(self) -> str:
        return f"<ScheduleSpec {name_of(self.function)}>"

    def __call__(self, noise_schedule: NoiseSchedule, steps: int, /, **options: Any) -> Tensor:
        return self.function(noise_schedule, steps, **options)

    def describe(self) -> dict[str, str]:
        """The description, for a listing."""
        return {"paper": self.paper} if self.paper else {}
