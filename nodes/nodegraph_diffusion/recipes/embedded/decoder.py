"""The decoder's last training, on squared error and on latents with a little noise, like those that the denoiser paints.

The encoder, and so every latent, stays the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import Tensor

from nodegraph_diffusion.networks.vae import AutoencoderKL
from nodegraph_diffusion.training.loop.options import TrainingOptions
from nodegraph_diffusion.training.loop.task import Losses, Moment, Task, TrainedNetwork

STEPS, BATCH = 2500, 8
NOISE = 0.03
"""The deviation of the noise on the latents, which have unit variance."""


def options(steps: int = STEPS, seed: int = 0) -> TrainingOptions:
    """The options of the training."""
    return TrainingOptions(
        steps=steps,
        batch=BATCH,
        learning_rate=6e-4,
        warm_up=min(100, steps // 10),
        weight_decay=0.0,
        average=0.998,
        seed=seed,
        save_every=100,
        log_every=50,
    )


class DecoderTask(Task[Tensor]):
    """Trains the decoder of an autoencoder on pixels (B, 3, H, W) in [-1, 1]."""

    def __init__(self, model: AutoencoderKL) -> None:
        self.model = model.requires_grad_(True)
        self._encoder = deepcopy(model).requires_grad_(False)
        for part in (model.encoder, model.quant_conv):
            part.requires_grad_(False)
        self._networks = {"decoder": TrainedNetwork(module=model, called=(model.decoder,))}

    @property
    def networks(self) -> Mapping[str, TrainedNetwork]:
        """The autoencoder, whose encoder is frozen."""
        return self._networks

    def losses(self, batch: Tensor, moment: Moment) -> Losses:
        """Squared error, and a little of the absolute error."""
        with torch.no_grad():
            latent = self._encoder.encode(batch)[0]
        error = self.model.decode(latent + NOISE * moment.noise_like(latent)) - batch
        squares = error.square().mean()
        return Losses(by_network={"decoder": 0.2 * error.abs().mean() + 4 * squares}, figures={"psnr": -10 * (squares / 4).log10()})
