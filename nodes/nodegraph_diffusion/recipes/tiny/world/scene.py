"""What a picture of the toy world shows, as data: places, times of day and one or two things in colours.

A scene has the positions of its things as fractions of the picture's side, so it can be drawn at any size. Scenes are
sampled from a `random.Random`, whose stream is the same on every platform and Python version for a given seed.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from random import Random
from typing import Literal, get_args

Kind = Literal["house", "tree", "boat", "car", "cat", "balloon", "mushroom", "castle"]
Colour = Literal["red", "orange", "yellow", "green", "blue", "purple", "pink", "white"]
Place = Literal["meadow", "beach", "snow", "desert"]
Time = Literal["day", "sunset", "night"]
Combinations = Literal["training", "held-out", "all"]

KINDS: tuple[Kind, ...] = get_args(Kind)
COLOURS: tuple[Colour, ...] = get_args(Colour)
PLACES: tuple[Place, ...] = get_args(Place)
TIMES: tuple[Time, ...] = get_args(Time)

PROPORTIONS: dict[Kind, tuple[float, float]] = {
    "house": (1.0, 1.0),
    "tree": (0.86, 1.08),
    "boat": (1.04, 1.0),
    "car": (1.14, 0.62),
    "cat": (0.84, 1.04),
    "balloon": (0.84, 1.12),
    "mushroom": (1.0, 0.96),
    "castle": (0.98, 1.04),
}
"""Width and height of each kind at size 1."""

HELD_OUT: frozenset[tuple[Kind, Colour]] = frozenset(
    {
        ("house", "pink"),
        ("tree", "blue"),
        ("boat", "green"),
        ("car", "yellow"),
        ("cat", "white"),
        ("balloon", "orange"),
        ("mushroom", "purple"),
        ("castle", "red"),
    }
)
"""Combinations that are in no training picture or caption: each kind and each colour once."""


@dataclass(frozen=True)
class Thing:
    """One thing in a scene; in fractions of the side, `x` is its centre, `base` its foot from the top, `size` its scale."""

    kind: Kind
    colour: Colour
    _: KW_ONLY
    x: float
    base: float
    size: float


@dataclass(frozen=True)
class Scene:
    """A whole picture: `things` from left to right; `seed` determines clouds, hills and stars; `horizon` is from the top."""

    place: Place
    time: Time
    things: tuple[Thing, ...]
    _: KW_ONLY
    horizon: float
    seed: int


def allowed(place: Place, colour: Colour) -> bool:
    """Whether a thing of this colour is visible in this place: no white things in the snow."""
    return not (place == "snow" and colour == "white")


def sample_scene(random: Random, *, combinations: Combinations = "training", count: int | None = None) -> Scene:
    """A random scene with things of the training combinations, of the held-out ones, or of all.

    `count` fixes the number of things (0 to 3); otherwise 3 % of the scenes are empty, 30 % have one thing and the rest two.
    Scenes with three things are only for the judges.
    """
    if count is None:
        count = random.choices((0, 1, 2), weights=(3, 30, 67))[0]
    place, time = random.choice(PLACES), random.choice(TIMES)
    pairs = [
        (kind, colour)
        for kind in KINDS
        for colour in COLOURS
        if allowed(place, colour) and (combinations == "all" or ((kind, colour) in HELD_OUT) == (combinations == "held-out"))
    ]
    things = tuple(_random_thing(random, *random.choice(pairs), slot=slot, count=count) for slot in range(count))
    return Scene(place, time, things, horizon=random.uniform(0.53, 0.59), seed=random.getrandbits(32))


_COLUMNS = {1: ((0.32, 0.68),), 2: ((0.22, 0.28), (0.72, 0.78)), 3: ((0.16, 0.19), (0.48, 0.52), (0.81, 0.84))}
_SIZES = {1: (0.46, 0.58), 2: (0.37, 0.43), 3: (0.26, 0.29)}


def _random_thing(random: Random, kind: Kind, colour: Colour, *, slot: int, count: int) -> Thing:
    """A thing in its column of the picture, on the ground, or in the sky if it flies."""
    size = random.uniform(*_SIZES[count])
    margin = 0.5 * PROPORTIONS[kind][0] * size + 0.02
    x = min(max(random.uniform(*_COLUMNS[count][slot]), margin), 1 - margin)
    base = random.uniform(0.60, 0.70) if kind == "balloon" else random.uniform(0.82, 0.92)
    return Thing(kind, colour, x=x, base=base, size=size)
