"""Guidance in an interval of noise levels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodegraph_diffusion.denoising.protocols import GuidedDenoiser, Predictions
from nodegraph_diffusion.denoising.wrapper import DenoiserWrapper

if TYPE_CHECKING:
    from torch import Tensor


def guidance_interval(
    denoiser: GuidedDenoiser,
    /,
    *,
    start: float = 0.2,
    end: float = 0.9,
    sigma_start: float | None = None,
    sigma_end: float | None = None,
) -> GuidedDenoiser:
    """Guides between two noise levels only; other steps take half the time.

    Outside the interval the estimate is the positive prediction, and only that is computed.
    Kynkäänniemi et al. 2024, "Applying Guidance in a Limited Interval": the interval is sigma_end < sigma <= sigma_start. `start`
    and `end` give it as fractions of the sampling by timesteps: 0 is all noise, 1 is no noise; the defaults are near the paper's
    0.28 < sigma <= 5.42 for Stable Diffusion XL. Guidance that it wraps is also left out outside the interval, and samplers of the
    CFG++ kind step along the positive prediction there. Raises ValueError if the interval is empty.
    """
    require_non_empty_interval(start, end, sigma_start, sigma_end)
    high = denoiser.noise_schedule.sigma_at(start) if sigma_start is None else sigma_start
    low = denoiser.noise_schedule.sigma_at(end) if sigma_end is None else sigma_end
    require_non_empty_interval(0, 1, high, low)
    return IntervalGuidance(denoiser, high, low)


def require_non_empty_interval(start: float, end: float, sigma_start: float | None, sigma_end: float | None) -> None:
    """Raise ValueError if the interval of two fractions of the sampling, or of two noise levels, is empty."""
    if sigma_start is not None and sigma_end is not None:
        if not sigma_end < sigma_start:
            raise ValueError(
                f"guidance interval: expected it to start at more noise than it ends, found noise levels {sigma_start:g} to "
                f"{sigma_end:g}; choose sigma_start above sigma_end"
            )
    elif sigma_start is None and sigma_end is None and not start < end:
        raise ValueError(
            f"guidance interval: expected it to start before it ends, found start {start:g} and end {end:g}; 0 is the beginning "
            "of the sampling, 1 its end"
        )


class IntervalGuidance(DenoiserWrapper):
    """A denoiser that is guided at levels low < sigma <= high; at others its estimate is the positive prediction."""

    def __init__(self, denoiser: GuidedDenoiser, high: float, low: float) -> None:
        super().__init__(denoiser)
        self.high, self.low = high, low

    def predict(self, x: Tensor, sigma: float | Tensor, /, negative: bool = True) -> Predictions:
        """The wrapped denoiser's predictions, or three times its positive one."""
        if self.low < float(sigma) <= self.high:
            return self.denoiser.predict(x, sigma, negative)
        return Predictions(*[self.denoiser.predict_one("positive", x, sigma)] * 3)
