"""The two kinds of denoiser: one that estimates the clean latent, and one that guidance can change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

    from nodegraph_diffusion.networks.attention import AttentionHook
    from nodegraph_diffusion.noise_schedule import NoiseSchedule

Condition = Literal["positive", "negative"]


class Denoiser(Protocol):
    """Estimates the clean latent in a noisy one. `noise_schedule` is the one that the model was trained on."""

    noise_schedule: NoiseSchedule

    def __call__(self, x: Tensor, sigma: float | Tensor, /) -> Tensor:
        """(B, C, h, w) float32 and its noise level, a float or a 0-dim CPU tensor -> (B, C, h, w) float32."""
        ...


class Predictions(NamedTuple):
    """Three estimates of the clean latent, each (B, C, h, w): with guidance, and under each condition without it."""

    denoised: Tensor
    positive: Tensor
    negative: Tensor


@runtime_checkable
class GuidedDenoiser(Denoiser, Protocol):
    """A denoiser under a positive and a negative condition, usually a prompt each.

    Guidance reads its predictions and returns another denoiser. Samplers of the CFG++ kind read the negative prediction. A
    subclass only needs `predict` and `predict_one`.
    """

    def __call__(self, x: Tensor, sigma: float | Tensor, /) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w): the guided estimate."""
        return self.predict(x, sigma, negative=False).denoised

    def predict(self, x: Tensor, sigma: float | Tensor, /, negative: bool = True) -> Predictions:
        """The guided estimate and the predictions that it was made from, from one evaluation of both conditions.

        `negative` False says that the caller does not read the negative prediction. If the estimate does not depend on it
        either, it is not computed, and `Predictions.negative` holds the positive prediction.
        """
        ...

    def predict_one(
        self, condition: Condition, x: Tensor, sigma: float | Tensor, /, attention: AttentionHook | None = None
    ) -> Tensor:
        """The estimate under one condition without guidance, (B, C, h, w). `attention` replaces the network's self-attentions."""
        ...
