"""Denoisers: the one function that samplers see, made from a network, prompts and masks by wrapping."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from nodegraph_diffusion.schedule import NoiseSchedule

if TYPE_CHECKING:
    from nodegraph_diffusion.attention import Context
    from nodegraph_diffusion.unet import UNet

Controls = tuple[tuple[Tensor, ...], Tensor]  # residuals of the skips, in order of `input_blocks`, and of the middle

MAX_REPEATS = 4  # a prompt is repeated at most so often to share a batch with a longer one


class Denoiser(Protocol):
    """Estimates the clean latent in a noisy one. `schedule` holds the noise levels that it knows."""

    @property
    def schedule(self) -> NoiseSchedule: ...

    def __call__(self, x: Tensor, sigma: float | Tensor, /) -> Tensor:
        """(B, C, h, w) float32 and its noise level, a float or a 0-dim CPU tensor -> (B, C, h, w) float32."""
        ...


class Control(Protocol):
    """Guides a UNet by residuals, while the sampling is between `start` and `end`: parts of it, by timesteps."""

    @property
    def start(self) -> float: ...

    @property
    def end(self) -> float: ...

    def __call__(self, x: Tensor, timesteps: Tensor, context: Tensor, added: Tensor | None, /) -> Controls:
        """What the UNet sees, without the channels appended to it: x (B, C, h, w), timesteps (B,), prompts (B, L, D) and the
        vector conditioning (B, A). Between calls with the same prompts, `context` is the same tensor."""
        ...


class UNetDenoiser:
    """A UNet under one prompt, or under several at once.

    `contexts` are prompts (1 or B, L, D); with n of them, the batch is n times the pictures, the first prompt's first.
    They are projected to keys and values on the first call and kept for the others. The network computes on its own
    device and in its own dtype; what goes in and comes out is float32.
    """

    def __init__(self, unet: UNet, schedule: NoiseSchedule, *contexts: Tensor) -> None:
        if not contexts:
            raise ValueError("UNetDenoiser: expected at least one encoded prompt (1 or B, L, D), found none")
        self.unet = unet
        self.schedule = schedule
        self.contexts = contexts
        self._projected: tuple[object, Context] | None = None

    def __call__(self, x: Tensor, sigma: float | Tensor, /) -> Tensor:
        """(n * B, C, h, w) -> (n * B, C, h, w).

        Karras et al. 2022, sec. 5, writes the wrapping as c_skip, c_in, c_out and c_noise. The timestep is the nearest
        trained one: a network has not seen any others.
        """
        level = float(sigma)
        weight = next(self.unet.parameters())
        timestep = float(self.schedule.timestep(level).round())
        c_in = 1 / math.sqrt(1 + level**2)
        predicted: Tensor = self.unet(
            (x * c_in).to(weight),
            torch.full((x.shape[0],), timestep, device=weight.device),
            self._context(x.shape[0], weight),
        ).to(x)
        if self.schedule.prediction == "v":
            return x * c_in**2 - predicted * (level * c_in)
        return x - predicted * level

    def _context(self, batch: int, weight: Tensor) -> Context:
        key = (batch, weight.device, weight.dtype)
        if self._projected is None or self._projected[0] != key:
            stacked = torch.cat([_for_pictures(c, batch // len(self.contexts)) for c in _same_length(self.contexts)])
            self._projected = (key, self.unet.project_context(stacked.to(weight)))
        return self._projected[1]


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
            return self.positive(x, sigma)
        if self._both is None:
            positive, negative = self.positive(x, sigma), self.negative(x, sigma)
        else:
            positive, negative = self._both(torch.cat([x, x]), sigma).chunk(2)  # (2B, C, h, w)
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


def _joined(positive: Denoiser, negative: Denoiser) -> UNetDenoiser | None:
    """Both as one denoiser of twice the batch, where they are one UNet's and no prompt would be repeated too often."""
    if not isinstance(positive, UNetDenoiser) or not isinstance(negative, UNetDenoiser):
        return None
    if positive.unet is not negative.unet or len(positive.contexts) != len(negative.contexts):
        return None
    contexts = (*positive.contexts, *negative.contexts)
    lengths = [context.shape[1] for context in contexts]
    if math.lcm(*lengths) > MAX_REPEATS * min(lengths):
        return None
    return UNetDenoiser(positive.unet, positive.schedule, *contexts)


def _same_length(contexts: Sequence[Tensor]) -> list[Tensor]:
    """Each of (b, L_i, D) repeated along L to the least common multiple: attention gives the same result, since every
    key is there equally often."""
    length = math.lcm(*(context.shape[1] for context in contexts))
    return [context.repeat(1, length // context.shape[1], 1) for context in contexts]


def _for_pictures(context: Tensor, batch: int) -> Tensor:
    """(1 or batch, L, D) -> (batch, L, D)."""
    if context.shape[0] not in (1, batch):
        raise ValueError(
            f"prompt: expected one encoding for all of {batch} pictures or one for each, found {context.shape[0]}; "
            "encode one prompt, or as many as there are pictures"
        )
    return context.expand(batch, -1, -1)
