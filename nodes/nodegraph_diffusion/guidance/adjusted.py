"""Guidance as a function of the predictions at one noise level."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nodegraph_diffusion.denoising.protocols import GuidedDenoiser, Predictions
from nodegraph_diffusion.denoising.wrapper import DenoiserWrapper

if TYPE_CHECKING:
    from torch import Tensor


class AdjustedGuidance(DenoiserWrapper):
    """A denoiser whose guided estimate becomes `adjust(x, sigma, predictions)`.

    `negative` says whether `adjust` reads the negative prediction.
    """

    def __init__(
        self, denoiser: GuidedDenoiser, adjust: Callable[[Tensor, float, Predictions], Tensor], negative: bool = True
    ) -> None:
        super().__init__(denoiser)
        self.adjust, self.negative = adjust, negative

    def predict(self, x: Tensor, sigma: float | Tensor, /, negative: bool = True) -> Predictions:
        """The wrapped denoiser's predictions, with the adjusted estimate."""
        predictions = self.denoiser.predict(x, sigma, negative or self.negative)
        return predictions._replace(denoised=self.adjust(x, float(sigma), predictions))
