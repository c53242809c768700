"""A sampler, and the noise source and progress callback that it is called with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from nodegraph_diffusion.denoising import GuidedDenoiser


class NoiseSource(Protocol):
    """Draws unit noise with the shape, dtype and device of the latent, for a step from one noise level to the next.

    A source may use the levels to correlate its draws (a Brownian path); independent draws ignore them.
    """

    def __call__(self, sigma_from: float, sigma_to: float, /) -> Tensor: ...


class OnStep(Protocol):
    """Receives the latent after step `i` (from 0), and the step's first estimate of the clean latent."""

    def __call__(self, i: int, x: Tensor, denoised: Tensor, /) -> None: ...


class Sampler(Protocol):
    """Denoises `x`, noisy at `sigmas[0]`, along `sigmas` (steps + 1,), float32 on the CPU, decreasing.

    Returns the latent at the last level. Samplers pass `denoise` Python floats or 0-dim CPU tensors as noise levels, so that an
    accelerator never waits for one. `x` must not be changed in place. Options are keyword-only with types and defaults.
    """

    def __call__(self, denoise: GuidedDenoiser, x: Tensor, sigmas: Tensor, /, *, noise: NoiseSource, on_step: OnStep) -> Tensor: ...
