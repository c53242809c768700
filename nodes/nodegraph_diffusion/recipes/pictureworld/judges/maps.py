"""How well a picture shows a map of classes: the class that the colour of each pixel means, among those of the map."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nodegraph_diffusion.recipes.pictureworld.drawing.palette import SHADOW, SKIES, fills
from nodegraph_diffusion.recipes.pictureworld.drawing.picture import CLASSES, SURROUNDINGS, draw_with_map
from nodegraph_diffusion.recipes.pictureworld.hashing import hashed
from nodegraph_diffusion.recipes.pictureworld.judges.background import EMPTY_SCENES, GRID, SETTINGS
from nodegraph_diffusion.recipes.pictureworld.scene import COLOURS, Place, Scene, Time

BANDS = 8
"""At how many heights the surroundings have colours of their own."""
_SHADOW_SHARE = 14 / 64
_SHARED = 0.02
"""How much farther a class may be than the nearest one, in colours from 0 to 1.

On 200 drawn scenes that no test has, pictures agree with their own maps at 0.984 on average with it (0.955 with 0), and of a thing
that is missing 1.3 % counts as there. With 0.04, that is 0.989 and 3.1 %, with 0.08, 0.994 and 19 %.
"""
_AROUND = 3  # the side of the square around a pixel that counts
_GROUNDS: dict[Place, str] = {"meadow": "grass", "beach": "sand", "snow": "snow", "desert": "rock"}


def agreement(pixels: NDArray[np.uint8], labels: NDArray[np.uint8]) -> float:
    """The share of the pixels of a picture (H, W, 3) whose colour means the class that the map (H, W) has there.

    A colour means the class of the map that has the most similar one, around the pixel: of its place at one time of day, at about
    this height, and for a thing in one of the colours of things. A colour that is as similar to those of several classes counts
    for each of them. Time and colours are those that fit best, since a map leaves them open.
    """
    picture, wanted = torch.from_numpy(pixels).float() / 255, torch.from_numpy(labels).long()
    numbers = np.unique(labels).tolist()
    best = 0.0
    for place, time in SETTINGS:
        known = surroundings_colours(place, time)
        if any(number < len(SURROUNDINGS) and number not in known for number in numbers):
            continue
        distances = torch.stack([_distance(picture, wanted == number, number, known=known, time=time) for number in numbers])
        around = F.avg_pool2d(distances, _AROUND, stride=1, padding=_AROUND // 2, count_include_pad=False)
        own = around.gather(0, torch.bucketize(wanted, torch.tensor(numbers))[None])[0]
        best = max(best, float((own <= around.amin(0) + _SHARED).double().mean()))
    return best


@cache
def surroundings_colours(place: Place, time: Time) -> dict[int, tuple[Tensor, ...]]:
    """The colours of each class of the surroundings of a place at a time, by height: BANDS of (N, 3) in [0, 1]."""
    scenes = [Scene(place, time, (), horizon=530 + 5 * i, seed=hashed("empty", i) >> 32) for i in range(EMPTY_SCENES)]
    drawn = [draw_with_map(scene, GRID) for scene in scenes]
    pixels = torch.from_numpy(np.stack([picture for picture, _ in drawn]))
    classes = torch.from_numpy(np.stack([labels for _, labels in drawn])).long()
    sky = SKIES[time]
    clouds = torch.tensor([sky.cloud, sky.cloud_shade]).float() / 255  # of a thing in the air, anywhere
    shadow = torch.tensor(SHADOW).float() / 255
    ground = CLASSES.index(_GROUNDS[place])
    rows, found = GRID // BANDS, {}
    for number in {*np.unique(classes.numpy()).tolist(), CLASSES.index("cloud")}:
        bands = []
        for band in range(BANDS):
            here = slice(max(0, (band - 1) * rows), (band + 2) * rows)
            colours = _distinct(pixels[:, here][classes[:, here] == number])
            if not len(colours):
                colours = _distinct(pixels[classes == number])
            if number == CLASSES.index("cloud"):
                colours = torch.cat([colours, clouds])
            if number == ground:
                colours = torch.cat([colours, colours + (shadow - colours) * _SHADOW_SHARE])
            bands.append(colours)
        found[number] = tuple(bands)
    return found


def _distinct(pixels: Tensor) -> Tensor:
    """Colours of which each is in another cell of a coarse grid, (N, 3) in [0, 1]."""
    cells = (pixels // 8).long()
    _, first = np.unique(((cells[:, 0] * 32 + cells[:, 1]) * 32 + cells[:, 2]).numpy(), return_index=True)
    return pixels[torch.from_numpy(first)].float() / 255


def _distance(picture: Tensor, here: Tensor, number: int, *, known: dict[int, tuple[Tensor, ...]], time: Time) -> Tensor:
    """How far each pixel's colour is from the nearest one of a class, (H, W). A thing has the colour that fits best where it is."""
    if number in known:
        parts = zip(picture.chunk(BANDS), known[number], strict=True)
        return torch.cat([_nearest(part, colours) for part, colours in parts])
    paints = [torch.tensor(fills(colour, time)).float() / 255 for colour in COLOURS]
    fits = [float(torch.cdist(picture[here], paint).amin(1).mean()) for paint in paints]
    return _nearest(picture, paints[fits.index(min(fits))])


def _nearest(picture: Tensor, colours: Tensor) -> Tensor:
    """(H, W, 3) and (N, 3) -> (H, W)."""
    return torch.cdist(picture.flatten(0, 1), colours).amin(1).view(picture.shape[:2])
