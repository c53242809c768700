"""A mask on a denoiser: only a part of the latent changes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nodegraph_diffusion.denoising.protocols import Condition, Denoiser, Predictions
from nodegraph_diffusion.denoising.unguided import as_guided
from nodegraph_diffusion.denoising.wrapper import DenoiserWrapper
from nodegraph_diffusion.networks.attention import AttentionHook


class MaskedDenoiser(DenoiserWrapper):
    """A denoiser that changes only what a mask shows white; the rest of the latent is known.

    With the mask m, the denoiser sees x * m + (latent + sigma * noise) * (1 - m), and its estimate becomes
    denoised * m + latent * (1 - m) (the blending of RePaint, Lugmayr et al. 2022, Eq. 8, with one fixed noise).
    `latent` and `noise` are (B, C, h, w); `mask` is (B or 1, H, W) or (B or 1, 1, H, W) in [0, 1], resized bilinearly.
    With the noise levels of a run as `differential`, a grey sets how long a cell is kept: m is 1 if the mask is at least the
    remaining part of the timesteps, else 0 (Levin & Fried 2023, "Differential Diffusion", Alg. 1), and 0 where it is black.
    """

    def __init__(self, denoiser: Denoiser, latent: Tensor, noise: Tensor, mask: Tensor, differential: Tensor | None = None) -> None:
        super().__init__(as_guided(denoiser))
        self.latent, self.noise = latent, noise
        self.mask = latent_mask(mask, latent)
        self._timesteps: tuple[float, float] | None = None  # of the run's first level and of its last
        if differential is not None:
            end = max(float(differential[-1]), self.noise_schedule.sigma_min)
            first, last = (self.noise_schedule.timestep(sigma) for sigma in (differential[0], end))
            self._timesteps = float(first), float(last)

    def __call__(self, x: Tensor, sigma: float | Tensor, /) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        mask = self._mask_at(sigma)
        return torch.lerp(self.latent, self.denoiser(self._blend(x, sigma, mask), sigma), mask)

    def predict(self, x: Tensor, sigma: float | Tensor, /, negative: bool = True) -> Predictions:
        """The masked estimate, and the positive and negative predictions without the mask."""
        mask = self._mask_at(sigma)
        predictions = self.denoiser.predict(self._blend(x, sigma, mask), sigma, negative)
        return predictions._replace(denoised=torch.lerp(self.latent, predictions.denoised, mask))

    def predict_one(
        self, condition: Condition, x: Tensor, sigma: float | Tensor, /, attention: AttentionHook | None = None
    ) -> Tensor:
        """The estimate under one condition, without the mask on the result."""
        return self.denoiser.predict_one(condition, self._blend(x, sigma, self._mask_at(sigma)), sigma, attention)

    def _blend(self, x: Tensor, sigma: float | Tensor, mask: Tensor) -> Tensor:
        """What the denoiser sees: x where the mask is white, the noised known latent where it is black."""
        return torch.lerp(self.latent + self.noise * sigma, x, mask)

    def _mask_at(self, sigma: float | Tensor) -> Tensor:
        if self._timesteps is None:
            return self.mask
        start, end = self._timesteps
        remaining = (float(self.noise_schedule.timestep(sigma)) - end) / (start - end) if start != end else 0.0
        return ((self.mask >= remaining) & (self.mask > 0)).to(self.mask)


def latent_mask(mask: Tensor, latent: Tensor) -> Tensor:
    """A picture's mask (B or 1, H, W) or (B or 1, 1, H, W), resized bilinearly to `latent` (B, C, h, w): (B, C, h, w).

    Raises ValueError for other shapes.
    """
    planes = mask[:, None] if mask.ndim == 3 else mask
    batch = latent.shape[0]
    if planes.ndim != 4 or planes.shape[1] != 1 or planes.shape[0] not in (1, batch):
        raise ValueError(
            f"mask: expected shape (H, W) for each of {batch} pictures or for one, that is ({batch} or 1, H, W), "
            f"found {tuple(mask.shape)}; give one mask, or one for each picture"
        )
    resized = F.interpolate(planes.to(latent), size=latent.shape[-2:], mode="bilinear")
    return resized.expand_as(latent)
