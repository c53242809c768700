"""A guidance, and one with its registered description."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from nodegraph_diffusion.options import (
    Range,
    check_options,
    check_ranges,
    checked_ranges,
    name_of,
    options_of,
    require_callable_with,
)

if TYPE_CHECKING:
    from nodegraph_diffusion.denoising import GuidedDenoiser


class Guidance(Protocol):
    """A function from a guided denoiser to another one. Options are keyword-only with types and defaults."""

    def __call__(self, denoiser: GuidedDenoiser, /) -> GuidedDenoiser: ...


class GuidanceSpec:
    """A guidance and its description; calling it checks the options and calls the guidance.

    `evaluations`: how many evaluations of one condition it adds to a step. `paper`: where it is described. `ranges`: the smallest
    and the largest value of number options; None means no limit. `together` is called with all options and raises ValueError if
    they contradict each other. `aliases`: its other names. Raises ValueError if the function cannot be called as a guidance, or if
    it has no option of a range's name.
    """

    def __init__(
        self,
        function: Guidance,
        *,
        evaluations: int = 0,
        paper: str = "",
        ranges: Mapping[str, Range] | None = None,
        together: Callable[..., None] | None = None,
        aliases: tuple[str, ...] = (),
    ) -> None:
        require_callable_with(function, "guidance", ("denoiser",))
        self.function, self.evaluations, self.paper = function, evaluations, paper
        self.ranges, self.together, self.aliases = checked_ranges(function, ranges), together, aliases
        functools.update_wrapper(self, function)

    def __repr__(self) -> str:
        return f"<GuidanceSpec {name_of(self.function)}>"

    def __call__(self, denoiser: GuidedDenoiser, /, **options: Any) -> GuidedDenoiser:
        """The denoiser with the guidance around it. Raises ValueError for unknown options and values out of range."""
        check_options("guidance", self.function, options)
        self.check_values(options)
        return self.function(denoiser, **options)

    def check_values(self, options: Mapping[str, object]) -> None:
        """Raise ValueError for options that are out of range or contradict each other; names and types must be right."""
        check_ranges("guidance", self.function, self.ranges, options)
        if self.together is not None:
            self.together(**(options_of(self.function) | dict(options)))

    def describe(self) -> dict[str, str]:
        """The description, for a listing."""
        description = {"extra evaluations of one condition per step": str(self.evaluations)}
        if self.paper:
            description["paper"] = self.paper
        return description
