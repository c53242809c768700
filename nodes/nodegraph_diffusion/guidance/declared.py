"""What is said of a guidance where it is registered."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from nodegraph_diffusion.sampling.declared import known_ranges, require_callable_with
from nodegraph_diffusion.sampling.options import Range, check_options, check_ranges, options_of

if TYPE_CHECKING:
    from nodegraph_diffusion.guidance.classifier_free import GuidedDenoiser


class Guidance(Protocol):
    """Makes of a denoiser with two sides another one. Options are keyword-only with types and defaults."""

    def __call__(self, denoiser: GuidedDenoiser, /) -> GuidedDenoiser: ...


class GuidanceSpec:
    """A guidance, and what is declared of it; calling it calls the guidance with options that were checked.

    `evaluations`: how often it asks one side of the denoiser in a step, beyond what the step asks without it. `paper`: where it is
    described. `ranges`: the least and the largest value of options that are numbers, None where there is none. `together` is
    called with all options and raises ValueError where they do not go together. `aliases`: other names that people know it by.
    Raises ValueError where the function cannot be called as a guidance is, or has no option that a range is for.
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
        self.ranges, self.together, self.aliases = known_ranges(function, ranges), together, aliases
        functools.update_wrapper(self, function)

    def __call__(self, denoiser: GuidedDenoiser, /, **options: Any) -> GuidedDenoiser:
        """The denoiser with the guidance around it. Raises ValueError for options that it does not have, or out of range."""
        check_options("guidance", self.function, options)
        self.check_values(options)
        return self.function(denoiser, **options)

    def check_values(self, options: Mapping[str, object]) -> None:
        """Raise ValueError for options, of the right names and types, that are out of range or do not go together."""
        check_ranges("guidance", self.function, self.ranges, options)
        if self.together is not None:
            self.together(**(options_of(self.function) | dict(options)))

    def describe(self) -> dict[str, str]:
        """What was declared of it, for a listing."""
        said = {"evaluations of one side more per step": str(self.evaluations)}
        if self.paper:
            said["paper"] = self.paper
        return said
