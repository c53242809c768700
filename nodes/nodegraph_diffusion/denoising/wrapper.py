"""The base of denoisers that change what another one predicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodegraph_diffusion.denoising.protocols import Condition, GuidedDenoiser, Predictions

if TYPE_CHECKING:
    from torch import Tensor

    from nodegraph_diffusion.networks.attention import AttentionHook


class DenoiserWrapper(GuidedDenoiser):
    """A guided denoiser that predicts the same as `denoiser`. Subclasses override `predict`."""

    def __init__(self, denoiser: GuidedDenoiser) -> None:
        self.denoiser = denoiser
        self.noise_schedule = denoiser.noise_schedule

    def predict(self, x: Tensor, sigma: float | Tensor, /, negative: bool = True) -> Predictions:
        """The predictions of the wrapped denoiser."""
        return self.denoiser.predict(x, sigma, negative)

    def predict_one(
        self, condition: Condition, x: Tensor, sigma: float | Tensor, /, attention: AttentionHook | None = None
    ) -> Tensor:
        """The wrapped denoiser's estimate under one condition."""
        return self.denoiser.predict_one(condition, x, sigma, attention)
