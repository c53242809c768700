"""The guidance apg: adaptive projected guidance, which allows strong guidance without its burnt colours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodegraph import hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from nodegraph_diffusion.denoising import GuidedDenoiser, Predictions


RANGES = {"norm_threshold": (0, None), "momentum": (-0.999, 0.999)}


def guidance_apg(
    denoiser: GuidedDenoiser, *, eta: float = 0.0, norm_threshold: float = 15.0, momentum: float = -0.5
) -> GuidedDenoiser:
    """Adaptive projected guidance (Sadat et al. 2024, Alg. 1).

    "Eliminating Oversaturation and Artifacts of High Guidance Scales".
    What guidance adds to the positive side is taken apart: the part along what that side sees, which makes colours loud, counts
    `eta`; the rest stays. It is shrunk where the difference of the sides is longer than `norm_threshold` (0: never), a length over
    all of a latent: 15 suits Stable Diffusion XL's of 128x128, 2.5 to 7.5 those of 1.x. `momentum` adds what earlier levels of
    the run added; below 0 it pushes away from them. The scale is that of the denoiser's own guidance.
    """
    from nodegraph_diffusion.guidance import AdjustedGuidance

    average = RunningAverage(momentum)

    def combine(x: Tensor, sigma: float, seen: Predictions) -> Tensor:
        import torch

        sides = torch.stack([seen.denoised - seen.positive, seen.positive - seen.negative])  # (2, B, C, h, w)
        update, difference = average(sigma, sides)
        if norm_threshold > 0:
            length = difference.flatten(1).norm(dim=1).clamp(min=1e-12)  # (B,)
            update = update * (norm_threshold / length).clamp(max=1)[:, None, None, None]
        return seen.positive + across(update, seen.positive) + eta * along(update, seen.positive)

    return AdjustedGuidance(denoiser, combine)


class RunningAverage:
    """Of the values at the noise levels of one run, a_i = value_i + momentum * a_(i - 1) (Alg. 1, line 5).

    A solver may ask at one level more than once: its last answer counts. Where the level rises, or the shape is another, a new
    run begins, and nothing is remembered.
    """

    def __init__(self, momentum: float) -> None:
        self.momentum = momentum
        self._sigma = 0.0
        self._here: Tensor | None = None  # the average at the level that was asked last
        self._above: Tensor | None = None  # and at the one before

    def __call__(self, sigma: float, value: Tensor) -> Tensor:
        """The average at this level. Same shape as `value`."""
        if self._here is None or sigma > self._sigma * (1 + 1e-6) or value.shape != self._here.shape:
            self._above = None
        elif sigma < self._sigma:
            self._above = self._here
        self._sigma = sigma
        self._here = value if self._above is None else value + self.momentum * self._above
        return self._here


def along(update: Tensor, direction: Tensor) -> Tensor:
    """The part of each picture's update that points along its direction; both (B, C, h, w)."""
    dims = (1, 2, 3)
    squared = (direction * direction).sum(dims, keepdim=True).clamp(min=1e-12)
    return direction * ((update * direction).sum(dims, keepdim=True) / squared)


def across(update: Tensor, direction: Tensor) -> Tensor:
    """The rest of it."""
    return update - along(update, direction)


@hookimpl
def register_guidance(register):
    register("apg", guidance_apg, paper="Sadat et al. 2024, arXiv:2410.02416", ranges=RANGES)
