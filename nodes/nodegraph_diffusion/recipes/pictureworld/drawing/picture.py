"""Drawing a scene: its sky, its land and its things, as a picture and as a map of classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nodegraph_diffusion.recipes.pictureworld.drawing.land import Canvas, Labels, draw_beach, draw_desert, draw_meadow, draw_snow
from nodegraph_diffusion.recipes.pictureworld.drawing.palette import SHADOW, fills
from nodegraph_diffusion.recipes.pictureworld.drawing.sky import draw_cloud, draw_sky
from nodegraph_diffusion.recipes.pictureworld.drawing.sprites import blob_sprite, mark, stamp, thing_sprite
from nodegraph_diffusion.recipes.pictureworld.hashing import Stream
from nodegraph_diffusion.recipes.pictureworld.scene import FLYING, KINDS, UNIT, Place, Scene, Thing

SIDE = 128
"""The side of the embedded model's pictures, in pixels."""

SURROUNDINGS = ("sky", "sun", "moon", "cloud", "hills", "sea", "mountains", "mesas", "grass", "sand", "snow", "rock")
CLASSES: tuple[str, ...] = (*SURROUNDINGS, *KINDS)
"""The class of each number in a semantic map."""

_LANDS = {"meadow": draw_meadow, "beach": draw_beach, "snow": draw_snow, "desert": draw_desert}
_LAND_CLASSES: dict[Place, tuple[str, str]] = {
    "meadow": ("hills", "grass"),
    "beach": ("sea", "sand"),
    "snow": ("mountains", "snow"),
    "desert": ("mesas", "rock"),
}
_CLOUD = CLASSES.index("cloud")


def draw(scene: Scene, side: int = SIDE) -> NDArray[np.uint8]:
    """The picture of a scene, (side, side, 3), 8-bit RGB: the same bytes on every machine."""
    return _painted(scene, side, None)


def draw_with_map(scene: Scene, side: int = SIDE) -> tuple[NDArray[np.uint8], Labels]:
    """The picture of a scene, and the class of each of its pixels, (side, side): an index into CLASSES."""
    labels = np.zeros((side, side), np.uint8)
    return _painted(scene, side, labels), labels


def _painted(scene: Scene, side: int, labels: Labels | None) -> NDArray[np.uint8]:
    canvas = Canvas(np.empty((side, side, 3), np.int16), labels)
    stream = Stream("surroundings", scene.seed)
    orb = CLASSES.index("moon" if scene.time == "night" else "sun")
    draw_sky(canvas, scene, stream, (CLASSES.index("sky"), orb, _CLOUD))
    _LANDS[scene.place](canvas, scene, stream, [CLASSES.index(name) for name in _LAND_CLASSES[scene.place]])
    for thing in scene.things:
        _draw_thing(canvas, scene, thing)
    return canvas.pixels.astype(np.uint8)


def _draw_thing(canvas: Canvas, scene: Scene, thing: Thing) -> None:
    """A thing with its shadow on the ground, or with the cloud that it sits on."""
    side = canvas.side
    x, base = thing.x * side // UNIT, thing.base * side // UNIT
    width = thing.box.right - thing.box.left
    on_cloud = thing.aloft and thing.kind not in FLYING
    if not thing.aloft:
        ground = max(thing.base, 900) if thing.kind in FLYING else thing.base
        shadow = blob_sprite(((0, 0, 29 * width // 64 + 14, 20 + width // 40),), side)
        stamp(canvas.pixels, shadow, [SHADOW], at=(ground * side // UNIT, x), opacity=14)
    sprite = thing_sprite(thing.kind, thing.scale, thing.mirrored, side)
    if on_cloud:
        third = width // 3
        behind = ((-third - 12, 0, third, 26), (third + 12, 0, third, 26), (0, -4, third, 30))
        draw_cloud(canvas, scene.time, behind, at=(thing.x, thing.base), label=_CLOUD, flat=22)
    stamp(canvas.pixels, sprite, fills(thing.colour, scene.time), at=(base, x))
    if canvas.labels is not None:
        mark(canvas.labels, sprite, len(SURROUNDINGS) + KINDS.index(thing.kind), at=(base, x))
    if on_cloud:
        front = ((-third, 12, third, 17), (third, 12, third, 17), (0, 14, third, 16))
        draw_cloud(canvas, scene.time, front, at=(thing.x, thing.base), label=_CLOUD, flat=22)
