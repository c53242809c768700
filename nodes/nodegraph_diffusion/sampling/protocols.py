"""What a sampler is given and what it is: callables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from nodegraph_diffusion.denoising.noise_schedule import NoiseSchedule


class Denoise(Protocol):
    """Estimates the clean latent in a noisy one: (B, C, h, w) and its noise level -> (B, C, h, w)."""

    def __call__(self, x: Tensor, sigma: float, /) -> Tensor: ...


class GuidedDenoise(Denoise, Protocol):
    """A denoiser that also tells what it is guided away from, which CFG++ samplers step along, and the model's noise levels."""

    @property
    def schedule(self) -> NoiseSchedule: ...

    def guided(self, x: Tensor, sigma: float, /) -> tuple[Tensor, Tensor]:
        """The estimate of the clean latent, and that of the negative side alone; both (B, C, h, w)."""
        ...


class NoiseSource(Protocol):
    """Draws unit noise, shaped and placed like the latent, for a step from one noise level to the next.

    The levels let a source correlate what it draws (a Brownian path); independent draws ignore them.
    """

    def __call__(self, sigma_from: float, sigma_to: float, /) -> Tensor: ...


class OnStep(Protocol):
    """Is told after step `i` (from 0) of the latent as it now is and of the step's first estimate of the clean one."""

    def __call__(self, i: int, x: Tensor, denoised: Tensor, /) -> None: ...


class Sampler(Protocol):
    """Takes `x`, noisy at `sigmas[0]`, along `sigmas` (steps + 1,) float32 on the CPU, decreasing, to the last of them.

    What it is given as `denoise` is a `GuidedDenoise`; it is called with Python floats or 0-dim CPU tensors as noise levels,
    so that an accelerator never waits for one. `x` is left as it was. Options are keyword-only with types and defaults.
    """

    def __call__(self, denoise: Any, x: Tensor, sigmas: Tensor, /, *, noise: NoiseSource, on_step: OnStep) -> Tensor: ...
