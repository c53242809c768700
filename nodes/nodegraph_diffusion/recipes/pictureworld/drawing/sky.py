"""The sky: its gradient, the sun or the moon, stars and clouds."""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np

from nodegraph_diffusion.recipes.pictureworld.drawing.land import Canvas, gradient
from nodegraph_diffusion.recipes.pictureworld.drawing.palette import SKIES
from nodegraph_diffusion.recipes.pictureworld.drawing.raster import Pixels
from nodegraph_diffusion.recipes.pictureworld.drawing.sprites import TOTAL, Sprite, blob_sprite, crescent_sprite, mark, stamp
from nodegraph_diffusion.recipes.pictureworld.hashing import Stream
from nodegraph_diffusion.recipes.pictureworld.scene import UNIT, Scene, Time

ORB_RADIUS: dict[Time, int] = {"day": 70, "sunset": 96, "night": 74}
CLOUDS = (
    ((-86, 10, 64, 30), (82, 12, 62, 28), (-18, -14, 70, 50), (48, -6, 52, 36)),
    ((-60, 10, 56, 26), (64, 10, 50, 24), (4, -10, 62, 42)),
    ((-104, 12, 56, 26), (-34, -12, 58, 44), (40, -6, 62, 38), (108, 12, 54, 24)),
)
FLAT = 14
"""Clouds are flat below this, in units from their anchor."""


@lru_cache(maxsize=64)
def _sky_rows(time: Time, horizon: int) -> Pixels:
    """The sky's colours by row down to the horizon, (horizon, 3)."""
    sky = SKIES[time]
    upper = 11 * horizon // 20
    return np.concatenate([gradient(sky.top, sky.middle, upper), gradient(sky.middle, sky.low, horizon - upper)])


@cache
def halo_sprite(radius: int, side: int) -> Sprite:
    """A glow that fades from the middle to `radius` units, as a sprite of one role."""
    reach = radius * side // UNIT
    squares = np.arange(-reach, reach, dtype=np.int64) ** 2
    inside = np.maximum(0, reach * reach - squares[:, None] - squares[None, :])
    counts = (TOTAL * inside * inside // (reach**4))[:, :, None].astype(np.int16)
    return Sprite(counts, TOTAL - counts, (reach, reach))


def draw_sky(canvas: Canvas, scene: Scene, stream: Stream, classes: tuple[int, int, int]) -> None:
    """Paint the sky; `classes` are those of the sky, of the sun or moon, and of clouds."""
    side, sky = canvas.side, SKIES[scene.time]
    horizon = scene.horizon * side // UNIT + 1
    canvas.pixels[:horizon] = _sky_rows(scene.time, horizon)[:, None]
    canvas.pixels[horizon:] = sky.low
    if canvas.labels is not None:
        canvas.labels[:] = classes[0]
    if scene.time == "night":
        _draw_stars(canvas, stream)
    radius = ORB_RADIUS[scene.time]
    x, y = stream.between(140, 884), stream.between(110, 170)
    if scene.time == "sunset":
        y = scene.horizon - stream.between(30, 90)
    at = (y * side // UNIT, x * side // UNIT)
    stamp(canvas.pixels, halo_sprite(3 * radius, side), [sky.halo], at=at, opacity=51)
    orb = crescent_sprite(radius, side) if scene.time == "night" else blob_sprite(((0, 0, radius, radius),), side)
    stamp(canvas.pixels, orb, [sky.orb], at=at)
    if canvas.labels is not None:
        mark(canvas.labels, orb, classes[1], at=at)
    for _ in range(stream.between(0, 2)):
        cloud_x, cloud_y = (x + stream.between(270, 754)) % UNIT, stream.between(90, 300)
        draw_cloud(canvas, scene.time, stream.choice(CLOUDS), at=(cloud_x, cloud_y), label=classes[2])


def draw_cloud(
    canvas: Canvas, time: Time, discs: tuple[tuple[int, int, int, int], ...], *, at: tuple[int, int], label: int, flat: int = FLAT
) -> None:
    """A cloud of ellipses, flat and a little darker below, with its anchor at (x, y) units."""
    side, sky = canvas.side, SKIES[time]
    position = (at[1] * side // UNIT, at[0] * side // UNIT)
    whole = blob_sprite(discs, side, flat)
    stamp(canvas.pixels, whole, [sky.cloud_shade], at=position)
    lifted = tuple((x, y - 9, rx - 5, ry - 3) for x, y, rx, ry in discs)
    stamp(canvas.pixels, blob_sprite(lifted, side, flat - 12), [sky.cloud], at=position)
    if canvas.labels is not None:
        mark(canvas.labels, whole, label, at=position)


def _draw_stars(canvas: Canvas, stream: Stream) -> None:
    """A dozen stars of two sizes, spread evenly."""
    side = canvas.side
    for column in range(12):
        x = (column * UNIT + stream.below(UNIT)) // 12
        y, radius = stream.between(30, 470), stream.choice((5, 6, 9))
        opacity = stream.between(42, 64)
        at = (y * side // UNIT, x * side // UNIT)
        stamp(canvas.pixels, blob_sprite(((0, 0, radius, radius),), side), [(240, 240, 255)], at=at, opacity=opacity)
