"""Training of an autoencoder, with Gaussian or quantised latents (Esser et al. 2021; Rombach et al. 2022, sec. 3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nodegraph_diffusion.networks.vae import AutoencoderKL
from nodegraph_diffusion.networks.vector_quantiser import AutoencoderVQ
from nodegraph_diffusion.training.loop.task import Losses, Moment, Task, TrainedNetwork
from nodegraph_diffusion.training.losses.adversarial import adaptive_weight, generator_loss, hinge_loss
from nodegraph_diffusion.training.losses.gaussian import DiagonalGaussian
from nodegraph_diffusion.training.losses.perceptual import Features, perceptual_loss


@dataclass(frozen=True, kw_only=True)
class Critic:
    """What makes decoded pictures sharp: a discriminator, which takes part after `start` steps.

    Its loss has the adaptive weight of Esser et al. (2021, eq. 7) times `weight`.
    """

    discriminator: nn.Module
    start: int
    weight: float = 0.5


@dataclass(frozen=True, kw_only=True)
class ReconstructionWeights:
    """The weights of the losses beside the mean absolute error of the pixels.

    `squares` is that of their squared error, `perceptual` that of the distance of features, `bottleneck` that of the KL divergence
    per latent number, or of the codebook's loss.
    """

    squares: float = 0.0
    perceptual: float = 1.0
    bottleneck: float = 1e-4


class AutoencoderTask(Task[Tensor]):
    """Trains an autoencoder on pixels (B, 3, H, W) in [-1, 1].

    `features` are those of a frozen network for a perceptual loss (None: there is no such loss); the published networks are not
    shipped, so it is one trained here. `sampled` are pictures to show with their reconstructions.
    """

    def __init__(
        self,
        model: AutoencoderKL,
        *,
        weights: ReconstructionWeights | None = None,
        features: Features | None = None,
        critic: Critic | None = None,
        sampled: Tensor | None = None,
    ) -> None:
        self.model, self._features, self._critic, self._sampled = model, features, critic, sampled
        self._weights = weights or ReconstructionWeights()
        self._networks = {"autoencoder": TrainedNetwork(module=model, called=(model.encoder, model.decoder))}
        if critic is not None:
            self._networks["discriminator"] = TrainedNetwork(module=critic.discriminator, averaged=False)

    @property
    def networks(self) -> Mapping[str, TrainedNetwork]:
        """The autoencoder, and the discriminator if there is one."""
        return self._networks

    def losses(self, batch: Tensor, moment: Moment) -> Losses:
        """The losses of reconstructed pixels."""
        pixels = batch.to(next(self.model.parameters()).device)
        decoded, bottleneck, figures = self._reconstruct(pixels, moment)
        error = decoded - pixels
        weights = self._weights
        reconstruction = error.abs().mean() + weights.squares * error.square().mean()
        if self._features is not None:
            perceptual = perceptual_loss(self._features, decoded, pixels).mean()
            reconstruction = reconstruction + weights.perceptual * perceptual
            figures["perceptual"] = perceptual
        figures |= {"reconstruction": reconstruction, "bottleneck": bottleneck, "psnr": -10 * (error.square().mean() / 4).log10()}
        by_network = {"autoencoder": reconstruction + weights.bottleneck * bottleneck}
        critic = self._critic
        if critic is not None and moment.step >= critic.start:
            adversarial = generator_loss(critic.discriminator(decoded).float())
            balance = critic.weight * adaptive_weight(reconstruction, adversarial, self.model.decoder.conv_out.weight)
            by_network["autoencoder"] = by_network["autoencoder"] + balance * adversarial
            real, fake = (critic.discriminator(each).float() for each in (pixels, decoded.detach()))
            by_network["discriminator"] = hinge_loss(real, fake)
            figures |= {"adversarial": adversarial, "adversarial_weight": balance}
        return Losses(by_network=by_network, figures=figures)

    def samples(self) -> Tensor | None:
        """The pictures to show, then their reconstructions."""
        if self._sampled is None:
            return None
        pixels = self._sampled.to(next(self.model.parameters()).device)
        decoded = self.model.decode(self.model.encode(pixels)[0])
        return torch.cat([pixels, decoded.float()])

    def _reconstruct(self, pixels: Tensor, moment: Moment) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Decoded pixels, the loss of the bottleneck, and figures about it."""
        if isinstance(self.model, AutoencoderVQ):
            quantised = self.model.quantize(self.model.encode(pixels)[0].float())
            usage = torch.bincount(quantised.codes.flatten(), minlength=len(self.model.quantize.codebook.weight)).float()
            shares = usage / usage.sum()
            used = {"codes": torch.special.entr(shares).sum().exp()}  # as many as would be used evenly
            return self.model.decode_quantised(quantised.latent).float(), quantised.loss, used
        mean, log_variance = self.model.encode(pixels)
        latent = DiagonalGaussian(mean=mean.float(), log_variance=log_variance.float())
        divergence = latent.kl_from_standard().mean() / latent.mean[0].numel()
        return self.model.decode(latent.sample(moment.noise_like(latent.mean))).float(), divergence, {}
