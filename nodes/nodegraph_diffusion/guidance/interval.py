"""Guidance for a part of the sampling."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from nodegraph_diffusion.guidance.classifier_free import GuidedDenoiser, Predictions, Side
    from nodegraph_diffusion.networks.attention import AttentionHook


def guidance_interval(
    denoiser: GuidedDenoiser,
    /,
    *,
    start: float = 0.2,
    end: float = 0.9,
    sigma_start: float | None = None,
    sigma_end: float | None = None,
) -> GuidedDenoiser:
    """Guides between two noise levels only; elsewhere a step takes half the time.

    Elsewhere the positive side is asked alone.
    Kynkäänniemi et al. 2024, "Applying Guidance in a Limited Interval": where sigma_end < sigma <= sigma_start. `start` and
    `end` say the same as parts of the sampling, by timesteps: 0 is all noise, 1 is none; the defaults are near the paper's
    0.28 < sigma <= 5.42 for Stable Diffusion XL. Other guidance that it is put around is left out with it, and samplers of the
    CFG++ kind step along the positive side there. Raises ValueError where the interval is empty.
    """
    from nodegraph_diffusion.conditioning.regions import noise_level

    require_some(start, end, sigma_start, sigma_end)
    high = noise_level(denoiser.schedule, start) if sigma_start is None else sigma_start
    low = noise_level(denoiser.schedule, end) if sigma_end is None else sigma_end
    require_some(0, 1, high, low)
    return GuidedBetween(denoiser, high, low)


def require_some(start: float, end: float, sigma_start: float | None, sigma_end: float | None) -> None:
    """Raise ValueError where two parts of the sampling, or two noise levels, have nothing between them."""
    if sigma_start is not None and sigma_end is not None:
        if not sigma_end < sigma_start:
            raise ValueError(
                f"guidance interval: expected it to start at more noise than it ends, found noise levels {sigma_start:g} to "
                f"{sigma_end:g}; sigma_start lies above sigma_end"
            )
    elif sigma_start is None and sigma_end is None and not start < end:
        raise ValueError(
            f"guidance interval: expected it to start before it ends, found start {start:g} and end {end:g}; 0 is the beginning "
            "of the sampling, 1 its end"
        )


class GuidedBetween:
    """A denoiser that is guided where low < sigma <= high; elsewhere it has its positive side alone."""

    def __init__(self, denoiser: GuidedDenoiser, high: float, low: float) -> None:
        self.denoiser, self.high, self.low = denoiser, high, low
        self.schedule = denoiser.schedule

    def __call__(self, x: Tensor, sigma: float | Tensor, /) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        return self.predict(x, sigma, negative=False).denoised

    def predict(self, x: Tensor, sigma: float | Tensor, /, negative: bool = True) -> Predictions:
        """What the other one predicts, or three times what its positive side sees."""
        from nodegraph_diffusion.guidance.classifier_free import Predictions

        if self.low < float(sigma) <= self.high:
            return self.denoiser.predict(x, sigma, negative)
        return Predictions(*[self.denoiser.side("positive", x, sigma)] * 3)

    def side(self, which: Side, x: Tensor, sigma: float | Tensor, /, attention: AttentionHook | None = None) -> Tensor:
        """What the other one sees with one side."""
        return self.denoiser.side(which, x, sigma, attention)
