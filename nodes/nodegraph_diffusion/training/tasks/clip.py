"""Training of CLIP: an image encoder and a text encoder with one space of embeddings (Radford et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nodegraph_diffusion.networks.clip import CLIPTextModel, CLIPVisionModel
from nodegraph_diffusion.training.loop.task import Losses, Moment, Task, TrainedNetwork
from nodegraph_diffusion.training.losses.contrastive import Temperature, contrastive_loss, zero_shot_accuracy


@dataclass(frozen=True, kw_only=True)
class CaptionedPictures:
    """Pixels (B, 3, size, size) in [-1, 1], and the tokens (B, L) of each picture's caption."""

    pixels: Tensor
    tokens: Tensor


class CLIPTask(Task[CaptionedPictures]):
    """Trains both encoders and the temperature. Raises ValueError unless their embeddings have the same width."""

    def __init__(self, image: CLIPVisionModel, text: CLIPTextModel) -> None:
        if text.config.projection != image.config.projection:
            raise ValueError(
                f"CLIP: expected a text encoder with projection {image.config.projection}, as the image encoder has, "
                f"found {text.config.projection}"
            )
        self.image, self.text, self.temperature = image, text, Temperature()
        module = nn.ModuleDict({"image": image, "text": text, "temperature": self.temperature})
        self._networks = {"clip": TrainedNetwork(module=module, called=(image, text.encoder))}

    @property
    def networks(self) -> Mapping[str, TrainedNetwork]:
        """Both encoders and the temperature, which share an optimiser."""
        return self._networks

    def losses(self, batch: CaptionedPictures, moment: Moment) -> Losses:
        """The symmetric contrastive loss. The figure `accuracy` is the share of pictures whose own caption is the nearest."""
        similarities = self.similarities(batch.pixels, batch.tokens)
        own = zero_shot_accuracy(similarities.detach(), torch.arange(len(similarities), device=similarities.device))
        return Losses(by_network={"clip": contrastive_loss(similarities)}, figures={"accuracy": torch.tensor(own)})

    def similarities(self, pixels: Tensor, tokens: Tensor) -> Tensor:
        """Scaled cosine similarities of pictures (B, 3, size, size) and texts (N, L): (B, N) float32."""
        device = next(self.image.parameters()).device
        pooled = self.text.encode(tokens.to(device))[1]
        assert pooled is not None  # checked by the constructor
        similarities: Tensor = self.temperature(self.image(pixels.to(device)).float(), pooled.float())
        return similarities

    @torch.no_grad()
    def zero_shot(self, pixels: Tensor, class_tokens: Tensor, classes: Tensor) -> float:
        """The share of pictures whose nearest class text (N, L) is that of their class (B,) (Radford et al. 2021, sec. 3.1)."""
        return zero_shot_accuracy(self.similarities(pixels, class_tokens), classes.to(next(self.image.parameters()).device))
