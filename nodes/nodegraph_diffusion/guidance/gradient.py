"""Guidance by a gradient: toward pictures that a score function rates higher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from nodegraph_diffusion.denoising.protocols import GuidedDenoiser, Predictions
from nodegraph_diffusion.denoising.wrapper import DenoiserWrapper

if TYPE_CHECKING:
    from torch import Tensor

Through = Literal["network", "estimate", "noisy"]


class Score(Protocol):
    """How likely a condition is, given a latent: differentiable, and independent for each picture."""

    def __call__(self, latent: Tensor, sigma: float, /) -> Tensor:
        """(B, C, h, w) and the noise level of the step -> (B,), a log-likelihood or a substitute for one."""
        ...


class GradientGuidance(DenoiserWrapper):
    """Moves the estimate up the gradient of a score: `denoised + scale * sigma^2 * grad log p(condition | x)`.

    By Tweedie's formula that is the estimate under the condition, if the score is its log-likelihood and `scale` is 1
    (Dhariwal & Nichol 2021, Alg. 2, written for denoised latents). `through` says what the score is computed from, and through what
    the gradient is taken:

    - "network": from the estimate, differentiated with respect to the noisy latent through the network (Bansal et al. 2023,
      "Universal Guidance", sec. 3.1; Chung et al. 2023, "Diffusion Posterior Sampling"); needs the memory of a training step;
    - "estimate": from the estimate, as if it depended on the noisy latent as it does for data of unit variance, by
      1 / (1 + sigma^2): there is no backward pass through the network;
    - "noisy": from the noisy latent itself, for scores that were trained on noisy latents (Dhariwal & Nichol's classifiers).

    Works inside `torch.no_grad()`. Raises ValueError if the score is not (B,) or does not depend on its input.
    """

    def __init__(self, denoiser: GuidedDenoiser, score: Score, scale: float = 1.0, through: Through = "network") -> None:
        if through not in ("network", "estimate", "noisy"):
            raise ValueError(f"gradient guidance: expected through 'network', 'estimate' or 'noisy', found {through!r}")
        super().__init__(denoiser)
        self.score, self.scale, self.through = score, scale, through

    def predict(self, x: Tensor, sigma: float | Tensor, /, negative: bool = True) -> Predictions:
        """The wrapped denoiser's predictions, with the estimate moved; none of them carries gradients."""
        import torch

        level = float(sigma)
        with torch.enable_grad():
            noisy = x.detach().requires_grad_()
            with torch.set_grad_enabled(self.through == "network"):
                predictions = self.denoiser.predict(noisy, sigma, negative)
            variable = predictions.denoised.detach().requires_grad_() if self.through == "estimate" else noisy
            score = self.score(predictions.denoised if self.through == "network" else variable, level)
            self._require_usable(score, x.shape[0])
            (gradient,) = torch.autograd.grad(score.sum(), variable)
        if self.through == "estimate":
            gradient = gradient / (1 + level**2)
        predictions = Predictions(*(prediction.detach() for prediction in predictions))
        return predictions._replace(denoised=predictions.denoised + self.scale * level**2 * gradient)

    def _require_usable(self, score: Tensor, pictures: int) -> None:
        if tuple(score.shape) != (pictures,):
            raise ValueError(
                f"gradient guidance: expected a score for each of {pictures} pictures, ({pictures},), found {tuple(score.shape)}; "
                "sum over channels and cells, not over pictures"
            )
        if not score.requires_grad:
            raise ValueError(
                "gradient guidance: expected a score that depends on the latent, found one without a gradient; compute it from "
                "the latent passed in, without detach or no_grad"
            )
