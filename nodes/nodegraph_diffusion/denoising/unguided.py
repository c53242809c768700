"""A denoiser without guidance, in the form that guidance and samplers accept."""

from __future__ import annotations

from torch import Tensor

from nodegraph_diffusion.denoising.batching import BatchedDenoisers
from nodegraph_diffusion.denoising.protocols import Condition, Denoiser, GuidedDenoiser, Predictions
from nodegraph_diffusion.networks.attention import AttentionHook


class UnguidedDenoiser(GuidedDenoiser):
    """A guided denoiser whose positive and negative predictions are both those of `denoiser`."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser
        self.noise_schedule = denoiser.noise_schedule
        self._batched = BatchedDenoisers(denoiser)

    def predict(self, x: Tensor, sigma: float | Tensor, /, negative: bool = True) -> Predictions:
        """The denoiser's estimate, three times."""
        return Predictions(*[self.denoiser(x, sigma)] * 3)

    def predict_one(
        self, condition: Condition, x: Tensor, sigma: float | Tensor, /, attention: AttentionHook | None = None
    ) -> Tensor:
        """The denoiser's estimate, the same for both conditions."""
        return self._batched.predict_one(0, x, sigma, attention)


def as_guided(denoiser: Denoiser) -> GuidedDenoiser:
    """`denoiser` itself if it is a guided one, else an `UnguidedDenoiser` around it."""
    return denoiser if isinstance(denoiser, GuidedDenoiser) else UnguidedDenoiser(denoiser)
