"""What a picture shows, as data: a place, a time of day, and up to three things.

All lengths are integers in units of 1/1024 of the picture's side, measured from the top left corner. So a scene can be drawn at
any size, and equal scenes give equal pictures on every machine.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Literal, get_args

Kind = Literal["house", "tree", "boat", "car", "cat", "balloon", "mushroom", "castle", "owl", "rabbit", "flower", "rocket"]
Colour = Literal["red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black", "brown"]
Size = Literal["small", "large"]
Place = Literal["meadow", "beach", "snow", "desert"]
Time = Literal["day", "sunset", "night"]
Relation = Literal["left", "right", "above", "below"]

KINDS: tuple[Kind, ...] = get_args(Kind)
COLOURS: tuple[Colour, ...] = get_args(Colour)
SIZES: tuple[Size, ...] = get_args(Size)
PLACES: tuple[Place, ...] = get_args(Place)
TIMES: tuple[Time, ...] = get_args(Time)

UNIT = 1024
"""The side of a picture in the units of a scene."""
MOST_THINGS = 3
FLYING: frozenset[Kind] = frozenset({"balloon", "rocket"})
"""Kinds that float; in the air, all others sit on a cloud."""
OPPOSITES: dict[Relation, Relation] = {"left": "right", "right": "left", "above": "below", "below": "above"}

PROPORTIONS: dict[Kind, tuple[int, int]] = {
    "house": (100, 100),
    "tree": (88, 108),
    "boat": (104, 100),
    "car": (112, 66),
    "cat": (84, 104),
    "balloon": (84, 110),
    "mushroom": (100, 96),
    "castle": (98, 106),
    "owl": (80, 100),
    "rabbit": (74, 110),
    "flower": (80, 108),
    "rocket": (66, 110),
}
"""Width and height of each kind in percent of its scale."""


@dataclass(frozen=True)
class Box:
    """A rectangle: its edges, in any unit."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def doubled_centre(self) -> tuple[int, int]:
        """Twice the coordinates of the centre, so that they are integers."""
        return self.left + self.right, self.top + self.bottom


@dataclass(frozen=True)
class Thing:
    """One thing: `x` is its centre, `base` its foot, `scale` its size; `mirrored` swaps its left and right side."""

    kind: Kind
    colour: Colour
    size: Size
    _: KW_ONLY
    x: int
    base: int
    scale: int
    mirrored: bool = False
    aloft: bool = False

    @property
    def box(self) -> Box:
        """The rectangle around the thing, without its outline."""
        width, height = (percent * self.scale // 100 for percent in PROPORTIONS[self.kind])
        left = self.x - width // 2
        return Box(left, self.base - height, left + width, self.base)


@dataclass(frozen=True)
class Scene:
    """A whole picture: `things` in reading order; `horizon` is from the top; `seed` determines hills, clouds and stars."""

    place: Place
    time: Time
    things: tuple[Thing, ...]
    _: KW_ONLY
    horizon: int
    seed: int


def relation(first: Box, second: Box) -> Relation | None:
    """Where the first box is, as seen from the second: None if the direction is oblique or the boxes overlap that way.

    It is within about 31 degrees (a slope of 3/5) of the horizontal or the vertical.
    """
    (x1, y1), (x2, y2) = first.doubled_centre, second.doubled_centre
    dx, dy = x2 - x1, y2 - y1
    if 5 * abs(dy) <= 3 * abs(dx):
        if first.right <= second.left:
            return "left"
        return "right" if second.right <= first.left else None
    if 5 * abs(dx) <= 3 * abs(dy):
        if first.bottom <= second.top:
            return "above"
        return "below" if second.bottom <= first.top else None
    return None
