"""The region, noise levels and weight of each prompt, and the mixture of their predictions, as in ComfyUI 0.3.64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nodegraph_diffusion.conditioning.prompt import Area, Prompt
from nodegraph_diffusion.noise_schedule import NoiseSchedule

FEATHER = 8  # cells over which an area without a mask fades in, at edges inside the picture
MIN_BOX = 8  # the smallest height and width of the rectangle around a mask, in cells
TINY_WEIGHT = 1e-37  # added to all weights, so that a cell without a prompt is not divided by 0


class Box(NamedTuple):
    """A rectangle of latent cells."""

    height: int
    width: int
    y: int
    x: int

    def cut(self, planes: Tensor) -> Tensor:
        """(..., h, w) -> (..., height, width), a view."""
        return planes[..., self.y : self.y + self.height, self.x : self.x + self.width]

    @property
    def cells(self) -> int:
        return self.height * self.width

    def inside(self, other: Box) -> bool:
        return (
            self.y >= other.y
            and self.x >= other.x
            and self.y + self.height <= other.y + other.height
            and self.x + self.width <= other.x + other.width
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Region:
    """A prompt, the part of the latent that it applies to, and its noise levels.

    `box` None means the whole latent. `weight` of the cells is (1 or B, 1, height, width), None means 1. The prompt is active
    between the noise levels `lowest` and `highest`, both included.
    """

    prompt: Prompt
    box: Box | None
    weight: Tensor | None
    highest: float
    lowest: float

    def active_at(self, sigma: float) -> bool:
        return self.lowest <= sigma <= self.highest

    def cut(self, planes: Tensor) -> Tensor:
        """The cells of (..., h, w) in its box, a view."""
        return planes if self.box is None else self.box.cut(planes)


def arrange(
    conditionings: Sequence[Sequence[Prompt]], latent: Tensor, noise_schedule: NoiseSchedule, cell: int
) -> list[list[Region]]:
    """The regions of the prompts of each conditioning, for a `latent` (B, C, h, w) with cells of `cell` pixels.

    If an area of one conditioning has no counterpart in another one, an opposite is added there: the text of the smallest area
    around it, or of the first prompt for the whole picture, with the area's box, strength, mask and noise levels. Raises
    ValueError for an area that begins outside the picture, and if the number of masks is not one or B.
    """
    areas = [[_prompt_area(prompt, latent, noise_schedule, cell) for prompt in prompts] for prompts in conditionings]
    for own in areas:
        for area in own:
            for others in areas:
                if others is not own and (opposite := _opposite(area, others)) is not None:
                    others.append(opposite)
    return [[_region(area, latent) for area in own] for own in areas]


def mix(predictions: Sequence[tuple[Region, Tensor]], x: Tensor) -> Tensor:
    """The weighted mean of the predictions of one conditioning's regions, (B, C, height, width) each: like `x`, (B, C, h, w).

    0 in cells without a region.
    """
    if len(predictions) == 1 and predictions[0][0].weight is None:
        return predictions[0][1]
    total = torch.zeros_like(x)
    weights = torch.full_like(x[:, :1], TINY_WEIGHT)
    for region, prediction in predictions:
        region.cut(total).add_(prediction if region.weight is None else prediction * region.weight)
        region.cut(weights).add_(1 if region.weight is None else region.weight)
    return total / weights


@dataclass(frozen=True, eq=False, kw_only=True)
class _PromptArea:
    """A prompt and its area in cells. `box` may extend beyond the latent; `mask` (1 or B, h, w) covers the whole latent."""

    prompt: Prompt
    box: Box | None
    mask: Tensor | None
    strength: float
    highest: float
    lowest: float


def _prompt_area(prompt: Prompt, latent: Tensor, noise_schedule: NoiseSchedule, cell: int) -> _PromptArea:
    size = (latent.shape[-2], latent.shape[-1])
    box = None if prompt.area is None else _area_box(prompt.area, size, cell)
    mask = None
    if prompt.mask is not None:
        if prompt.mask.ndim != 3 or prompt.mask.shape[0] not in (1, latent.shape[0]):
            raise ValueError(
                f"mask of a prompt: expected (H, W) for all of {latent.shape[0]} pictures or for each, that is (1 or "
                f"{latent.shape[0]}, H, W), found {tuple(prompt.mask.shape)}; give one mask, or one for each picture"
            )
        mask = F.interpolate(prompt.mask[:, None].to(latent), size=size, mode="bilinear")[:, 0]  # (1 or B, h, w)
        box = _mask_box(mask) if prompt.mask_bounds else box
        mask = mask * prompt.mask_strength
    highest, lowest = (noise_schedule.sigma_at(progress) for progress in (prompt.start, prompt.end))
    return _PromptArea(prompt=prompt, box=box, mask=mask, strength=prompt.strength, highest=highest, lowest=lowest)


def _area_box(area: Area, size: tuple[int, int], cell: int) -> Box:
    sides, corner = (area.height, area.width), (area.y, area.x)
    if area.fraction:
        height, width = (max(1, round(fraction * cells)) for fraction, cells in zip(sides, size, strict=True))
        y, x = (round(fraction * cells) for fraction, cells in zip(corner, size, strict=True))
    else:
        height, width = (max(1, int(pixels // cell)) for pixels in sides)
        y, x = (int(pixels // cell) for pixels in corner)
    return Box(height, width, y, x)


def _mask_box(mask: Tensor) -> Box:
    """The rectangle around the non-black part of (B, h, w)."""
    rows, columns = (mask != 0).any(dim=0).nonzero(as_tuple=True)
    if not len(rows):
        return Box(MIN_BOX, MIN_BOX, 0, 0)
    y, x = int(rows.min()), int(columns.min())
    return Box(max(MIN_BOX, int(rows.max()) - y + 1), max(MIN_BOX, int(columns.max()) - x + 1), y, x)


def _opposite(area: _PromptArea, others: Sequence[_PromptArea]) -> _PromptArea | None:
    """The prompt that must be added to `others` as the opposite of `area`, or None."""
    if area.box is None:
        return None
    surrounding: _PromptArea | None = None
    for other in others:
        if other.box is None:
            surrounding = surrounding or other
        elif area.box.inside(other.box) and (
            surrounding is None or surrounding.box is None or surrounding.box.cells > other.box.cells
        ):
            surrounding = other
    if surrounding is None or surrounding.box == area.box:
        return None
    return replace(area, prompt=surrounding.prompt)


def _region(area: _PromptArea, latent: Tensor) -> Region:
    """The region of a prompt, its box cut at the edges of the latent, with the weights of its mask.

    Without a mask, the edges of an area inside the picture fade in over 8 cells, or over a quarter of the area.
    """
    box, weight = area.box, None
    rows, columns = latent.shape[-2:]
    if box is not None:
        if box.y >= rows or box.x >= columns:
            raise ValueError(
                f"area of a prompt: expected it to begin within the latent's {rows} rows and {columns} columns, found row {box.y} "
                f"and column {box.x}; move it, or make the picture larger"
            )
        box = Box(min(box.height, rows - box.y), min(box.width, columns - box.x), box.y, box.x)
    if area.mask is not None:
        weight = (area.mask if box is None else box.cut(area.mask))[:, None] * area.strength
    elif box is not None:
        vertical, horizontal = _fade(box.y, box.height, rows), _fade(box.x, box.width, columns)
        weight = (area.strength * vertical[:, None] * horizontal)[None, None].to(latent)
    elif area.strength != 1:
        weight = torch.full((1, 1, 1, 1), area.strength).to(latent)
    return Region(prompt=area.prompt, box=box, weight=weight, highest=area.highest, lowest=area.lowest)


def _fade(start: int, length: int, side: int) -> Tensor:
    """The weights along one side of an area, (length,): 1, but rising from 0 at ends that are inside the picture."""
    weights = torch.ones(length)
    reach = min(FEATHER, length // 4)
    if reach:
        rising = (1.0 / reach) * torch.arange(1, reach + 1, dtype=torch.float64)
        if start != 0:
            weights[:reach] *= rising
        if start + length < side:
            weights[length - reach :] *= rising.flip(0)
    return weights
