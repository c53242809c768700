"""Guidance by a gradient: toward what a function of the picture finds likely."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from nodegraph_diffusion.guidance.classifier_free import GuidedDenoiser, Predictions, Side
    from nodegraph_diffusion.networks.attention import AttentionHook

Through = Literal["network", "estimate", "noisy"]


class Score(Protocol):
    """How likely a condition is, given a latent: differentiable, each picture by itself."""

    def __call__(self, latent: Tensor, sigma: float, /) -> Tensor:
        """(B, C, h, w) and the noise level of the step -> (B,), a log-likelihood or what stands for one."""
        ...


class GradientGuidance:
    """A denoiser whose estimate moves up the gradient of a score: `denoised + scale * sigma^2 * grad log p(condition | x)`.

    By Tweedie's formula that is the estimate under the condition, where the score is its log-likelihood and `scale` is 1
    (Dhariwal & Nichol 2021, Alg. 2, written for denoised latents). `through` says what the score looks at and where the
    gradient is taken:

    - "network": at the estimate, differentiated with respect to the noisy latent through the network (Bansal et al. 2023,
      "Universal Guidance", sec. 3.1; Chung et al. 2023, "Diffusion Posterior Sampling"); needs the memory of a training step;
    - "estimate": at the estimate, as if it hung on the noisy latent as it does for data of unit variance, by
      1 / (1 + sigma^2): nothing goes back through the network;
    - "noisy": at the noisy latent itself, for scores that were trained on those (Dhariwal & Nichol's classifiers).

    Works where gradients are switched off. Raises ValueError for a score that is not (B,), or does not hang on what it is given.
    """

    def __init__(self, denoiser: GuidedDenoiser, score: Score, scale: float = 1.0, through: Through = "network") -> None:
        if through not in ("network", "estimate", "noisy"):
            raise ValueError(f"gradient guidance: expected through 'network', 'estimate' or 'noisy', found {through!r}")
        self.denoiser, self.score, self.scale, self.through = denoiser, score, scale, through
        self.schedule = denoiser.schedule

    def __call__(self, x: Tensor, sigma: float | Tensor, /) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        return self.predict(x, sigma, negative=False).denoised

    def predict(self, x: Tensor, sigma: float | Tensor, /, negative: bool = True) -> Predictions:
        """What the other one predicts, with the estimate moved; none of it carries gradients."""
        import torch

        from nodegraph_diffusion.guidance.classifier_free import Predictions

        level = float(sigma)
        with torch.enable_grad():
            noisy = x.detach().requires_grad_()
            with torch.set_grad_enabled(self.through == "network"):
                seen = self.denoiser.predict(noisy, sigma, negative)
            by = seen.denoised.detach().requires_grad_() if self.through == "estimate" else noisy
            score = self.score(seen.denoised if self.through == "network" else by, level)
            self._require_usable(score, x.shape[0])
            (gradient,) = torch.autograd.grad(score.sum(), by)
        if self.through == "estimate":
            gradient = gradient / (1 + level**2)
        seen = Predictions(*(one.detach() for one in seen))
        return seen._replace(denoised=seen.denoised + self.scale * level**2 * gradient)

    def side(self, which: Side, x: Tensor, sigma: float | Tensor, /, attention: AttentionHook | None = None) -> Tensor:
        """What the other one sees with one side."""
        return self.denoiser.side(which, x, sigma, attention)

    def _require_usable(self, score: Tensor, pictures: int) -> None:
        if tuple(score.shape) != (pictures,):
            raise ValueError(
                f"gradient guidance: expected a score for each of {pictures} pictures, ({pictures},), found {tuple(score.shape)}; "
                "sum over channels and cells, not over pictures"
            )
        if not score.requires_grad:
            raise ValueError(
                "gradient guidance: expected a score that hangs on the latent, found one without a gradient; compute it from "
                "the latent given, without detach or no_grad"
            )
