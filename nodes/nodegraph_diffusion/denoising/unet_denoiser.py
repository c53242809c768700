"""A UNet under prompts as a denoiser, in as few and as large batches as they allow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from nodegraph_diffusion.conditioning.prompt import Prompt
from nodegraph_diffusion.conditioning.regions import Region, arrange, mix, noise_level
from nodegraph_diffusion.conditioning.sdxl_sizes import AESTHETIC, UNAESTHETIC, vector_conditioning
from nodegraph_diffusion.denoising.noise_schedule import NoiseSchedule
from nodegraph_diffusion.networks.unet import guidance_embedding

if TYPE_CHECKING:
    from nodegraph_diffusion.networks.attention import AttentionHook, Context
    from nodegraph_diffusion.networks.unet import Controls, UNet

MAX_REPEATS = 4  # a prompt is repeated at most so often to share a batch with a longer one


class Control(Protocol):
    """Guides a UNet by residuals, while the sampling is between `start` and `end`: parts of it, by timesteps."""

    @property
    def start(self) -> float: ...

    @property
    def end(self) -> float: ...

    def __call__(self, x: Tensor, timesteps: Tensor, context: Tensor, added: Tensor | None, /) -> Controls:
        """What the UNet sees, without the channels beside the latent: x (n * B, C, h, w), or a part of it where prompts have
        areas, timesteps (n * B,), prompts (n * B, L, D) and the vector conditioning (n * B, A), for n prompts, the first one's
        pictures first. Between calls with the same prompts, `context` is the same tensor."""
        ...


@dataclass(frozen=True, eq=False)
class _Batch:
    """Regions of one shape that the network sees at once, each with the side that it belongs to, and what it is told."""

    regions: tuple[tuple[int, Region], ...]
    context: Tensor
    projected: Context
    added: Tensor | None
    concat: Tensor | None


@dataclass(frozen=True, eq=False)
class _Plan:
    """The regions of each side in latents of one shape, and the batches for those of them that were asked for."""

    key: object
    sides: list[list[Region]]
    batches: dict[tuple[tuple[int, Region], ...], list[_Batch]] = field(default_factory=dict)


class PromptedUNet:
    """A UNet that denoises a latent under several sides at once, each of one prompt or a mixture of several.

    A side is prompts, or the encoding of one (1 or B, L, D). `concat` (1 or B, C', h, w) are channels that the network sees
    beside the latent, (..., 1, 1) if they are the same in every cell; `controls` guide it; `cell` is the pixels of a latent's
    cell along a side; `guidance` is the scale w that a network distilled with guidance is told of, 0 for none. A refiner is
    told of a good picture on the first side, of a bad one on the others. The network computes on its own device and in its
    own dtype; what goes in and comes out is float32. Raises ValueError for a side without prompts.
    """

    def __init__(
        self,
        unet: UNet,
        schedule: NoiseSchedule,
        sides: Sequence[Tensor | Sequence[Prompt]],
        *,
        concat: Tensor | None = None,
        controls: Sequence[Control] = (),
        cell: int = 8,
        guidance: float | None = None,
    ) -> None:
        self.unet, self.schedule, self.concat, self.controls, self.cell = unet, schedule, concat, tuple(controls), cell
        self.guidance = guidance
        self.sides = tuple((Prompt(side),) if isinstance(side, Tensor) else tuple(side) for side in sides)
        if not all(self.sides):
            raise ValueError("PromptedUNet: expected at least one encoded prompt (1 or B, L, D), found none")
        self._plan: _Plan | None = None

    def beside(self, other: PromptedUNet) -> PromptedUNet | None:
        """Both as one, where they are one network that sees the same besides its prompts."""
        if self.unet is not other.unet or self.concat is not other.concat or self.controls != other.controls:
            return None
        if self.guidance != other.guidance:
            return None
        return PromptedUNet(
            self.unet,
            self.schedule,
            (*self.sides, *other.sides),
            concat=self.concat,
            controls=self.controls,
            cell=self.cell,
            guidance=self.guidance,
        )

    def __call__(
        self, x: Tensor, sigma: float | Tensor, only: Sequence[int] | None = None, attention: AttentionHook | None = None
    ) -> list[Tensor]:
        """What each side sees in x (B, C, h, w), or `only` these of them: as many of that shape.

        `attention` takes the place of the network's self-attentions.
        """
        level = float(sigma)
        weight = next(self.unet.parameters())
        plan = self._planned(x, weight)
        sides = range(len(plan.sides)) if only is None else only
        active = tuple((k, region) for k in sides for region in plan.sides[k] if region.counts_at(level))
        if active not in plan.batches:
            groups = _grouped(active, (x.shape[-2], x.shape[-1]), len(self.sides))
            plan.batches[active] = [self._batch(group, x, weight) for group in groups]
        parts: dict[int, list[tuple[Region, Tensor]]] = {k: [] for k in sides}
        for batch in plan.batches[active]:
            denoised = self._denoised(batch, x, level, weight, attention).chunk(len(batch.regions))
            for (k, region), part in zip(batch.regions, denoised, strict=True):
                parts[k].append((region, part))
        return [mix(side, x) for side in parts.values()]

    def _denoised(self, batch: _Batch, x: Tensor, level: float, weight: Tensor, attention: AttentionHook | None) -> Tensor:
        """The denoised cuts of x, (n * B, C, h, w) for n regions.

        Karras et al. 2022, sec. 5, writes the wrapping as c_skip, c_in, c_out and c_noise.
        """
        cuts = torch.cat([region.cut(x) for _, region in batch.regions])
        timestep = float(self.schedule.nearest_step(level))
        timesteps = torch.full((cuts.shape[0],), timestep, device=weight.device)
        c_in = 1 / math.sqrt(1 + level**2)
        seen = (cuts * c_in).to(weight)
        controls = self._controls(seen, timesteps, batch, level)
        if batch.concat is not None:
            seen = torch.cat([seen, batch.concat], dim=1)
        told = self._told(weight)
        predicted: Tensor = self.unet(seen, timesteps, batch.projected, batch.added, controls, attention, **told).to(x)
        if self.schedule.prediction == "v":
            return cuts * c_in**2 - predicted * (level * c_in)
        return cuts - predicted * level

    def _told(self, weight: Tensor) -> dict[str, Tensor]:
        """What only a network that was distilled with guidance is told: the embedding of its scale, (1, guidance_dim)."""
        if self.guidance is None or (width := self.unet.config.guidance_dim) is None:
            return {}
        return {"guidance": guidance_embedding(self.guidance, width).to(weight)}

    def _controls(self, seen: Tensor, timesteps: Tensor, batch: _Batch, level: float) -> Controls | None:
        """The sum of the residuals of all controls that count at this noise level."""
        total: Controls | None = None
        for control in self.controls:
            if noise_level(self.schedule, control.end) <= level <= noise_level(self.schedule, control.start):
                skips, middle = control(seen, timesteps, batch.context, batch.added)
                if total is not None:
                    skips, middle = tuple(a + b for a, b in zip(total[0], skips, strict=True)), total[1] + middle
                total = skips, middle
        return total

    def _planned(self, x: Tensor, weight: Tensor) -> _Plan:
        key = (x.shape, x.device, weight.device, weight.dtype)
        if self._plan is None or self._plan.key != key:
            self._plan = _Plan(key, arrange(self.sides, x, self.schedule, self.cell))
        return self._plan

    def _batch(self, regions: Sequence[tuple[int, Region]], x: Tensor, weight: Tensor) -> _Batch:
        pictures = x.shape[0]
        contexts = _same_length([region.prompt.embedding for _, region in regions])
        context = torch.cat([_for_pictures(context, pictures) for context in contexts]).to(weight)
        added = concat = None
        if (width := self.unet.config.added_dim) is not None:
            size = (x.shape[-2] * self.cell, x.shape[-1] * self.cell)
            told = (vector_conditioning(one.prompt, size, UNAESTHETIC if k else AESTHETIC, width) for k, one in regions)
            added = torch.cat([_for_pictures(vector, pictures) for vector in told]).to(weight)
        if self.concat is not None:
            cuts = (region.cut(_beside(x, self.concat)) for _, region in regions)
            concat = torch.cat([_for_pictures(cut, pictures) for cut in cuts]).to(weight)
        return _Batch(tuple(regions), context, self.unet.project_context(context), added, concat)


class UNetDenoiser:
    """A UNet under one prompt or a mixture of several: a `PromptedUNet` with one side."""

    def __init__(
        self,
        unet: UNet,
        schedule: NoiseSchedule,
        prompts: Tensor | Sequence[Prompt],
        *,
        concat: Tensor | None = None,
        controls: Sequence[Control] = (),
        cell: int = 8,
        guidance: float | None = None,
    ) -> None:
        self.network = PromptedUNet(unet, schedule, [prompts], concat=concat, controls=controls, cell=cell, guidance=guidance)
        self.schedule = schedule

    def __call__(self, x: Tensor, sigma: float | Tensor, attention: AttentionHook | None = None, /) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w); `attention` takes the place of the network's self-attentions."""
        return self.network(x, sigma, attention=attention)[0]


def _grouped(regions: Sequence[tuple[int, Region]], size: tuple[int, int], limit: int) -> list[list[tuple[int, Region]]]:
    """The regions in batches of one shape, none with more cells than `limit` whole latents of `size` (h, w) have."""
    groups: list[list[tuple[int, Region]]] = []
    for member in regions:
        for group in groups:
            if _fits(member[1], [region for _, region in group], size, limit):
                group.append(member)
                break
        else:
            groups.append([member])
    return groups


def _fits(region: Region, others: Sequence[Region], size: tuple[int, int], limit: int) -> bool:
    shape, expected = (size if one.box is None else one.box[:2] for one in (region, others[0]))
    if shape != expected or math.prod(shape) * (len(others) + 1) > math.prod(size) * limit:
        return False
    lengths = [one.prompt.embedding.shape[1] for one in (region, *others)]
    return math.lcm(*lengths) <= MAX_REPEATS * min(lengths)  # else a prompt would be repeated too often


def _same_length(contexts: Sequence[Tensor]) -> list[Tensor]:
    """Each of (b, L_i, D) repeated along L to the least common multiple: attention gives the same result, since every
    key is there equally often."""
    length = math.lcm(*(context.shape[1] for context in contexts))
    return [context.repeat(1, length // context.shape[1], 1) for context in contexts]


def _for_pictures(told: Tensor, batch: int) -> Tensor:
    """(1 or batch, ...) -> (batch, ...)."""
    if told.shape[0] not in (1, batch):
        raise ValueError(
            f"prompt: expected one encoding for all of {batch} pictures or one for each, found {told.shape[0]}; "
            "encode one prompt, or as many as there are pictures"
        )
    return told.expand(batch, *told.shape[1:])


def _beside(x: Tensor, concat: Tensor) -> Tensor:
    """The channels beside x (B, C, h, w), where they fit it: (1 or B, C', h, w)."""
    if tuple(concat.shape[-2:]) not in ((x.shape[-2], x.shape[-1]), (1, 1)) or concat.shape[0] not in (1, x.shape[0]):
        raise ValueError(
            f"the channels beside the latent: expected ({x.shape[0]} or 1, C, {x.shape[-2]}, {x.shape[-1]}), as the latent has, "
            f"found {tuple(concat.shape)}; give a picture of the latent's size, or one for each latent"
        )
    return concat.expand(-1, -1, *x.shape[-2:])
