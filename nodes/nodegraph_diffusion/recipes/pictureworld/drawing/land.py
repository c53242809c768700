"""The land of each place: ridges of hills, mountains, mesas and dunes, the sea and its foam, and the ground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nodegraph_diffusion.recipes.pictureworld.drawing.palette import GROUNDS, RGB, SKIES, Ground, mixed
from nodegraph_diffusion.recipes.pictureworld.drawing.raster import FINE, FINE_SHIFT, SINE_ONE, TURN, Ints, Pixels, sines
from nodegraph_diffusion.recipes.pictureworld.drawing.sprites import polygon_sprite, stamp
from nodegraph_diffusion.recipes.pictureworld.hashing import Stream
from nodegraph_diffusion.recipes.pictureworld.scene import UNIT, Scene

Labels = NDArray[np.uint8]

PINE = (((-13, 0), (13, 0), (0, -26)), ((-10, -16), (10, -16), (0, -40)))
CACTUS = (
    ((-4, 0), (4, 0), (4, -44), (0, -48), (-4, -44)),
    ((-15, -36), (-9, -36), (-9, -24), (0, -24), (0, -17), (-12, -17), (-15, -20)),
    ((15, -42), (9, -42), (9, -30), (0, -30), (0, -23), (12, -23), (15, -26)),
)
TUFT = (((-9, 0), (-3, 0), (-12, -17)), ((-4, 0), (4, 0), (1, -24)), ((3, 0), (9, 0), (13, -16)))
STONE = (((-12, 0), (12, 0), (9, -8), (2, -11), (-7, -9)),)


@dataclass(frozen=True)
class Canvas:
    """A picture in the making: `pixels` (H, H, 3), and `labels` (H, H), the class of each pixel, if they are wanted."""

    pixels: Pixels
    labels: Labels | None

    @property
    def side(self) -> int:
        """The picture's side in pixels."""
        return len(self.pixels)


def gradient(first: RGB, last: RGB, count: int) -> Pixels:
    """`count` colours from the first to the last, (count, 3)."""
    steps = max(1, count - 1)
    amount = np.arange(count, dtype=np.int32)[:, None]
    start, end = np.asarray(first, np.int32), np.asarray(last, np.int32)
    return ((start * (steps - amount) + end * amount + steps // 2) // steps).astype(np.int16)


def rolling(side: int, level: int, waves: Sequence[tuple[int, int, int]]) -> Ints:
    """A ridge (side,) in FINE parts of a pixel: `level` minus waves (height, cycles in 1/TURN, phase), all in units of a scene."""
    x = np.arange(side, dtype=np.int64)
    height = np.full(side, level * SINE_ONE, np.int64)
    for amplitude, cycles, phase in waves:
        height -= amplitude * (sines()[(phase + x * cycles // side) % TURN].astype(np.int64) + SINE_ONE) // 2
    return (height * side * FINE // (UNIT * SINE_ONE)).astype(np.int32)


def raised(side: int, level: int, peaks: Sequence[tuple[int, int, int, int]]) -> Ints:
    """A ridge (side,) of straight slopes: peaks (centre, height, half width of the top, half width of the foot), all in units."""
    x = (2 * np.arange(side, dtype=np.int64) + 1) * UNIT // 2  # units times side
    height = np.zeros(side, np.int64)
    for centre, top, flat, foot in peaks:
        away = np.abs(x - centre * side)
        height = np.maximum(height, np.clip((foot * side - away) * top // max(1, foot - flat), 0, top * side))
    return ((level * side - height) * FINE // UNIT).astype(np.int32)


def fill_below(canvas: Canvas, ridge: Ints, colours: Pixels, label: int | None = None) -> None:
    """Fill everything below a ridge; `colours` are those of the rows, (H, 3), or one colour, (1, 3)."""
    side = canvas.side
    rows = colours if len(colours) == side else np.repeat(colours, side, 0)
    top = min(max(int(ridge.min()) // FINE, 0), side)
    solid = min(max(-(-int(ridge.max()) // FINE), top), side)
    edges = np.arange(FINE * (top + 1), FINE * (solid + 1), FINE, dtype=np.int32)[:, None]
    covered = np.minimum(np.maximum(edges - ridge, 0), FINE).astype(np.int16)[:, :, None]  # (rows, side, 1)
    region = canvas.pixels[top:solid]
    paint = covered * rows[top:solid, None]
    paint += (FINE - covered) * region
    paint += FINE // 2
    np.right_shift(paint, FINE_SHIFT, out=region)
    canvas.pixels[solid:] = rows[solid:, None]
    if canvas.labels is not None and label is not None:
        canvas.labels[top:solid][2 * covered[:, :, 0] >= FINE] = label
        canvas.labels[solid:] = label


def one_colour(colour: RGB) -> Pixels:
    """A colour for all rows, (1, 3)."""
    return np.asarray([colour], np.int16)


def row_colours(side: int, first: RGB, last: RGB, *, start: int, stop: int) -> Pixels:
    """A colour for each row, (side, 3): the first above `start` units, the last below `stop`."""
    low, high = start * side // UNIT, stop * side // UNIT
    rows = np.empty((side, 3), np.int16)
    rows[:low], rows[high:] = first, last
    rows[low:high] = gradient(first, last, high - low)
    return rows


def draw_meadow(canvas: Canvas, scene: Scene, stream: Stream, classes: Sequence[int]) -> None:
    """Two rows of hills, a meadow, tufts of grass."""
    ground, horizon, side = GROUNDS["meadow", scene.time], scene.horizon, canvas.side
    far = rolling(side, horizon - 4, [(96, stream.between(700, 1300), stream.below(TURN)), (30, 2400, stream.below(TURN))])
    fill_below(canvas, far, one_colour(ground.far), classes[0])
    middle = rolling(side, horizon + 24, [(84, stream.between(600, 1100), stream.below(TURN))])
    fill_below(canvas, middle, row_colours(side, ground.middle, ground.near, start=horizon - 60, stop=horizon + 60), classes[0])
    near = rolling(side, horizon + 52, [(26, stream.between(500, 900), stream.below(TURN))])
    fill_below(canvas, near, _ground_rows(side, ground, horizon), classes[1])
    _scatter(canvas, stream, TUFT, mixed(ground.front, (20, 60, 40), 26), count=7, rows=(horizon + 110, 1000))


def draw_beach(canvas: Canvas, scene: Scene, stream: Stream, classes: Sequence[int]) -> None:
    """The sea with glints and foam, wet sand, sand, pebbles."""
    ground, horizon, side = GROUNDS["beach", scene.time], scene.horizon, canvas.side
    shore = horizon + 150
    flat = np.full(side, horizon * side * FINE // UNIT, np.int32)
    fill_below(canvas, flat, row_colours(side, ground.far, ground.middle, start=horizon, stop=shore), classes[0])
    _draw_glints(canvas, scene, stream, mixed(ground.middle, SKIES[scene.time].halo, 60))
    waves = [(36, stream.between(700, 1300), stream.below(TURN)), (10, 2600, stream.below(TURN))]
    fill_below(canvas, rolling(side, shore - 14, waves), one_colour(mixed(ground.middle, (255, 255, 255), 70)))
    fill_below(canvas, rolling(side, shore + 6, waves), one_colour(mixed(ground.front, ground.far, 12)), classes[1])
    fill_below(canvas, rolling(side, shore + 34, waves), _ground_rows(side, ground, horizon + 100), classes[1])
    _scatter(canvas, stream, STONE, mixed(ground.front, (64, 44, 44), 14), count=5, rows=(shore + 70, 1000))


def draw_snow(canvas: Canvas, scene: Scene, stream: Stream, classes: Sequence[int]) -> None:
    """Mountains with white caps, a hill with pines, snow."""
    ground, horizon, side = GROUNDS["snow", scene.time], scene.horizon, canvas.side
    peaks = []
    for centre in (130, 400, 660, 910):
        height = stream.between(110, 210)
        peaks.append((centre + stream.between(-60, 60), height, 0, height + stream.between(20, 70)))
    ridge = raised(side, horizon + 20, peaks)
    fill_below(canvas, ridge, one_colour(mixed(ground.far, ground.near, 78)), classes[0])
    teeth = np.abs((np.arange(side, dtype=np.int32) * UNIT // side + stream.below(40)) % 40 - 20)
    bare = np.maximum(ridge, ((horizon - 92 + teeth) * side * FINE // UNIT).astype(np.int32))
    fill_below(canvas, bare, row_colours(side, ground.far, ground.middle, start=horizon - 150, stop=horizon + 40), classes[0])
    hill = rolling(side, horizon + 40, [(56, stream.between(600, 1100), stream.below(TURN))])
    pine = mixed(ground.far, (24, 60, 70), 45)
    for _ in range(6):
        x = stream.below(UNIT)
        y = int(hill[x * side // UNIT]) * UNIT // (side * FINE) + stream.between(6, 22)
        stamp(canvas.pixels, polygon_sprite(PINE, side), [pine], at=(y * side // UNIT, x * side // UNIT))
    fill_below(canvas, hill + 22 * side * FINE // UNIT, one_colour(mixed(ground.near, ground.middle, 45)), classes[1])
    near = rolling(side, horizon + 92, [(34, stream.between(500, 900), stream.below(TURN))])
    fill_below(canvas, near, _ground_rows(side, ground, horizon + 20), classes[1])


def draw_desert(canvas: Canvas, scene: Scene, stream: Stream, classes: Sequence[int]) -> None:
    """Table mountains with a band of another stone, dunes, two cacti, stones."""
    ground, horizon, side = GROUNDS["desert", scene.time], scene.horizon, canvas.side
    peaks = []
    for centre in (170, 520, 850):
        height, flat = stream.between(70, 160), stream.between(50, 110)
        peaks.append((centre + stream.between(-70, 70), height, flat, flat + stream.between(30, 55)))
    ridge = raised(side, horizon + 20, peaks)
    fill_below(canvas, ridge, one_colour(mixed(ground.far, ground.near, 24)), classes[0])
    band = np.maximum(ridge, (horizon - 36) * side * FINE // UNIT).astype(np.int32)
    fill_below(canvas, band, one_colour(ground.far), classes[0])
    dune = rolling(side, horizon + 40, [(60, stream.between(600, 1100), stream.below(TURN))])
    fill_below(canvas, dune, row_colours(side, ground.middle, ground.near, start=horizon - 40, stop=horizon + 110), classes[1])
    cactus = mixed(ground.far, (40, 96, 70), 62)
    for _ in range(2):
        x = stream.below(UNIT)
        y = int(dune[x * side // UNIT]) * UNIT // (side * FINE) + stream.between(10, 30)
        stamp(canvas.pixels, polygon_sprite(CACTUS, side), [cactus], at=(y * side // UNIT, x * side // UNIT))
    near = rolling(side, horizon + 96, [(44, stream.between(500, 900), stream.below(TURN))])
    fill_below(canvas, near, _ground_rows(side, ground, horizon + 20), classes[1])
    _scatter(canvas, stream, STONE, mixed(ground.front, ground.far, 40), count=4, rows=(horizon + 150, 1000))


def _ground_rows(side: int, ground: Ground, horizon: int) -> Pixels:
    return row_colours(side, ground.near, ground.front, start=horizon + 40, stop=UNIT)


def _draw_glints(canvas: Canvas, scene: Scene, stream: Stream, colour: RGB) -> None:
    """Short bright lines on the water."""
    side = canvas.side
    for i in range(9):
        x, y, half = stream.below(UNIT), scene.horizon + 16 + 11 * i, stream.between(14, 34)
        line = (((-half, -3), (half, -3), (half, 3), (-half, 3)),)
        stamp(canvas.pixels, polygon_sprite(line, side), [colour], at=(y * side // UNIT, x * side // UNIT), opacity=38)


def _scatter(
    canvas: Canvas,
    stream: Stream,
    shape: tuple[tuple[tuple[int, int], ...], ...],
    colour: RGB,
    *,
    count: int,
    rows: tuple[int, int],
) -> None:
    """Stamp a small shape in random places between two rows."""
    side = canvas.side
    sprite = polygon_sprite(shape, side)
    for _ in range(count):
        x, y = stream.below(UNIT), stream.between(*rows)
        stamp(canvas.pixels, sprite, [colour], at=(y * side // UNIT, x * side // UNIT))
