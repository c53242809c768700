"""The matched filter: a judge that is not learned.

It finds the drawn empty scene that is most similar to a picture. Then it compares templates of every kind in every colour and
several sizes at every position, and chooses the one that explains most of the difference: a matched filter (Turin 1960).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from nodegraph_diffusion.recipes.tiny.world import COLOURS, KINDS, PLACES, TIMES, Request, Scene, Thing, draw
from nodegraph_diffusion.recipes.tiny.world.drawing import OUTLINE, SUPERSAMPLING, draw_thing
from nodegraph_diffusion.recipes.tiny.world.scene import PROPORTIONS, Colour, Kind, Place, Time

SIDE = 32
"""The side that pictures are reduced to: half of the training size."""
SIZES = (0.27, 0.33, 0.38, 0.42, 0.47, 0.52, 0.57)
EMPTY_SCENES = 16
"""Empty scenes drawn for each place and time."""
OUTLIER = 0.02
"""Squared difference, summed over the channels, above which a pixel does not show the scene in the background."""
EXPLAINED = 0.3
"""The share of its own energy against the background that a template must explain to count as a thing."""
FEET: dict[Kind, tuple[float, float]] = {"balloon": (0.50, 0.80)}
GROUND_FEET = (0.74, 1.0)
"""The range of a thing's foot, from the top: balloons fly, everything else stands on the ground."""
LEAST_ENERGY = 3.0
"""The least energy that a thing must explain, summed over pixels: less is a shadow or a ridge."""
LEAST_DISTANCE = 7
"""The least number of columns between the centres of two things: in this world, one is never above the other."""
MOST_THINGS = 4


@dataclass(frozen=True, kw_only=True)
class Templates:
    """Cut-out pictures of every kind, colour and size, in the light of one time of day; T = len(labels)."""

    labels: list[tuple[Kind, Colour]]
    alpha: Tensor  # (T, 1, p, p)
    paint: Tensor  # (T, 3, p, p), times alpha
    energy: Tensor  # (T,), sum of alpha * paint^2
    possible: Tensor  # (T, SIDE, 1), whether the template may be centred in a row


def reduce_pictures(pixels: NDArray[np.uint8]) -> Tensor:
    """(B, H, H, 3) 8-bit -> (B, 3, SIDE, SIDE) in [0, 1], by area."""
    planes = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).float() / 255
    return F.adaptive_avg_pool2d(planes, SIDE)


@cache
def empty_scenes() -> tuple[list[tuple[Place, Time]], Tensor]:
    """Labels and reduced pictures (N, 3, SIDE, SIDE) of drawn scenes without things."""
    labels, drawn = [], []
    for place in PLACES:
        for time in TIMES:
            for number in range(EMPTY_SCENES):
                horizon = 0.53 + 0.06 * number / (EMPTY_SCENES - 1)
                labels.append((place, time))
                drawn.append(draw(Scene(place, time, (), horizon=horizon, seed=number)))
    return labels, reduce_pictures(np.stack(drawn))


@cache
def templates(time: Time) -> Templates:
    """The templates in the light of a time of day."""
    labels: list[tuple[Kind, Colour]] = []
    alphas, paints, possible = [], [], []
    rows = (torch.arange(SIDE) + 0.5) / SIDE
    for size in SIZES:
        for kind in KINDS:
            for colour in COLOURS:
                alpha, paint = _cut_out(kind, colour, size, time)
                labels.append((kind, colour))
                alphas.append(alpha)
                paints.append(paint)
                highest, lowest = FEET.get(kind, GROUND_FEET)
                feet = rows + size * PROPORTIONS[kind][1] / 2
                possible.append((feet >= highest) & (feet <= lowest))
    alpha, paint = torch.stack(alphas), torch.stack(paints)
    energy = (paint.square() / alpha.clamp_min(1e-3)).sum((1, 2, 3))
    rows_possible = torch.stack(possible)[:, :, None]
    return Templates(labels=labels, alpha=alpha, paint=paint, energy=energy, possible=rows_possible)


def _cut_out(kind: Kind, colour: Colour, size: float, time: Time) -> tuple[Tensor, Tensor]:
    """The opacity (1, p, p) and the premultiplied colour (3, p, p) of a thing, from drawings on black and on white."""
    patch = 1 + 2 * int(SIDE * (max(SIZES) * 1.14 / 2 + OUTLINE) + 1)
    side = 64 * SUPERSAMPLING
    reduce = side // SIDE
    pictures = []
    for backdrop in (0, 255):
        image = Image.new("RGB", (patch * reduce, patch * reduce), (backdrop,) * 3)
        centre = patch * reduce / 2 / side
        foot = centre + size * PROPORTIONS[kind][1] / 2
        thing = Thing(kind, colour, x=centre, base=foot, size=size)
        draw_thing(ImageDraw.Draw(image, "RGBA"), thing, time, side)
        pictures.append(torch.from_numpy(np.asarray(image.reduce(reduce)).copy()).permute(2, 0, 1).float() / 255)
    black, white = pictures
    return (1 - (white - black)).mean(0, keepdim=True).clamp(0, 1), black


def judge_by_templates(pixels: NDArray[np.uint8]) -> list[Request]:
    """The content of each picture of (B, 64, 64, 3)."""
    pictures = reduce_pictures(pixels)
    labels, scenes = empty_scenes()
    differences = torch.cat(
        [(picture - scenes).square().sum(1).clamp_max(OUTLIER).mean((1, 2))[None] for picture in pictures]
    )  # (B, N)
    nearest = differences.argmin(1).tolist()
    requests = []
    for picture, choice in zip(pictures, nearest, strict=True):
        place, time = labels[choice]
        found = _find_things(picture, scenes[choice], templates(time))
        requests.append(Request(tuple((kind, colour) for _, kind, colour in sorted(found)), place, time))
    return requests


def _find_things(picture: Tensor, scene: Tensor, bank: Templates) -> list[tuple[float, Kind, Colour]]:
    """The things in a (3, SIDE, SIDE) picture in front of an empty scene, best match first, each with its x in [0, 1]."""
    margin = bank.alpha.shape[-1] // 2
    remaining = picture.clone()
    found: list[tuple[float, Kind, Colour]] = []
    gap = F.conv2d(_energy_gap(scene, bank, scene)[None], bank.alpha, padding=margin)[0]
    own = bank.energy[:, None, None] - 2 * F.conv2d(scene[None], bank.paint, padding=margin)[0] - gap  # energy against scene
    while len(found) < MOST_THINGS:
        gap = F.conv2d(_energy_gap(remaining, bank, scene)[None], bank.alpha, padding=margin)[0]
        explained = gap + 2 * F.conv2d(remaining[None], bank.paint, padding=margin)[0] - bank.energy[:, None, None]
        explained *= bank.possible
        for x, *_ in found:
            column = int(x * SIDE)
            explained[:, :, max(0, column - LEAST_DISTANCE + 1) : column + LEAST_DISTANCE] = 0
        best = int(explained.argmax())
        template, position = divmod(best, SIDE * SIDE)
        row, column = divmod(position, SIDE)
        if float(explained[template, row, column]) < max(LEAST_ENERGY, EXPLAINED * float(own[template, row, column])):
            return found
        found.append(((column + 0.5) / SIDE, *bank.labels[template]))
        _remove(remaining, scene, bank.alpha[template, 0], row=row, column=column)
    return found


def _energy_gap(picture: Tensor, bank: Templates, scene: Tensor) -> Tensor:
    """How much worse the empty scene fits each pixel than black would, (1, SIDE, SIDE)."""
    return ((picture - scene).square() - picture.square()).sum(0, keepdim=True)


def _remove(picture: Tensor, scene: Tensor, alpha: Tensor, *, row: int, column: int) -> None:
    """Replace the area of a template, and two cells around it, by the empty scene."""
    margin = alpha.shape[-1] // 2
    covered = F.max_pool2d(F.pad(alpha[None], (SIDE,) * 4), 5, stride=1, padding=2)[0] > 0.1
    window = covered[SIDE + margin - row :, SIDE + margin - column :][:SIDE, :SIDE]
    picture[:, window] = scene[:, window]
