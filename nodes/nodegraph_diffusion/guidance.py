"""Denoisers: the one function that samplers see, made from a network, prompts and masks by wrapping."""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from nodegraph_diffusion.denoiser import PromptedUNet
from nodegraph_diffusion.denoiser import UNetDenoiser as UNetDenoiser
from nodegraph_diffusion.schedule import NoiseSchedule


class Denoiser(Protocol):
    """Estimates the clean latent in a noisy one. `schedule` holds the noise levels that it knows."""

    @property
    def schedule(self) -> NoiseSchedule: ...

    def __call__(self, x: Tensor, sigma: float | Tensor, /) -> Tensor:
        """(B, C, h, w) float32 and its noise level, a float or a 0-dim CPU tensor -> (B, C, h, w) float32."""
        ...


class ClassifierFreeGuidance:
    """Away from what one denoiser sees and toward what another does: `negative + cfg * (positive - negative)`.

    Ho & Salimans 2022, Eq. 6, with cfg = 1 + w, over denoised latents. `cfg` 1 is `positive` alone. Two prompts of one
    UNet go through it as one batch of 2B where their lengths allow.
    """

    def __init__(self, positive: Denoiser, negative: Denoiser, cfg: float) -> None:
        if not math.isfinite(cfg):
            raise ValueError(f"guidance: expected a finite cfg, found {cfg}; 1 is no guidance, 3 to 8 are usual")
        if positive.schedule != negative.schedule:
            raise ValueError(
                f"guidance: expected both denoisers to know the same noise levels, found {positive.schedule} and "
                f"{negative.schedule}; make both from one model"
            )
        self.positive, self.negative, self.cfg = positive, negative, cfg
        self.schedule = positive.schedule
        self._both = _joined(positive, negative)

    def __call__(self, x: Tensor, sigma: float | Tensor, /) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        if self.cfg == 1:
            return self.positive(x, sigma) if self._both is None else self._both(x, sigma, first=1)[0]
        if self._both is None:
            positive, negative = self.positive(x, sigma), self.negative(x, sigma)
        else:
            positive, negative = self._both(x, sigma)
        return negative + self.cfg * (positive - negative)


class MaskedDenoiser:
    """Changes only what a mask shows white: elsewhere the latent is known, and so is what noise would make of it.

    With the mask m, each call sees x * m + (latent + sigma * noise) * (1 - m), and its result becomes
    denoised * m + latent * (1 - m) (the blending of RePaint, Lugmayr et al. 2022, Eq. 8, with one fixed noise).
    `latent` and `noise` are (B, C, h, w); `mask` is (B or 1, H, W) or (B or 1, 1, H, W) in [0, 1], resized bilinearly.
    """

    def __init__(self, denoiser: Denoiser, latent: Tensor, noise: Tensor, mask: Tensor) -> None:
        self.denoiser, self.latent, self.noise = denoiser, latent, noise
        self.schedule = denoiser.schedule
        self.mask = latent_mask(mask, latent)

    def __call__(self, x: Tensor, sigma: float | Tensor, /) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        known = self.latent + self.noise * sigma
        denoised = self.denoiser(torch.lerp(known, x, self.mask), sigma)
        return torch.lerp(self.latent, denoised, self.mask)


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


def _joined(positive: Denoiser, negative: Denoiser) -> PromptedUNet | None:
    """Both as one, where they are one UNet's: their areas get opposites, and their prompts share batches."""
    if not isinstance(positive, UNetDenoiser) or not isinstance(negative, UNetDenoiser):
        return None
    return positive.network.beside(negative.network)
