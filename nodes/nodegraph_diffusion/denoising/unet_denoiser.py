"""A UNet under prompts as a denoiser, evaluated in as few and as large batches as possible."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from nodegraph_diffusion.conditioning.prompt import Prompt
from nodegraph_diffusion.conditioning.regions import Region, arrange, mix
from nodegraph_diffusion.conditioning.sdxl_sizes import AESTHETIC, UNAESTHETIC, vector_conditioning
from nodegraph_diffusion.denoising.beside import channels_beside, fitting
from nodegraph_diffusion.denoising.current_step import current_step
from nodegraph_diffusion.denoising.threads import more_threads
from nodegraph_diffusion.networks.source import NetworkSource, network_from
from nodegraph_diffusion.networks.unet import EncoderMaps, guidance_embedding
from nodegraph_diffusion.noise_schedule import NoiseSchedule

if TYPE_CHECKING:
    from nodegraph_diffusion.networks.attention import AttentionHook, Context, TokenHook
    from nodegraph_diffusion.networks.unet import Controls, UNet

MAX_REPEATS = 4  # how often a prompt is repeated at most to share a batch with a longer one

IndexedRegion = tuple[int, Region]
"""A region, and the index of the conditioning that it belongs to."""


class Control(Protocol):
    """Guides a UNet between `start` and `end`, fractions of the sampling by timesteps.

    What it returns says where it enters: `Controls` are residuals for the skip connections and the middle block, as a ControlNet
    has them; `EncoderMaps` are added in the encoder; a `TokenHook` changes the tokens of transformer blocks.
    """

    @property
    def start(self) -> float: ...

    @property
    def end(self) -> float: ...

    def __call__(
        self, x: Tensor, timesteps: Tensor, context: Tensor, added: Tensor | None, /
    ) -> Controls | EncoderMaps | TokenHook:
        """The changes for what the UNet sees, without the channels beside the latent.

        For n prompts these are x (n * B, C, h, w), or a part of it if prompts have areas, timesteps (n * B,), prompts (n * B, L, D)
        and the vector conditioning (n * B, A). The first prompt's pictures come first. Calls with the same prompts pass the same
        tensor as `context`.
        """
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class _Batch:
    """Regions of one shape that the network sees at once, and its other inputs."""

    regions: tuple[IndexedRegion, ...]
    context: Tensor
    projected: Context
    added: Tensor | None
    concat: Tensor | None


@dataclass(frozen=True, eq=False)
class _Plan:
    """The regions of each conditioning in latents of one shape, and the batches of those that were evaluated together.

    `beside` are the channels beside the latent.
    """

    key: object
    beside: Tensor | None
    regions: list[list[Region]]
    batches: dict[tuple[IndexedRegion, ...], list[_Batch]] = field(default_factory=dict)


class ConditionedUNet:
    """A UNet that denoises a latent under several conditionings at once.

    A conditioning is one prompt or several, whose predictions are mixed, or the encoding of one (1 or B, L, D). `concat`
    (1 or B, C', h, w) are channels that the network sees beside the latent, (..., 1, 1) if they are the same in every cell. Without
    them, an inpainting network sees the latent that is repainted and its mask, and otherwise `no_picture`. `controls` change what
    happens inside. `cell` is the side of a latent cell in pixels. `guidance` is the scale w for a network that was distilled with
    guidance, 0 for none. The refiner of SDXL receives a high aesthetic score for the first conditioning and a low one for the
    others. The network computes on its own device and in its own dtype; inputs and results are float32. If it comes from a source,
    only calls hold it. Raises ValueError for a conditioning without prompts.
    """

    def __init__(
        self,
        unet: UNet | NetworkSource[UNet],
        noise_schedule: NoiseSchedule,
        conditionings: Sequence[Tensor | Sequence[Prompt]],
        *,
        concat: Tensor | None = None,
        no_picture: Tensor | None = None,
        controls: Sequence[Control] = (),
        cell: int = 8,
        guidance: float | None = None,
    ) -> None:
        self.unet, self.noise_schedule = unet, noise_schedule
        self.concat, self.no_picture = concat, no_picture
        self.controls, self.cell, self.guidance = tuple(controls), cell, guidance
        self.conditionings = tuple((Prompt(one),) if isinstance(one, Tensor) else tuple(one) for one in conditionings)
        if not all(self.conditionings):
            raise ValueError("ConditionedUNet: expected at least one encoded prompt (1 or B, L, D), found none")
        self._plans: WeakKeyDictionary[UNet, _Plan] = WeakKeyDictionary()  # freed with their network

    def merged_with(self, other: ConditionedUNet) -> ConditionedUNet | None:
        """One that has the conditionings of both, or None if anything else differs."""
        if self.unet != other.unet or self.concat is not other.concat or self.controls != other.controls:
            return None
        if self.guidance != other.guidance or self.no_picture is not other.no_picture:
            return None
        return ConditionedUNet(
            self.unet,
            self.noise_schedule,
            (*self.conditionings, *other.conditionings),
            concat=self.concat,
            no_picture=self.no_picture,
            controls=self.controls,
            cell=self.cell,
            guidance=self.guidance,
        )

    def __call__(
        self, x: Tensor, sigma: float | Tensor, only: Sequence[int] | None = None, attention: AttentionHook | None = None
    ) -> list[Tensor]:
        """The estimate for x (B, C, h, w) under each conditioning, or under those whose indices are in `only`; shaped like x.

        `attention` replaces the network's self-attentions.
        """
        level = float(sigma)
        unet = network_from(self.unet)
        plan = self._plan_for(x, unet)
        indices = range(len(plan.regions)) if only is None else only
        step = current_step(level)
        active = tuple(
            (index, region)
            for index in indices
            for region in plan.regions[index]
            if region.active_at(level) and region.prompt.applies(*step)
        )
        if active not in plan.batches:
            groups = _grouped(active, (x.shape[-2], x.shape[-1]), len(self.conditionings))
            plan.batches[active] = [self._batch(group, x, plan.beside, unet=unet) for group in groups]
        parts: dict[int, list[tuple[Region, Tensor]]] = {index: [] for index in indices}
        with more_threads(unet):
            for batch in plan.batches[active]:
                denoised = self._denoise(batch, x, level, unet=unet, attention=attention).chunk(len(batch.regions))
                for (index, region), part in zip(batch.regions, denoised, strict=True):
                    parts[index].append((region, part))
        return [mix(regions, x) for regions in parts.values()]

    def _denoise(self, batch: _Batch, x: Tensor, level: float, *, unet: UNet, attention: AttentionHook | None) -> Tensor:
        """The denoised regions of x, (n * B, C, h, w) for n regions.

        Karras et al. 2022, sec. 5, call the scalings c_skip, c_in, c_out and c_noise.
        """
        weight = next(unet.parameters())
        cuts = torch.cat([region.cut(x) for _, region in batch.regions])
        timestep = float(self.noise_schedule.nearest_step(level))
        timesteps = torch.full((cuts.shape[0],), timestep, device=weight.device)
        c_in = 1 / math.sqrt(1 + level**2)
        scaled = (cuts * c_in).to(weight)
        changes = self._changes(scaled, timesteps, batch, level)
        if batch.concat is not None:
            scaled = torch.cat([scaled, batch.concat], dim=1)
        guidance = self._guidance_input(unet, weight)
        predicted: Tensor = unet(scaled, timesteps, batch.projected, batch.added, attention=attention, **changes, **guidance).to(x)
        if self.noise_schedule.prediction == "v":
            return cuts * c_in**2 - predicted * (level * c_in)
        return cuts - predicted * level

    def _guidance_input(self, unet: UNet, weight: Tensor) -> dict[str, Tensor]:
        """The embedding of the guidance scale, (1, guidance_dim), for a network that was distilled with guidance."""
        if self.guidance is None or (width := unet.config.guidance_dim) is None:
            return {}
        return {"guidance": guidance_embedding(self.guidance, width).to(weight)}

    def _changes(self, scaled: Tensor, timesteps: Tensor, batch: _Batch, level: float) -> dict[str, Any]:
        """What the controls that are active at this noise level change, as arguments of the network; residuals are summed."""
        total: Controls | None = None
        maps: list[EncoderMaps] = []
        hooks: list[TokenHook] = []
        for control in self.controls:
            if not self.noise_schedule.sigma_at(control.end) <= level <= self.noise_schedule.sigma_at(control.start):
                continue
            change = control(scaled, timesteps, batch.context, batch.added)
            if isinstance(change, EncoderMaps):
                maps.append(change)
            elif isinstance(change, tuple):
                skips, middle = change
                if total is not None:
                    skips, middle = tuple(a + b for a, b in zip(total[0], skips, strict=True)), total[1] + middle
                total = skips, middle
            else:
                hooks.append(change)
        further = {"encoder_maps": maps, "token_hooks": hooks}
        return {"controls": total, **{name: value for name, value in further.items() if value}}

    def _plan_for(self, x: Tensor, unet: UNet) -> _Plan:
        """The plan for latents like x; the last one is kept as long as the network is in memory."""
        key, plan, beside = (x.shape, x.device), self._plans.get(unet), channels_beside(self.concat, self.no_picture)
        if plan is None or plan.key != key or plan.beside is not beside:
            plan = _Plan(key, beside, arrange(self.conditionings, x, self.noise_schedule, self.cell))
            self._plans[unet] = plan
        return plan

    def _batch(self, regions: Sequence[IndexedRegion], x: Tensor, beside: Tensor | None, *, unet: UNet) -> _Batch:
        weight, pictures = next(unet.parameters()), x.shape[0]
        contexts = _same_length([region.prompt.embedding for _, region in regions])
        context = torch.cat([_for_pictures(context, pictures) for context in contexts]).to(weight)
        added = concat = None
        if (width := unet.config.added_dim) is not None:
            size = (x.shape[-2] * self.cell, x.shape[-1] * self.cell)
            vectors = (vector_conditioning(one.prompt, size, UNAESTHETIC if index else AESTHETIC, width) for index, one in regions)
            added = torch.cat([_for_pictures(vector, pictures) for vector in vectors]).to(weight)
        if beside is not None:
            cuts = (region.cut(fitting(x, beside)) for _, region in regions)
            concat = torch.cat([_for_pictures(cut, pictures) for cut in cuts]).to(weight)
        projected = unet.project_context(context)
        return _Batch(regions=tuple(regions), context=context, projected=projected, added=added, concat=concat)


class UNetDenoiser:
    """A UNet under one conditioning: a prompt or a mixture of several. The options are those of `ConditionedUNet`."""

    def __init__(
        self,
        unet: UNet | NetworkSource[UNet],
        noise_schedule: NoiseSchedule,
        prompts: Tensor | Sequence[Prompt],
        *,
        concat: Tensor | None = None,
        no_picture: Tensor | None = None,
        controls: Sequence[Control] = (),
        cell: int = 8,
        guidance: float | None = None,
    ) -> None:
        self.network = ConditionedUNet(
            unet,
            noise_schedule,
            [prompts],
            concat=concat,
            no_picture=no_picture,
            controls=controls,
            cell=cell,
            guidance=guidance,
        )
        self.noise_schedule = noise_schedule

    def __call__(self, x: Tensor, sigma: float | Tensor, attention: AttentionHook | None = None, /) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w); `attention` replaces the network's self-attentions."""
        return self.network(x, sigma, attention=attention)[0]


def _grouped(regions: Sequence[IndexedRegion], size: tuple[int, int], limit: int) -> list[list[IndexedRegion]]:
    """The regions in batches of one shape, none with more cells than `limit` whole latents of `size` (h, w) have."""
    groups: list[list[IndexedRegion]] = []
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
    return math.lcm(*lengths) <= MAX_REPEATS * min(lengths)


def _same_length(contexts: Sequence[Tensor]) -> list[Tensor]:
    """Each of (b, L_i, D), repeated along L to the least common multiple.

    Attention gives the same result, because every key occurs equally often.
    """
    length = math.lcm(*(context.shape[1] for context in contexts))
    return [context.repeat(1, length // context.shape[1], 1) for context in contexts]


def _for_pictures(values: Tensor, batch: int) -> Tensor:
    """(1 or batch, ...) -> (batch, ...)."""
    if values.shape[0] not in (1, batch):
        raise ValueError(
            f"prompt: expected one encoding for all of {batch} pictures or one for each, found {values.shape[0]}; "
            "encode one prompt, or as many as there are pictures"
        )
    return values.expand(batch, *values.shape[1:])
