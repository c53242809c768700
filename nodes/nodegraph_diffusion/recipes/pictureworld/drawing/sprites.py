"""Sprites: things and clouds, rasterised once for each size, and stamped onto a canvas in any colours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from nodegraph_diffusion.recipes.pictureworld.drawing.buildings import balloon, boat, car, castle, house, rocket
from nodegraph_diffusion.recipes.pictureworld.drawing.creatures import cat, flower, mushroom, owl, rabbit, tree
from nodegraph_diffusion.recipes.pictureworld.drawing.palette import RGB, ROLES
from nodegraph_diffusion.recipes.pictureworld.drawing.parts import Part
from nodegraph_diffusion.recipes.pictureworld.drawing.raster import FINE, Pixels, counted, polygon, thickened
from nodegraph_diffusion.recipes.pictureworld.scene import PROPORTIONS, UNIT, Kind

SAMPLES = 8
"""Samples of a pixel along each side."""
TOTAL = SAMPLES * SAMPLES
SHIFT = 6
"""TOTAL is two to the power of this."""
OUTLINE = 10
"""The width of a thing's outline, in units of a scene."""

SHAPES: dict[Kind, Callable[[], list[Part]]] = {
    "house": house,
    "tree": tree,
    "boat": boat,
    "car": car,
    "cat": cat,
    "balloon": balloon,
    "mushroom": mushroom,
    "castle": castle,
    "owl": owl,
    "rabbit": rabbit,
    "flower": flower,
    "rocket": rocket,
}


@dataclass(frozen=True)
class Sprite:
    """How much of each pixel each role covers, in parts of TOTAL: `counts` (h, w, R); `rest` (h, w, 1) is what stays free.

    The pixel at `anchor` (row, column) of the sprite goes to the foot of the thing.
    """

    counts: Pixels
    rest: Pixels
    anchor: tuple[int, int]


@cache
def parts_of(kind: Kind) -> tuple[Part, ...]:
    """The parts of a kind's shape."""
    return tuple(SHAPES[kind]())


@lru_cache(maxsize=2048)
def thing_sprite(kind: Kind, scale: int, mirrored: bool, side: int) -> Sprite:
    """The sprite of a kind at a scale, in units of a scene, for pictures with a side of `side` pixels."""
    sample = side * SAMPLES * FINE  # the picture's side in the units of polygons
    width, height = (percent * scale * sample // (100 * UNIT) for percent in PROPORTIONS[kind])
    radius = max(1, (OUTLINE * side * SAMPLES + UNIT // 2) // UNIT)
    margin = 2 + -(-radius // SAMPLES)
    half, above = -(-width // (2 * SAMPLES * FINE)) + margin, -(-height // (SAMPLES * FINE)) + margin
    rows, columns = (above + margin) * SAMPLES, 2 * half * SAMPLES
    centre, foot = half * SAMPLES * FINE, above * SAMPLES * FINE

    def corners(part: Part) -> list[tuple[int, int]]:
        return [(centre + round(x * width), foot - round(y * height)) for x, y in part.points]

    silhouette = np.zeros((rows, columns), np.bool_)
    labels = np.zeros((rows, columns), np.uint8)  # 0: free; 1 and up: the roles
    for part in parts_of(kind):
        mask = polygon(corners(part), rows, columns)
        if not part.inner:
            silhouette |= mask
        labels[mask] = ROLES.index(part.role) + 1
    labels[thickened(silhouette, radius) & ~silhouette] = ROLES.index("outline") + 1
    if mirrored:
        labels = labels[:, ::-1]
    counts = np.stack([counted(labels == number + 1, SAMPLES) for number in range(len(ROLES))], -1)
    return Sprite(counts, TOTAL - counts.sum(-1, keepdims=True, dtype=np.int16), (above, half))


@lru_cache(maxsize=256)
def blob_sprite(discs: tuple[tuple[int, int, int, int], ...], side: int, flat: int | None = None) -> Sprite:
    """A union of ellipses (x, y, rx, ry around the anchor, in units of a scene) as a sprite of one role.

    What is lower than `flat` is cut off.
    """
    sample = side * SAMPLES * FINE
    reach_x = max(abs(x) + rx for x, _, rx, _ in discs)
    reach_y = max(abs(y) + ry for _, y, _, ry in discs)
    half, above = (-(-reach * side // UNIT) + 2 for reach in (reach_x, reach_y))
    rows, columns = 2 * above * SAMPLES, 2 * half * SAMPLES
    y, x = (np.arange(count, dtype=np.int64) * FINE + FINE // 2 for count in (rows, columns))
    mask = np.zeros((rows, columns), np.bool_)
    for cx, cy, rx, ry in discs:
        dx = x - (half * SAMPLES * FINE + cx * sample // UNIT)
        dy = y - (above * SAMPLES * FINE + cy * sample // UNIT)
        a, b = max(1, rx * sample // UNIT), max(1, ry * sample // UNIT)
        mask |= (dx * dx)[None, :] * (b * b) + (dy * dy)[:, None] * (a * a) <= a * a * b * b
    if flat is not None:
        mask[y > above * SAMPLES * FINE + flat * sample // UNIT] = False
    counts = counted(mask, SAMPLES)[:, :, None]
    return Sprite(counts, TOTAL - counts, (above, half))


@cache
def crescent_sprite(radius: int, side: int) -> Sprite:
    """A waning moon: a disc without a disc beside it, as a sprite of one role."""
    half = radius * side // UNIT + 2
    scaled = radius * side * SAMPLES * FINE // UNIT
    along = np.arange(2 * half * SAMPLES, dtype=np.int64) * FINE + FINE // 2 - half * SAMPLES * FINE
    disc = along[:, None] ** 2 + along[None, :] ** 2 <= scaled**2
    bite = (along[:, None] + 3 * scaled // 10) ** 2 + (along[None, :] + scaled // 2) ** 2 <= (85 * scaled // 100) ** 2
    counts = counted(disc & ~bite, SAMPLES)[:, :, None]
    return Sprite(counts, TOTAL - counts, (half, half))


@lru_cache(maxsize=512)
def polygon_sprite(shape: tuple[tuple[tuple[int, int], ...], ...], side: int) -> Sprite:
    """A union of polygons (x, y around the anchor, in units of a scene) as a sprite of one role."""
    reach = max(max(abs(x), abs(y)) for corners in shape for x, y in corners)
    half = -(-reach * side // UNIT) + 1
    samples, sample = 2 * half * SAMPLES, side * SAMPLES * FINE
    mask = np.zeros((samples, samples), np.bool_)
    for corners in shape:
        moved = [(half * SAMPLES * FINE + x * sample // UNIT, half * SAMPLES * FINE + y * sample // UNIT) for x, y in corners]
        mask |= polygon(moved, samples, samples)
    counts = counted(mask, SAMPLES)[:, :, None]
    return Sprite(counts, TOTAL - counts, (half, half))


def stamp(canvas: Pixels, sprite: Sprite, colours: Sequence[RGB], *, at: tuple[int, int], opacity: int = TOTAL) -> None:
    """Paint a sprite, one colour per role, onto a canvas (H, W, 3).

    `at` is the pixel (row, column) of its anchor; `opacity` is in parts of TOTAL.
    """
    found = _overlap(canvas, sprite, at)
    if found is None:
        return
    target, source = found
    counts, rest = sprite.counts[source], sprite.rest[source]
    if opacity < TOTAL:
        counts = (counts * opacity) >> SHIFT
        rest = TOTAL - counts.sum(-1, keepdims=True, dtype=np.int16)
    if counts.shape[2] == 1:
        paint = counts * np.asarray(colours[0], np.int16)
    else:  # small integers: the product in float32 is exact, whatever the order of the sums
        paint = (counts.astype(np.float32) @ np.asarray(colours, np.float32)).astype(np.int16)
    region = canvas[target]
    paint += rest * region
    paint += TOTAL // 2
    np.right_shift(paint, SHIFT, out=region)


def mark(labels: np.ndarray[tuple[int, int], np.dtype[np.uint8]], sprite: Sprite, label: int, *, at: tuple[int, int]) -> None:
    """Write a label (H, W) wherever a sprite covers at least half of a pixel."""
    found = _overlap(labels, sprite, at)
    if found is not None:
        target, source = found
        labels[target][2 * sprite.rest[source][:, :, 0] <= TOTAL] = label


def _overlap(
    canvas: np.ndarray[tuple[int, ...], np.dtype[np.generic]], sprite: Sprite, at: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    """Where a sprite is on a canvas, and which part of the sprite that is; None if it is outside."""
    target, source = [], []
    for axis in range(2):
        start, length = at[axis] - sprite.anchor[axis], sprite.counts.shape[axis]
        low, high = max(0, start), min(canvas.shape[axis], start + length)
        if high <= low:
            return None
        target.append(slice(low, high))
        source.append(slice(low - start, high - start))
    return (target[0], target[1]), (source[0], source[1])
