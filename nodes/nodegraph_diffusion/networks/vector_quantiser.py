"""An autoencoder whose latents have a finite number of values (van den Oord et al. 2017, VQ-VAE)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nodegraph_diffusion.networks.config import VAEConfig
from nodegraph_diffusion.networks.vae import AutoencoderKL

_NO_VARIANCE = -30.0  # the least log-variance of Gaussian latents


@dataclass(frozen=True, kw_only=True)
class Quantised:
    """`latent` (B, channels, h, w), whose gradient is that of the latent given; `codes` (B, h, w) int64; the scalar `loss`."""

    latent: Tensor
    codes: Tensor
    loss: Tensor


class VectorQuantiser(nn.Module):
    """Replaces each cell of a latent by the nearest of `size` learned vectors of `channels` numbers."""

    def __init__(self, size: int, channels: int, *, commitment: float = 0.25) -> None:
        super().__init__()
        self.commitment = commitment
        self.codebook = nn.Embedding(size, channels)
        nn.init.uniform_(self.codebook.weight, -1 / size, 1 / size)

    def forward(self, latent: Tensor) -> Quantised:
        """(B, channels, h, w) -> the nearest vectors and the loss of codebook and encoder (eq. 3, second and third terms).

        Each term is the mean over all numbers; that of the encoder is multiplied by `commitment`.
        """
        cells = latent.movedim(1, -1)  # (B, h, w, c)
        codes = self._nearest(cells)
        vectors = self.codebook(codes)
        loss = (vectors - cells.detach()).square().mean() + self.commitment * (vectors.detach() - cells).square().mean()
        passed_through = cells + (vectors - cells).detach()  # the gradient skips the choice (sec. 3.2)
        return Quantised(latent=passed_through.movedim(-1, 1), codes=codes, loss=loss)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, h, w) -> latent (B, channels, h, w)."""
        vectors: Tensor = self.codebook(codes)
        return vectors.movedim(-1, 1)

    def _nearest(self, cells: Tensor) -> Tensor:
        book = self.codebook.weight
        distances = book.square().sum(1) - 2 * cells @ book.T  # without the cell's own square, which all share
        return distances.argmin(-1)


class AutoencoderVQ(AutoencoderKL):
    """A convolutional autoencoder with a codebook of `config.codes` vectors (Rombach et al. 2022, sec. 3.1, "VQ-reg.").

    It can take the place of one with Gaussian latents: what it encodes has next to no variance. The codebook is part of decoding.
    """

    def __init__(self, config: VAEConfig) -> None:
        if config.codes is None:
            raise ValueError("AutoencoderVQ: expected a config with codes, found one without; AutoencoderKL has Gaussian latents")
        super().__init__(config)
        self.quantize = VectorQuantiser(config.codes, config.latent_channels)

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) in [-1, 1] -> the latent before it is quantised, (B, c, h, w), and its log-variance, -30 everywhere.

        A diffusion model works on this latent.
        """
        latent: Tensor = self.quant_conv(self.encoder(pixels))
        return latent, torch.full_like(latent, _NO_VARIANCE)

    def decode(self, latent: Tensor) -> Tensor:
        """Any latent (B, c, h, w), of which the nearest vectors are decoded -> (B, 3, h * factor, w * factor), about [-1, 1]."""
        return self.decode_quantised(self.quantize(latent).latent)

    def decode_quantised(self, latent: Tensor) -> Tensor:
        """A quantised latent (B, c, h, w) -> (B, 3, h * factor, w * factor)."""
        return super().decode(latent)


def autoencoder(config: VAEConfig) -> AutoencoderKL:
    """A new autoencoder of this config: with a codebook if the config has codes, else with Gaussian latents."""
    return AutoencoderKL(config) if config.codes is None else AutoencoderVQ(config)
