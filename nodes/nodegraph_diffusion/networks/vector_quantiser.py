"""An autoencoder's bottleneck with a finite number of values (van den Oord et al. 2017, VQ-VAE)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn


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
