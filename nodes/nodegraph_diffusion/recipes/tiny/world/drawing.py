"""Drawing a scene with PIL: four times supersampled, antialiased by a box filter, at any size."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from nodegraph_diffusion.recipes.tiny.world.palette import CREAM, DARK, GLASS, GLOW, GROUNDS, PAINT, RGB, SKIES, WOOD, lit, mix
from nodegraph_diffusion.recipes.tiny.world.scene import PROPORTIONS, Scene, Thing, Time
from nodegraph_diffusion.recipes.tiny.world.things import SHAPES, Part, Role

SUPERSAMPLING = 4
OUTLINE = 0.020
"""The width of a thing's outline, as a fraction of the picture's side."""


def draw(scene: Scene, size: int = 64) -> NDArray[np.uint8]:
    """The picture of a scene, (size, size, 3), 8-bit RGB."""
    side = size * SUPERSAMPLING
    image = Image.fromarray(_sky(scene.time, scene.horizon, side))
    brush = ImageDraw.Draw(image, "RGBA")
    random = Random(scene.seed)
    _draw_heavens(brush, scene, side, random)
    _draw_ground(brush, scene, side, random)
    for thing in scene.things:
        _draw_shadow(brush, thing, side)
        draw_thing(brush, thing, scene.time, side)
    return np.asarray(image.reduce(SUPERSAMPLING))


@cache
def _gradient(time: Time, horizon: int) -> NDArray[np.float32]:
    """The sky's colours by row down to the horizon, (horizon, 3)."""
    sky = SKIES[time]
    amount = np.linspace(0, 1, horizon, dtype=np.float32)[:, None]
    return np.asarray(sky.top, np.float32) * (1 - amount) + np.asarray(sky.low, np.float32) * amount


def _sky(time: Time, horizon: float, side: int) -> NDArray[np.uint8]:
    """The sky's gradient on the whole canvas, (side, side, 3)."""
    rows = _gradient(time, round(horizon * side))
    canvas = np.empty((side, side, 3), np.uint8)
    canvas[: len(rows)] = rows[:, None].round()
    canvas[len(rows) :] = SKIES[time].low
    return canvas


def _disc(
    brush: ImageDraw.ImageDraw, centre: tuple[float, float], radii: tuple[float, float], *, side: int, fill: tuple[int, ...]
) -> None:
    (x, y), (rx, ry) = centre, radii
    brush.ellipse([(x - rx) * side, (y - ry) * side, (x + rx) * side, (y + ry) * side], fill=fill)


def _draw_heavens(brush: ImageDraw.ImageDraw, scene: Scene, side: int, random: Random) -> None:
    """Sun or moon with a halo, clouds, and stars at night."""
    sky = SKIES[scene.time]
    x, y = random.uniform(0.15, 0.85), random.uniform(0.11, 0.17)
    radius = 0.075
    if scene.time == "sunset":
        y, radius = scene.horizon - random.uniform(0.06, 0.10), 0.095
    if scene.time == "night":
        for column in range(5):
            star_x, star_y = (column + random.uniform(0.1, 0.9)) / 5, random.uniform(0.04, 0.42)
            _disc(brush, (star_x, star_y), (0.011, 0.011), side=side, fill=(232, 232, 250))
        _disc(brush, (x, y), (1.45 * radius, 1.45 * radius), side=side, fill=(*sky.orb, 26))
        _draw_crescent(brush, (x, y), radius, side=side, fill=sky.orb)
        return
    _disc(brush, (x, y), (1.5 * radius, 1.5 * radius), side=side, fill=(*sky.orb, 70))
    _disc(brush, (x, y), (radius, radius), side=side, fill=sky.orb)
    for _ in range(random.choice((0, 1, 1, 2))):
        cloud_x, cloud_y = (x + random.uniform(0.28, 0.72)) % 1.0, random.uniform(0.10, 0.26)
        for dx, dy, rx, ry in ((-0.09, 0.012, 0.07, 0.032), (0.09, 0.012, 0.07, 0.032), (0, -0.012, 0.09, 0.052)):
            _disc(brush, (cloud_x + dx, cloud_y + dy), (rx, ry), side=side, fill=sky.cloud)


def _draw_crescent(brush: ImageDraw.ImageDraw, centre: tuple[float, float], radius: float, *, side: int, fill: RGB) -> None:
    """A crescent moon: an outer half circle and a flatter inner one."""
    (x, y), turn = centre, math.radians(-35)
    outer = [(math.cos(a), math.sin(a)) for a in np.linspace(-math.pi / 2, math.pi / 2, 24)]
    inner = [(0.35 * math.cos(a), math.sin(a)) for a in np.linspace(math.pi / 2, -math.pi / 2, 24)]
    points = [(u * math.cos(turn) - v * math.sin(turn), u * math.sin(turn) + v * math.cos(turn)) for u, v in outer + inner]
    brush.polygon([((x + u * radius) * side, (y + v * radius) * side) for u, v in points], fill=fill)


def _ridge(level: float, heights: Iterable[tuple[float, float, float]], side: int) -> list[tuple[float, float]]:
    """The outline of a landscape: `level` minus a sum of waves (amplitude, frequency, phase), closed below the picture."""
    waves = tuple(heights)
    points = [(-0.02 * side, 1.02 * side)]
    for i in range(33):
        x = i / 32
        points.append((x * side, (level - sum(a * (0.5 + 0.5 * math.sin(2 * math.pi * (f * x + p))) for a, f, p in waves)) * side))
    return [*points, (1.02 * side, 1.02 * side)]


def _draw_ground(brush: ImageDraw.ImageDraw, scene: Scene, side: int, random: Random) -> None:
    """The far band of the place, its ground, and a swell in front."""
    ground, horizon = GROUNDS[scene.place, scene.time], scene.horizon
    if scene.place == "meadow":
        brush.polygon(_ridge(horizon, [(0.11, random.uniform(0.7, 1.2), random.random())], side), fill=ground.far)
        level = horizon + 0.01
    elif scene.place == "beach":
        brush.rectangle([0, horizon * side, side, side], fill=ground.far)
        level = horizon + 0.13
        foam = _ridge(level, [(0.02, 1.0, 0.0)], side)
        brush.polygon([(x, y - 0.018 * side) for x, y in foam], fill=mix(ground.far, ground.near, 0.55))
    elif scene.place == "snow":
        _draw_mountains(brush, horizon, side, random, fill=ground.far, cap=mix(ground.far, ground.near, 0.7))
        level = horizon + 0.01
    else:
        _draw_mesas(brush, horizon, side, random, fill=ground.far)
        level = horizon + 0.01
    brush.polygon(_ridge(level, [(0.02, 1.0, 0.0)], side), fill=ground.near)
    front = _ridge(level + 0.24, [(0.06, random.uniform(0.6, 1.0), random.random())], side)
    brush.polygon(front, fill=ground.front)


def _draw_mountains(brush: ImageDraw.ImageDraw, horizon: float, side: int, random: Random, *, fill: RGB, cap: RGB) -> None:
    """Three peaks with white caps."""
    for centre in (0.14, 0.5, 0.86):
        x, height = centre + random.uniform(-0.06, 0.06), random.uniform(0.12, 0.20)
        width = 1.55 * height
        left, top, right = (x - width, horizon + 0.04), (x, horizon - height), (x + width, horizon + 0.04)
        brush.polygon([(u * side, v * side) for u, v in (left, top, right)], fill=fill)
        edge = 0.30
        snow = [top] + [(x + s * width * edge, horizon - height + edge * (height + 0.04)) for s in (1, -1)]
        brush.polygon([(u * side, v * side) for u, v in snow], fill=cap)


def _draw_mesas(brush: ImageDraw.ImageDraw, horizon: float, side: int, random: Random, *, fill: RGB) -> None:
    """Two table mountains."""
    for centre in (0.22, 0.74):
        x, height, width = centre + random.uniform(-0.10, 0.10), random.uniform(0.08, 0.15), random.uniform(0.10, 0.16)
        corners = ((x - 1.5 * width, horizon + 0.02), (x - width, horizon - height))
        mirrored = ((x + width, horizon - height), (x + 1.5 * width, horizon + 0.02))
        brush.polygon([(u * side, v * side) for u, v in corners + mirrored], fill=fill)


def _draw_shadow(brush: ImageDraw.ImageDraw, thing: Thing, side: int) -> None:
    if thing.kind != "balloon":
        width = PROPORTIONS[thing.kind][0] * thing.size
        _disc(brush, (thing.x, thing.base), (0.52 * width, 0.03), side=side, fill=(20, 20, 50, 60))


def draw_thing(brush: ImageDraw.ImageDraw, thing: Thing, time: Time, side: int) -> None:
    """Draw one thing: all outlines of its silhouette first, then the fills, so that only the silhouette is outlined."""
    width, height = (side * thing.size * proportion for proportion in PROPORTIONS[thing.kind])

    def points_of(part: Part) -> list[tuple[float, float]]:
        return [(thing.x * side + x * width, thing.base * side - y * height) for x, y in part.points]

    parts = SHAPES[thing.kind]()
    paint = PAINT[thing.colour]
    outline = lit(mix(paint, DARK, 0.62), time)
    for part in parts:
        if not part.inner:
            points = points_of(part)
            brush.line([*points, *points[:2]], fill=outline, width=round(2 * OUTLINE * side), joint="curve")
    for part in parts:
        brush.polygon(points_of(part), fill=_fill(part.role, paint, time))


def _fill(role: Role, paint: RGB, time: Time) -> RGB:
    """The colour of a part; windows glow at night."""
    if role == "window":
        return GLOW if time == "night" else lit(GLASS, time)
    fills: dict[Role, RGB] = {
        "paint": paint,
        "shade": mix(paint, DARK, 0.28),
        "light": mix(paint, (255, 255, 255), 0.38),
        "wood": WOOD,
        "cream": CREAM,
        "dark": DARK,
        "glass": GLASS,
    }
    return lit(fills[role], time)
