"""Scenes by number: `scene(seed, index)` is the same on every machine.

A scene is one thing, a row, a column, or two things in one row with a third above or below them. Boxes of things do not overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count as numbers
from typing import Literal

from nodegraph_diffusion.recipes.pictureworld.combinations import HELD_OUT_THINGS, held_out_things, is_training_scene
from nodegraph_diffusion.recipes.pictureworld.hashing import Stream
from nodegraph_diffusion.recipes.pictureworld.scene import (
    COLOURS,
    FLYING,
    KINDS,
    PLACES,
    PROPORTIONS,
    TIMES,
    UNIT,
    Colour,
    Kind,
    Scene,
    Size,
    Thing,
)

Combinations = Literal["training", "held-out", "all"]
"""Which combinations a scene has: none that is held out; at least one that is; or any."""

COUNTS = {0: 3, 1: 30, 2: 37, 3: 30}
"""How many things a scene has, in percent."""
STEP = 8
"""Scales are multiples of this, so that few different sprites are needed."""
SCALES: dict[Size, tuple[int, int]] = {"small": (27, 33), "large": (44, 50)}
SINGLE_SCALES: dict[Size, tuple[int, int]] = {"small": (27, 34), "large": (46, 62)}
"""Least and largest scale, in steps, of things beside others and of a thing that has the picture for itself."""
SMALLEST_LARGE = 39 * STEP
"""The scale from which a judge calls a thing large."""
MARGIN, GAP = 22, 26
"""The least distance of a box from the picture's edge and from the next box."""
TWIN_PERCENT = 30
"""How often a thing beside others is another one of the same kind and colour, so that there is something to count."""

LOWER_HALF = 496
"""Below this, there is room under a thing in the air and its cloud."""

Level = Literal["air", "ground", "front"]
EVERY_THING = tuple((kind, colour) for kind in KINDS for colour in COLOURS)
TRAINING_THINGS = tuple(thing for thing in EVERY_THING if thing not in HELD_OUT_THINGS)
HELD_OUT = tuple(thing for thing in EVERY_THING if thing in HELD_OUT_THINGS)


def scene(seed: int, index: int, *, combinations: Combinations = "training", count: int | None = None) -> Scene:
    """The scene with a seed and an index, with `count` things (0 to 3); by default their number varies.

    Held-out scenes with an even index have held-out things only. Those with an odd index and several things have training things,
    of which at least two are a held-out pair.
    """
    for attempt in numbers():
        stream = Stream("scene", seed, index, attempt)
        total = stream.weighted(COUNTS) if count is None else count
        if combinations == "held-out" and count is None:
            total = max(total, 1)
        only_held_out = combinations == "held-out" and (index % 2 == 0 or total < 2)
        found = _arranged(stream, total, HELD_OUT if only_held_out else _source(combinations))
        if combinations == "training" and not is_training_scene(found):
            continue
        if combinations == "held-out" and not only_held_out and (held_out_things(found) or is_training_scene(found)):
            continue
        return found
    raise AssertionError("unreachable")


def _source(combinations: Combinations) -> Sequence[tuple[Kind, Colour]]:
    return EVERY_THING if combinations == "all" else TRAINING_THINGS


def _arranged(stream: Stream, total: int, source: Sequence[tuple[Kind, Colour]]) -> Scene:
    """A random scene with `total` things, in reading order: from top to bottom by rows, from left to right in a row."""
    place, time = stream.choice(PLACES), stream.choice(TIMES)
    chosen = [stream.choice(source) for _ in range(total)]
    for i in range(1, total):
        if stream.chance(TWIN_PERCENT):
            chosen[i] = chosen[i - 1]
    things = tuple(_thing(stream, *pair, single=total == 1) for pair in chosen)
    horizon = stream.between(530, 590)
    placed = _place(stream, things)
    return Scene(place, time, placed, horizon=horizon, seed=stream.bits() >> 32)


def _thing(stream: Stream, kind: Kind, colour: Colour, *, single: bool) -> Thing:
    """A thing that has a size but no place yet."""
    size: Size = "large" if stream.chance(65 if single else 50) else "small"
    low, high = (SINGLE_SCALES if single else SCALES)[size]
    return Thing(kind, colour, size, x=0, base=0, scale=STEP * stream.between(low, high), mirrored=stream.chance(50))


def _place(stream: Stream, things: tuple[Thing, ...]) -> tuple[Thing, ...]:
    """Give each thing its place."""
    if len(things) < 2:
        aloft = bool(things) and stream.chance(45 if things[0].kind in FLYING else 10)
        return _row(stream, things, "air" if aloft else "ground")
    shape = stream.weighted({"row": 55, "column": 45} if len(things) == 2 else {"row": 34, "one above": 33, "one below": 33})
    if shape == "row":
        return _row(stream, things, "air" if stream.chance(10) else "ground")
    upper = 1 if shape == "column" else 2 if shape == "one below" else 1
    above, below = _row(stream, things[:upper], "air"), _row(stream, things[upper:], "front")
    if len(above) == len(below):
        return _moved(stream, above[0], below[0].x, spread=60), *below
    wide, single = (below, above[0]) if upper == 1 else (above, below[0])
    target = stream.choice((wide[0].x, (wide[0].x + wide[1].x) // 2, wide[1].x))
    moved = _moved(stream, single, target, spread=40)
    return (moved, *below) if upper == 1 else (*above, moved)


def _moved(stream: Stream, thing: Thing, x: int, *, spread: int) -> Thing:
    """The thing with its centre at x, or up to `spread` beside it, and inside the picture."""
    half = _width(thing) // 2 + MARGIN
    return replace(thing, x=min(max(x + stream.between(-spread, spread), half), UNIT - half))


def _width(thing: Thing) -> int:
    return PROPORTIONS[thing.kind][0] * thing.scale // 100


def _row(stream: Stream, things: tuple[Thing, ...], level: Level) -> tuple[Thing, ...]:
    """Place things from left to right, with the free width divided by chance; large ones become small if they do not fit."""
    things = _fitted(stream, things)
    free = UNIT - 2 * MARGIN - sum(map(_width, things)) - GAP * (len(things) - 1)
    cuts = sorted(stream.between(0, free) for _ in things)
    placed, used = [], MARGIN
    for thing, cut in zip(things, cuts, strict=True):
        x = used + cut + _width(thing) // 2
        placed.append(replace(thing, x=x, base=_base(stream, thing, level), aloft=level == "air"))
        used += _width(thing) + GAP
    return tuple(placed)


def _base(stream: Stream, thing: Thing, level: Level) -> int:
    """The foot of a thing: in the air, on the ground, or so far in front that there is room above it."""
    height = PROPORTIONS[thing.kind][1] * thing.scale // 100
    if level == "air":
        return max(height + MARGIN, stream.between(400, 468))
    base = stream.between(890, 968) if level == "ground" else stream.between(944, 976)
    if thing.kind in FLYING:
        base -= stream.between(40, 90)
    return base if level == "ground" else max(base, LOWER_HALF + height)


def _fitted(stream: Stream, things: tuple[Thing, ...]) -> tuple[Thing, ...]:
    """The things, as many of them made small as is necessary to fit beside each other."""
    while sum(map(_width, things)) + GAP * (len(things) - 1) > UNIT - 2 * MARGIN:
        widest = max(range(len(things)), key=lambda i: _width(things[i]))
        low, high = SCALES["small"]
        smaller = replace(things[widest], size="small", scale=STEP * stream.between(low, high))
        things = (*things[:widest], smaller, *things[widest + 1 :])
    return things
