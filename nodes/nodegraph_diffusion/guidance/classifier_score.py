"""The score of a classifier of noisy latents, for guidance by its gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from nodegraph_diffusion.networks.classifier import NoisyClassifier
    from nodegraph_diffusion.noise_schedule import NoiseSchedule


class ClassifierScore:
    """log p(class | noisy latent), for `GradientGuidance` with `through="noisy"` (Dhariwal & Nichol 2021, sec. 4.1).

    `classes` (1 or B,) int64 are the classes of the pictures. The classifier was trained on the noise of `noise_schedule`.
    """

    def __init__(self, classifier: NoisyClassifier, noise_schedule: NoiseSchedule, classes: Tensor) -> None:
        self._classifier, self._noise_schedule, self._classes = classifier, noise_schedule, classes

    def __call__(self, latent: Tensor, sigma: float, /) -> Tensor:
        """(B, C, h, w) = clean + sigma * noise -> (B,)."""
        timestep = self._noise_schedule.timestep(sigma).to(latent.device).expand(len(latent))
        logits = self._classifier(latent / (1 + sigma**2) ** 0.5, timestep)
        classes = self._classes.to(latent.device).expand(len(latent))
        score: Tensor = logits.float().log_softmax(1).gather(1, classes[:, None])[:, 0]
        return score
