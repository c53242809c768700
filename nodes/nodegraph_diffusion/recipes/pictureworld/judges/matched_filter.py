"""The matched filter (Turin 1960): a judge that is not learned.

Templates of every kind, in every colour and several sizes, are laid over a picture's surroundings at every position. The template
that brings these nearest to the picture is a thing; then the next best one beside it, and so on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nodegraph_diffusion.recipes.pictureworld.annotations import LabelledBox
from nodegraph_diffusion.recipes.pictureworld.captions import Reading, Seen
from nodegraph_diffusion.recipes.pictureworld.drawing.palette import ROLES, fills
from nodegraph_diffusion.recipes.pictureworld.drawing.sprites import TOTAL, thing_sprite
from nodegraph_diffusion.recipes.pictureworld.judges.background import GRID, Setting, read_setting, reduced, softened
from nodegraph_diffusion.recipes.pictureworld.sampling import SMALLEST_LARGE
from nodegraph_diffusion.recipes.pictureworld.scene import COLOURS, KINDS, PROPORTIONS, UNIT, Colour, Kind, Time

SCALES = (218, 234, 250, 266, 358, 390, 426, 464)
"""The scales of the templates, in units of a scene; at most 5 % from those that are drawn."""
ONE_SIDED: frozenset[Kind] = frozenset({"boat", "car", "cat", "rabbit", "house"})
"""Kinds that look different when mirrored."""
PADDED = 108
"""The side of the transformed planes: GRID, and room for the largest template."""
COLOURED = 4
"""The first roles depend on a thing's colour, the others do not."""
LEAST_AGREEMENT = 0.8
"""How well a template must agree with the picture to count as a thing: a cosine."""
EDGE = 0.1
"""The cover from which a pixel is inside a template."""
LEAST_EXPLAINED = 1.0
"""The least that a thing must explain: squared differences, summed over pixels and channels."""
MOST_OVERLAP = 0.2
"""How much of the smaller of two boxes may be in the other one."""
MOST_THINGS, MOST_TRIALS = 6, 60


@dataclass(frozen=True)
class Outline:
    """A template without its colour: its box reaches `height` above the foot and `width` / 2 to each side, in pixels of GRID."""

    kind: Kind
    scale: int
    height: float
    width: float


@dataclass(frozen=True, kw_only=True)
class Found:
    """A thing in a picture: its template, its colour, and where its foot is, in pixels of GRID."""

    outline: Outline
    colour: Colour
    row: int
    column: int

    def box(self) -> LabelledBox:
        """The box of the template."""
        half, height = self.outline.width / 2, self.outline.height
        edges = {"left": self.column - half, "top": self.row - height, "right": self.column + half, "bottom": float(self.row)}
        return LabelledBox(label=KINDS.index(self.outline.kind), **{name: edge / GRID for name, edge in edges.items()})


@dataclass(frozen=True, kw_only=True)
class Templates:
    """All templates without colours: T outlines, and how much of each pixel each of the R roles covers, the foot at the origin.

    The last four are conjugated transforms, (..., PADDED, PADDED / 2 + 1); the cover is the sum over all roles.
    """

    outlines: tuple[Outline, ...]
    covers: Tensor  # (T, R, PADDED, PADDED)
    mixtures: Tensor  # (T, R, R), products of the covers of two roles, summed over pixels
    roles: Tensor  # (T, R, ...)
    roles_by_cover: Tensor  # (T, R, ...), of each role's cover times the whole cover
    cover: Tensor  # (T, ...)
    cover_squared: Tensor  # (T, ...)


@cache
def templates() -> Templates:
    """The templates of every kind and scale."""
    outlines, planes = [], []
    for kind in KINDS:
        for scale in SCALES:
            for mirrored in (False, True) if kind in ONE_SIDED else (False,):
                sprite = thing_sprite(kind, scale, mirrored, GRID)
                counts = torch.from_numpy(sprite.counts.astype(np.float32)).permute(2, 0, 1) / TOTAL
                plane = torch.zeros(len(ROLES), PADDED, PADDED)
                plane[:, 1 : counts.shape[1] + 1, 1 : counts.shape[2] + 1] = counts
                planes.append(softened(plane).roll((-sprite.anchor[0] - 1, -sprite.anchor[1] - 1), (1, 2)))
                width, height = (percent * scale * GRID / (100 * UNIT) for percent in PROPORTIONS[kind])
                outlines.append(Outline(kind, scale, height, width))
    covers = torch.stack(planes)
    whole, flat = covers.sum(1), covers.flatten(2)
    return Templates(
        outlines=tuple(outlines),
        covers=covers,
        mixtures=flat @ flat.transpose(1, 2),
        roles=_transformed(covers),
        roles_by_cover=_transformed(covers * whole[:, None]),
        cover=_transformed(whole),
        cover_squared=_transformed(whole.square()),
    )


def _transformed(planes: Tensor) -> Tensor:
    """The conjugated transforms of planes, most of which are zero."""
    flat = planes.reshape(-1, PADDED, PADDED)
    used = flat.amax((1, 2)) > 0
    transformed = torch.zeros(len(flat), PADDED, PADDED // 2 + 1, dtype=torch.complex64)
    transformed[used] = torch.fft.rfft2(flat[used]).conj()
    return transformed.reshape(*planes.shape[:-2], PADDED, PADDED // 2 + 1)


@cache
def _paints(time: Time) -> Tensor:
    """The colour of each role in things of each colour, in [0, 1]: (COLOURS, R, 3)."""
    return torch.tensor([fills(colour, time) for colour in COLOURS]).float() / 255


def _explained(picture: Tensor, surroundings: Tensor, time: Time) -> Tensor:
    """How much each template explains with its foot at each pixel, (T, COLOURS, GRID, GRID).

    With the difference d of the picture from its surroundings s, and the change t = paint - cover * s that a template makes, that
    is |d|^2 - |d - t|^2, summed over the template.
    """
    bank, paints = templates(), _paints(time)
    planes = torch.zeros(8, PADDED, PADDED)
    difference = picture - surroundings
    planes[:3, :GRID, :GRID] = difference
    planes[3:6, :GRID, :GRID] = surroundings
    planes[6, :GRID, :GRID] = (difference * surroundings).sum(0)
    planes[7, :GRID, :GRID] = surroundings.square().sum(0)
    transformed = torch.fft.rfft2(planes)
    complex_paints = paints.to(transformed.dtype)
    d = torch.einsum("crk,khw->crhw", complex_paints, transformed[:3])
    s = torch.einsum("crk,khw->crhw", complex_paints, transformed[3:6])
    energy = torch.einsum("trs,crk,csk->tc", bank.mixtures, paints, paints)
    found = []
    for i in range(len(bank.outlines)):
        same = (bank.roles[i, COLOURED:] * d[0, COLOURED:] + bank.roles_by_cover[i, COLOURED:] * s[0, COLOURED:]).sum(0)
        same = same - bank.cover[i] * transformed[6] - bank.cover_squared[i] * transformed[7] / 2
        own = bank.roles[i, :COLOURED] * d[:, :COLOURED] + bank.roles_by_cover[i, :COLOURED] * s[:, :COLOURED]
        correlation = torch.fft.irfft2(own.sum(1) + same, s=(PADDED, PADDED))[:, :GRID, :GRID]
        found.append(2 * correlation - energy[i, :, None, None])
    return torch.stack(found)


def _agreement(number: int, paint: Tensor, foot: tuple[int, int], *, difference: Tensor, surroundings: Tensor) -> float:
    """The cosine between the change t of `_explained`, in the colours `paint` (R, 3), and the difference d inside the template."""
    cover = templates().covers[number].roll(foot, (1, 2))[:, :GRID, :GRID]
    whole = cover.sum(0)
    change = torch.einsum("rhw,rk->khw", cover, paint) - whole * surroundings
    inside = difference * (whole > EDGE)
    return float((change * inside).sum() / (change.norm() * inside.norm()).clamp_min(1e-6))


def _apart(foot: tuple[int, int], chosen: Outline) -> Tensor:
    """Whether the box of each template, with its foot at each pixel, is beside the chosen box, (T, GRID, GRID)."""
    outlines = templates().outlines
    y, x = torch.arange(GRID)[None, :, None], torch.arange(GRID)[None, None, :]
    heights = torch.tensor([outline.height for outline in outlines])[:, None, None]
    widths = torch.tensor([outline.width for outline in outlines])[:, None, None]
    row, column = foot
    tall = y.clamp_max(row) - (y - heights).clamp_min(row - chosen.height)
    wide = (x + widths / 2).clamp_max(column + chosen.width / 2) - (x - widths / 2).clamp_min(column - chosen.width / 2)
    smaller = (heights * widths).clamp_max(chosen.height * chosen.width)
    return tall.clamp_min(0) * wide.clamp_min(0) <= MOST_OVERLAP * smaller


def _find_things(picture: Tensor, setting: Setting) -> list[Found]:
    """The things in front of the surroundings, the one that explains most first."""
    soft, surroundings = softened(picture), softened(setting.surroundings)
    explained = _explained(soft, surroundings, setting.time)
    found: list[Found] = []
    for _ in range(MOST_TRIALS):
        best = int(explained.argmax())
        number, colour, row, column = (int(each) for each in np.unravel_index(best, explained.shape))
        most = float(explained[number, colour, row, column])
        if most < LEAST_EXPLAINED or len(found) == MOST_THINGS:
            break
        paint = _paints(setting.time)[colour]
        difference = soft - surroundings
        if _agreement(number, paint, (row, column), difference=difference, surroundings=surroundings) < LEAST_AGREEMENT:
            explained[number, :, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2] = 0
            continue
        outline = templates().outlines[number]
        found.append(Found(outline=outline, colour=COLOURS[colour], row=row, column=column))
        explained *= _apart((row, column), outline)[:, None]
    return found


def _seen(found: Found) -> Seen:
    outline = found.outline
    x, y = round(found.column * UNIT / GRID), round((found.row - outline.height / 2) * UNIT / GRID)
    return Seen(outline.kind, found.colour, "large" if outline.scale >= SMALLEST_LARGE else "small", x=x, y=y)


@torch.no_grad()
def judge_by_templates(pixels: NDArray[np.uint8]) -> list[Reading]:
    """What each picture of (B, H, H, 3) shows; H is at least GRID."""
    readings = []
    for picture in reduced(pixels):
        setting = read_setting(picture)
        readings.append(Reading(tuple(map(_seen, _find_things(picture, setting))), setting.place, setting.time))
    return readings


@torch.no_grad()
def boxes_by_templates(pixels: NDArray[np.uint8]) -> list[list[LabelledBox]]:
    """The things in each picture of (B, H, H, 3) with their boxes, which are those of the nearest templates."""
    return [[found.box() for found in _find_things(picture, read_setting(picture))] for picture in reduced(pixels)]
