"""Denoisers: the one function that samplers see, made from a network, prompts and masks by wrapping."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from nodegraph_diffusion.denoising.batching import Sides
from nodegraph_diffusion.denoising.noise_schedule import NoiseSchedule
from nodegraph_diffusion.denoising.unet_denoiser import UNetDenoiser as UNetDenoiser
from nodegraph_diffusion.networks.attention import AttentionHook

if TYPE_CHECKING:
    from nodegraph_diffusion.sampling.protocols import GuidedDenoise


class Denoiser(Protocol):
    """Estimates the clean latent in a noisy one. `schedule` holds the noise levels that it knows."""

    @property
    def schedule(self) -> NoiseSchedule: ...

    def __call__(self, x: Tensor, sigma: float | Tensor, /) -> Tensor:
        """(B, C, h, w) float32 and its noise level, a float or a 0-dim CPU tensor -> (B, C, h, w) float32."""
        ...


class Predictions(NamedTuple):
    """What was seen in a latent: under both sides with guidance, and under each alone; all (B, C, h, w)."""

    denoised: Tensor
    positive: Tensor
    negative: Tensor


Side = Literal["positive", "negative"]


class GuidedDenoiser(Denoiser, Protocol):
    """A denoiser with two sides, which guidance can look at and change. What wraps one is one again."""

    def predict(self, x: Tensor, sigma: float | Tensor, /, negative: bool = True) -> Predictions:
        """The estimate and what it was made from, from one pass over both sides.

        `negative` False says that nobody looks at that side: where the estimate does not hang on it, it is not asked, and
        what the positive side sees stands in its place.
        """
        ...

    def side(self, which: Side, x: Tensor, sigma: float | Tensor, /, attention: AttentionHook | None = None) -> Tensor:
        """What one side sees alone, (B, C, h, w); `attention` takes the place of the network's self-attentions."""
        ...


class ClassifierFreeGuidance:
    """Away from what one denoiser sees and toward what another does: `negative + cfg * (positive - negative)`.

    Ho & Salimans 2022, Eq. 6, with cfg = 1 + w, over denoised latents. `cfg` 1 is `positive` alone. Two prompts of one
    UNet go through it as one batch of 2B where their lengths allow.
    """

    def __init__(self, positive: Denoiser, negative: Denoiser, cfg: float) -> None:
        require_finite(cfg=cfg)
        self.sides, self.cfg = Sides(positive, negative), cfg
        self.schedule = self.sides.schedule

    def __call__(self, x: Tensor, sigma: float | Tensor, /) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        return self.predict(x, sigma, negative=False).denoised

    def predict(self, x: Tensor, sigma: float | Tensor, /, negative: bool = True) -> Predictions:
        """The estimate, and what each side sees."""
        if self.cfg == 1 and not negative:
            return Predictions(*[self.side("positive", x, sigma)] * 3)
        toward, away = self.sides(x, sigma)
        return Predictions(away + self.cfg * (toward - away), toward, away)

    def side(self, which: Side, x: Tensor, sigma: float | Tensor, /, attention: AttentionHook | None = None) -> Tensor:
        """What one side sees alone. Raises ValueError for an `attention` where the denoiser of that side is no network."""
        return self.sides.alone(0 if which == "positive" else 1, x, sigma, attention)


class Guided:
    """A denoiser whose estimate `combine(x, sigma, predictions)` makes anew from what the two sides of another see.

    `negative` says whether it looks at that side.
    """

    def __init__(
        self, denoiser: GuidedDenoiser, combine: Callable[[Tensor, float, Predictions], Tensor], negative: bool = True
    ) -> None:
        self.denoiser, self.combine, self.negative = denoiser, combine, negative
        self.schedule = denoiser.schedule

    def __call__(self, x: Tensor, sigma: float | Tensor, /) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        return self.predict(x, sigma, negative=False).denoised

    def predict(self, x: Tensor, sigma: float | Tensor, /, negative: bool = True) -> Predictions:
        """What the other one predicts, with the estimate made anew."""
        seen = self.denoiser.predict(x, sigma, negative or self.negative)
        return seen._replace(denoised=self.combine(x, float(sigma), seen))

    def side(self, which: Side, x: Tensor, sigma: float | Tensor, /, attention: AttentionHook | None = None) -> Tensor:
        """What the other one sees with one side."""
        return self.denoiser.side(which, x, sigma, attention)


class _Unguided:
    """A denoiser with nothing to be guided away from: both sides of it are itself."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser, self.sides = denoiser, Sides(denoiser)
        self.schedule = denoiser.schedule

    def __call__(self, x: Tensor, sigma: float | Tensor, /) -> Tensor:
        return self.denoiser(x, sigma)

    def predict(self, x: Tensor, sigma: float | Tensor, /, negative: bool = True) -> Predictions:
        return Predictions(*[self.denoiser(x, sigma)] * 3)

    def side(self, which: Side, x: Tensor, sigma: float | Tensor, /, attention: AttentionHook | None = None) -> Tensor:
        return self.sides.alone(0, x, sigma, attention)


def with_sides(denoiser: Denoiser) -> GuidedDenoiser:
    """The denoiser itself where it has two sides, else one whose two sides are the same."""
    return denoiser if hasattr(denoiser, "predict") and hasattr(denoiser, "side") else _Unguided(denoiser)  # type: ignore[return-value]


class MaskedDenoiser:
    """Changes only what a mask shows white: elsewhere the latent is known, and so is what noise would make of it.

    With the mask m, each call sees x * m + (latent + sigma * noise) * (1 - m), and its result becomes
    denoised * m + latent * (1 - m) (the blending of RePaint, Lugmayr et al. 2022, Eq. 8, with one fixed noise).
    `latent` and `noise` are (B, C, h, w); `mask` is (B or 1, H, W) or (B or 1, 1, H, W) in [0, 1], resized bilinearly.
    With the noise levels of a run as `differential`, a grey says how long a cell is kept: m is 1 where the mask is at least the
    part of the timesteps that are left, else 0 (Levin & Fried 2023, "Differential Diffusion", Alg. 1), and 0 where it is black.
    """

    def __init__(self, denoiser: Denoiser, latent: Tensor, noise: Tensor, mask: Tensor, differential: Tensor | None = None) -> None:
        self.denoiser, self.latent, self.noise = with_sides(denoiser), latent, noise
        self.schedule = denoiser.schedule
        self.mask = latent_mask(mask, latent)
        self._span: tuple[float, float] | None = None
        if differential is not None:
            end = max(float(differential[-1]), self.schedule.sigma_min)
            self._span = float(self.schedule.timestep(differential[0])), float(self.schedule.timestep(end))

    def __call__(self, x: Tensor, sigma: float | Tensor, /) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        mask = self._mask_at(sigma)
        return torch.lerp(self.latent, self.denoiser(self._seen(x, sigma, mask), sigma), mask)

    def predict(self, x: Tensor, sigma: float | Tensor, /, negative: bool = True) -> Predictions:
        """The masked estimate, and what the sides see without the mask."""
        mask = self._mask_at(sigma)
        seen = self.denoiser.predict(self._seen(x, sigma, mask), sigma, negative)
        return seen._replace(denoised=torch.lerp(self.latent, seen.denoised, mask))

    def side(self, which: Side, x: Tensor, sigma: float | Tensor, /, attention: AttentionHook | None = None) -> Tensor:
        """What one side sees, without the mask on the result."""
        return self.denoiser.side(which, self._seen(x, sigma, self._mask_at(sigma)), sigma, attention)

    def _seen(self, x: Tensor, sigma: float | Tensor, mask: Tensor) -> Tensor:
        return torch.lerp(self.latent + self.noise * sigma, x, mask)

    def _mask_at(self, sigma: float | Tensor) -> Tensor:
        if self._span is None:
            return self.mask
        start, end = self._span
        left = (float(self.schedule.timestep(sigma)) - end) / (start - end) if start != end else 0.0
        return ((self.mask >= left) & (self.mask > 0)).to(self.mask)


def guided(denoiser: Denoiser) -> GuidedDenoise:
    """The denoiser as samplers get it."""
    return _Denoise(with_sides(denoiser))


class _Denoise:
    def __init__(self, denoiser: GuidedDenoiser) -> None:
        self.denoiser, self.schedule = denoiser, denoiser.schedule

    def __call__(self, x: Tensor, sigma: float, /) -> Tensor:
        return self.denoiser(x, sigma)

    def guided(self, x: Tensor, sigma: float, /) -> tuple[Tensor, Tensor]:
        seen = self.denoiser.predict(x, sigma)
        return seen.denoised, seen.negative


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


def require_finite(**options: float) -> None:
    """Raise ValueError for a scale that is no finite number."""
    for name, value in options.items():
        if not math.isfinite(value):
            raise ValueError(f"guidance: expected a finite {name}, found {value}; 1 is no guidance, 3 to 8 are usual")
