"""The surroundings of a picture as a judge sees them: which place and time explain it, and where something else is in front.

For each place and time, a palette holds the colours that occur in each row of drawn scenes without things. A pixel whose colour is
not in its row's palette shows something else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nodegraph_diffusion.recipes.pictureworld.drawing.palette import SHADOW, SKIES
from nodegraph_diffusion.recipes.pictureworld.drawing.picture import draw
from nodegraph_diffusion.recipes.pictureworld.hashing import hashed
from nodegraph_diffusion.recipes.pictureworld.scene import PLACES, TIMES, Place, Scene, Time

GRID = 64
"""The side that pictures are reduced to."""
EMPTY_SCENES = 12
"""Scenes without things that are drawn for each place and time."""
OUTLIER = 0.03
"""Squared difference, summed over the channels, from which a pixel does not show the surroundings."""
RARE = 0.03
"""The share of a row that a colour must have in drawn scenes to count as one of the surroundings'."""
SETTINGS: tuple[tuple[Place, Time], ...] = tuple((place, time) for place in PLACES for time in TIMES)


def softened(planes: Tensor) -> Tensor:
    """Planes (..., H, W) blurred a little, so that a template need not be in exactly the right place; zero outside."""
    for axis in (-1, -2):
        padded = F.pad(planes, (1, 1, 0, 0) if axis == -1 else (0, 0, 1, 1))
        length = planes.shape[axis]
        planes = (padded.narrow(axis, 0, length) + 2 * planes + padded.narrow(axis, 2, length)) / 4
    return planes


def reduced(pixels: NDArray[np.uint8]) -> Tensor:
    """(B, H, H, 3) 8-bit -> (B, 3, GRID, GRID) in [0, 1], by area."""
    planes = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).float() / 255
    return planes if planes.shape[-1] == GRID else F.adaptive_avg_pool2d(planes, GRID)


@cache
def palettes(place: Place, time: Time) -> Tensor:
    """The colours of each row, (GRID, N, 3); rows with fewer colours repeat their first one."""
    scenes = [Scene(place, time, (), horizon=530 + 5 * i, seed=hashed("empty", i) >> 32) for i in range(EMPTY_SCENES)]
    planes = reduced(np.stack([draw(scene) for scene in scenes])).permute(2, 0, 3, 1)  # (GRID, S, GRID, 3)
    rows = []
    for y in range(GRID):
        colours = planes[max(0, y - 1) : y + 2].reshape(-1, 3)
        if y < 5 * GRID // 8:  # a thing in the air may sit on a cloud
            sky = SKIES[time]
            clouds = torch.tensor([sky.cloud, sky.cloud_shade]).float() / 255
            colours = torch.cat([colours, clouds.repeat(len(colours) // 16, 1)])
        if y > 3 * GRID // 4:  # or stand on the ground with its shadow
            colours = torch.cat([colours, colours + (torch.tensor(SHADOW) / 255 - colours) * 14 / 64])
        rows.append(_distinct(colours))
    count = max(map(len, rows))
    return torch.stack([torch.cat([row, row[:1].expand(count - len(row), 3)]) for row in rows])


def _distinct(colours: Tensor) -> Tensor:
    """One colour for each cell of a coarse grid of colours that is not rare (stars, the moon's edge): the mean in that cell."""
    cells = (colours * 255 / 16).long().clamp(0, 15)
    numbers = (cells[:, 0] * 16 + cells[:, 1]) * 16 + cells[:, 2]
    counts = torch.bincount(numbers, minlength=16**3)
    means = torch.zeros(len(counts), 3).index_add_(0, numbers, colours) / counts.clamp_min(1)[:, None]
    return means[counts > max(1.0, RARE * len(colours))]


@dataclass(frozen=True)
class Setting:
    """A place and a time, and the surroundings of one picture with its things removed, (3, GRID, GRID)."""

    place: Place
    time: Time
    surroundings: Tensor


def read_setting(picture: Tensor) -> Setting:
    """The place and the time whose palettes explain most of a (3, GRID, GRID) picture, and the surroundings.

    These are the picture itself where its palettes explain it, and elsewhere the colour that most of the row has.
    """
    rows = picture.permute(1, 2, 0)
    found = [(torch.cdist(rows, palettes(place, time)).square(), place, time) for place, time in SETTINGS]
    distances, place, time = min(found, key=lambda entry: float(entry[0].amin(2).clamp_max(OUTLIER).mean()))
    nearest, which = distances.min(2)  # (GRID, GRID)
    explained = nearest < OUTLIER
    counts = torch.zeros(distances.shape[0], distances.shape[2]).scatter_add_(1, which, explained.float())
    usual = palettes(place, time)[torch.arange(GRID), counts.argmax(1)]  # (GRID, 3)
    surroundings = torch.where(explained[:, :, None], rows, usual[:, None])
    return Setting(place, time, surroundings.permute(2, 0, 1))
