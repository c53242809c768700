"""A sampler with its registered description."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from nodegraph_diffusion.options import Range, checked_ranges, name_of, require_callable_with

if TYPE_CHECKING:
    from torch import Tensor

    from nodegraph_diffusion.denoising import GuidedDenoiser
    from nodegraph_diffusion.sampling.protocols import NoiseSource, OnStep, Sampler

StepNoiseKind = Literal["independent", "brownian"]

_ARGUMENTS = ("denoise", "x", "sigmas")
_KEYWORDS = ("noise", "on_step")


class SamplerSpec:
    """A sampler and its description; calling it calls the sampler.

    - `stochastic`: whether it draws noise.
    - `evaluations_per_step`: calls of `denoise` in a step, not counting a cheaper last step; None if the sampler chooses its steps.
    - `order`: its order of convergence, if it is deterministic. `measured` is the order that was measured on a problem with a known
      answer, if there is one (see `nodegraph_diffusion.testing`).
    - `paper`: where it is described. `aliases`: its other names.
    - `noise`: independent draws, or the increments of one Brownian path, so that a finer schedule samples the same path.
    - `discard_penultimate`: its schedule has one step more, and the last level above 0 is left out, as in ComfyUI.
    - `other_mask_noise`: with a mask, ComfyUI noises the kept part with the noise of the next seed; so does a run whose step noise
      is `comfyui`.
    - `ranges`: the smallest and the largest value of number options; None means no limit.

    Raises ValueError if the function cannot be called as a sampler, if it has no option of a range's name, or if a value of the
    description is not one of those above.
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
        require_callable_with(function, "sampler", _ARGUMENTS, _KEYWORDS)
        if noise not in ("independent", "brownian"):
            raise ValueError(f"expected noise 'independent' or 'brownian', found {noise!r}")
        for name, count in (("evaluations_per_step", evaluations_per_step), ("order", order)):
            if count is not None and (type(count) is not int or count < 1):
                raise ValueError(f"expected {name} to be a whole number of at least 1, or None, found {count!r}")
        self.ranges = checked_ranges(function, ranges)
        self.function = function
        self.stochastic, self.evaluations_per_step, self.order = stochastic, evaluations_per_step, order
        self.paper, self.noise, self.aliases = paper, noise, aliases
        self.discard_penultimate, self.other_mask_noise = discard_penultimate, other_mask_noise
        self.measured: float | None = None
        functools.update_wrapper(self, function)

    def __repr__(self) -> str:
        return f"<SamplerSpec {name_of(self.function)}>"

    def __call__(
        self, denoise: GuidedDenoiser, x: Tensor, sigmas: Tensor, /, *, noise: NoiseSource, on_step: OnStep, **options: Any
    ) -> Tensor:
        return self.function(denoise, x, sigmas, noise=noise, on_step=on_step, **options)

    def describe(self) -> dict[str, str]:
        """The description, for a listing."""
        calls = {None: "as many as it needs", 1: "1"}.get(self.evaluations_per_step, str(self.evaluations_per_step))
        description = {"stochastic": "yes" if self.stochastic else "no", "evaluations per step": calls}
        order = [str(self.order)] if self.order is not None else []
        order += [f"measured {self.measured:.2f}"] if self.measured is not None else []
        if order:
            description["order"] = ", ".join(order)
        if self.noise != "independent" and self.stochastic:
            description["noise"] = "a Brownian path"
        if self.paper:
            description["paper"] = self.paper
        return description
