"""Where in the latent and when in the sampling each prompt counts, and how much, as ComfyUI 0.3.64 mixes prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nodegraph_diffusion.conditioning.prompt import Area, Prompt
from nodegraph_diffusion.noise_schedule import NoiseSchedule

FEATHER = 8  # cells over which an area without a mask fades in, at sides that are not the picture's
LEAST = 8  # cells that the rectangle around a mask has at least, along each side
NOWHERE = 1e-37  # the weight of a cell that no prompt counts in


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


@dataclass(frozen=True, eq=False)
class Region:
    """A prompt in its place: `box` (None: everywhere), the `weight` of its cells, (1 or B, 1, height, width) (None: 1), and
    the noise levels between which it counts, both included."""

    prompt: Prompt
    box: Box | None
    weight: Tensor | None
    highest: float
    lowest: float

    def active_at(self, sigma: float) -> bool:
        return self.lowest <= sigma <= self.highest

    def cut(self, planes: Tensor) -> Tensor:
        """The cells of (..., h, w) that it lies on, a view."""
        return planes if self.box is None else self.box.cut(planes)


def arrange(sides: Sequence[Sequence[Prompt]], like: Tensor, noise_schedule: NoiseSchedule, cell: int) -> list[list[Region]]:
    """The regions of the prompts of each side in a latent `like` this, (B, C, h, w), whose cells are `cell` pixels wide.

    An area of one side that no prompt of another side has gets an opposite there: the text of the smallest area around it, or
    of the first prompt that counts everywhere, with the area's place, strength, mask and noise levels. Raises ValueError for
    an area that begins outside the picture, and for masks that are not one or B.
    """
    placed = [[_placed(prompt, like, noise_schedule, cell) for prompt in side] for side in sides]
    for side in placed:
        for prompt in side:
            for other in placed:
                if other is not side and (opposite := _opposite(prompt, other)) is not None:
                    other.append(opposite)
    return [[_weighted(prompt, like) for prompt in side] for side in placed]


def mix(parts: Sequence[tuple[Region, Tensor]], x: Tensor) -> Tensor:
    """The weighted mean of what the regions of one side give, (B, C, height, width) each: like `x`, (B, C, h, w).

    0 where none counts.
    """
    if len(parts) == 1 and parts[0][0].weight is None:
        return parts[0][1]
    total = torch.zeros_like(x)
    weights = torch.full_like(x[:, :1], NOWHERE)
    for region, part in parts:
        region.cut(total).add_(part if region.weight is None else part * region.weight)
        region.cut(weights).add_(1 if region.weight is None else region.weight)
    return total / weights


class _Placed(NamedTuple):
    """A prompt and its place in cells: `box` may go beyond the latent; `mask` (1 or B, h, w) is of all of it."""

    prompt: Prompt
    box: Box | None
    mask: Tensor | None
    strength: float
    highest: float
    lowest: float


def _placed(prompt: Prompt, like: Tensor, noise_schedule: NoiseSchedule, cell: int) -> _Placed:
    size = (like.shape[-2], like.shape[-1])
    box = None if prompt.area is None else _cells(prompt.area, size, cell)
    mask = None
    if prompt.mask is not None:
        if prompt.mask.ndim != 3 or prompt.mask.shape[0] not in (1, like.shape[0]):
            raise ValueError(
                f"mask of a prompt: expected (H, W) for all of {like.shape[0]} pictures or for each, that is (1 or "
                f"{like.shape[0]}, H, W), found {tuple(prompt.mask.shape)}; give one mask, or one for each picture"
            )
        mask = F.interpolate(prompt.mask[:, None].to(like), size=size, mode="bilinear")[:, 0]  # (1 or B, h, w)
        box = _around(mask) if prompt.mask_bounds else box
        mask = mask * prompt.mask_strength
    highest, lowest = (noise_schedule.sigma_at(progress) for progress in (prompt.start, prompt.end))
    return _Placed(prompt, box, mask, prompt.strength, highest, lowest)


def _cells(area: Area, size: tuple[int, int], cell: int) -> Box:
    sides, corner = (area.height, area.width), (area.y, area.x)
    if area.fraction:
        height, width = (max(1, round(part * cells)) for part, cells in zip(sides, size, strict=True))
        y, x = (round(part * cells) for part, cells in zip(corner, size, strict=True))
    else:
        height, width = (max(1, int(pixels // cell)) for pixels in sides)
        y, x = (int(pixels // cell) for pixels in corner)
    return Box(height, width, y, x)


def _around(mask: Tensor) -> Box:
    """The rectangle around what is not black in (B, h, w)."""
    rows, columns = (mask != 0).any(dim=0).nonzero(as_tuple=True)
    if not len(rows):
        return Box(LEAST, LEAST, 0, 0)
    y, x = int(rows.min()), int(columns.min())
    return Box(max(LEAST, int(rows.max()) - y + 1), max(LEAST, int(columns.max()) - x + 1), y, x)


def _opposite(region: _Placed, others: Sequence[_Placed]) -> _Placed | None:
    """What `others` lack beside `region`, or None."""
    if region.box is None:
        return None
    around: _Placed | None = None
    for other in others:
        if other.box is None:
            around = around or other
        elif region.box.inside(other.box) and (around is None or around.box is None or around.box.cells > other.box.cells):
            around = other
    if around is None or around.box == region.box:
        return None
    return region._replace(prompt=around.prompt)


def _weighted(placed: _Placed, like: Tensor) -> Region:
    """The region without what of its box is beyond the latent; its cells weigh what its mask says.

    Where it has no mask, its sides inside the picture fade in over 8 cells, or a quarter of the area.
    """
    box, weight = placed.box, None
    rows, columns = like.shape[-2:]
    if box is not None:
        if box.y >= rows or box.x >= columns:
            raise ValueError(
                f"area of a prompt: expected it to begin within the latent's {rows} rows and {columns} columns, found row {box.y} "
                f"and column {box.x}; move it, or make the picture larger"
            )
        box = Box(min(box.height, rows - box.y), min(box.width, columns - box.x), box.y, box.x)
    if placed.mask is not None:
        weight = (placed.mask if box is None else box.cut(placed.mask))[:, None] * placed.strength
    elif box is not None:
        vertical, horizontal = _ramp(box.y, box.height, rows), _ramp(box.x, box.width, columns)
        weight = (placed.strength * vertical[:, None] * horizontal)[None, None].to(like)
    elif placed.strength != 1:
        weight = torch.full((1, 1, 1, 1), placed.strength).to(like)
    return Region(placed.prompt, box, weight, placed.highest, placed.lowest)


def _ramp(start: int, length: int, side: int) -> Tensor:
    """The weights along one side of an area, (length,): 1, but rising from its ends that are not those of the picture."""
    ramp = torch.ones(length)
    reach = min(FEATHER, length // 4)
    if reach:
        rising = (1.0 / reach) * torch.arange(1, reach + 1, dtype=torch.float64)
        if start != 0:
            ramp[:reach] *= rising
        if start + length < side:
            ramp[length - reach :] *= rising.flip(0)
    return ramp
