"""Training of a classifier of noisy latents, for guidance by a classifier (Dhariwal & Nichol 2021, sec. 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nodegraph_diffusion.networks.classifier import NoisyClassifier
from nodegraph_diffusion.training.loop.task import Losses, Moment, Task, TrainedNetwork
from nodegraph_diffusion.training.noising.objective import DenoisingLoss, Objective


@dataclass(frozen=True, kw_only=True)
class ClassifiedLatents:
    """Latents (B, c, h, w) of unit variance, and the class (B,) int64 of each."""

    latent: Tensor
    classes: Tensor


class ClassifierTask(Task[ClassifiedLatents]):
    """Trains a classifier on latents with the noise of `objective`, that of the denoiser that it guides."""

    def __init__(self, classifier: NoisyClassifier, objective: Objective) -> None:
        self.classifier = classifier
        self._noise = DenoisingLoss(objective)
        self._networks = {"classifier": TrainedNetwork(module=classifier)}

    @property
    def networks(self) -> Mapping[str, TrainedNetwork]:
        """The classifier."""
        return self._networks

    def losses(self, batch: ClassifiedLatents, moment: Moment) -> Losses:
        """The cross entropy of the classes; the figure `accuracy` is over all noise levels."""
        device = next(self.classifier.parameters()).device
        noisy = self._noise.add_noise(batch.latent.to(device), moment.generator)
        classes = batch.classes.to(device)
        logits = self.classifier(noisy.noisy, noisy.steps.float()).float()
        accuracy = (logits.argmax(1) == classes).float().mean()
        return Losses(by_network={"classifier": F.cross_entropy(logits, classes)}, figures={"accuracy": accuracy})

    @torch.no_grad()
    def accuracy(self, latent: Tensor, classes: Tensor, step: int, generator: torch.Generator) -> float:
        """The share of latents (B, c, h, w) whose class (B,) is found under the noise of one training step."""
        device = next(self.classifier.parameters()).device
        signal = self._noise.signal[step].float()
        noisy = signal.sqrt() * latent + (1 - signal).sqrt() * torch.randn(latent.shape, generator=generator)
        logits = self.classifier(noisy.to(device), torch.full((len(latent),), float(step), device=device))
        return float((logits.argmax(1).cpu() == classes).double().mean())
