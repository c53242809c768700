"""The shapes of the eight kinds of thing: polygons with roles, each in its own box.

In the box of a shape, x goes from -0.5 to 0.5 and y from 0 at the foot to 1 at the top; `scene.PROPORTIONS` has the width and
height of the box. The role of a part determines its colour.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from nodegraph_diffusion.recipes.tiny.world.scene import Kind

Role = Literal["paint", "shade", "light", "wood", "cream", "dark", "window", "glass"]
Point = tuple[float, float]


@dataclass(frozen=True)
class Part:
    """A filled polygon; `inner` parts are inside the thing and have no outline."""

    role: Role
    points: tuple[Point, ...]
    inner: bool = False


def box(x0: float, y0: float, x1: float, y1: float) -> tuple[Point, ...]:
    """A rectangle by two corners."""
    return (x0, y0), (x1, y0), (x1, y1), (x0, y1)


def oval(x: float, y: float, rx: float, ry: float, *, start: float = 0, end: float = 360) -> tuple[Point, ...]:
    """An ellipse around (x, y), or its arc from `start` to `end` degrees counter-clockwise, as 36 points."""
    angles = (math.radians(start + (end - start) * i / 35) for i in range(36))
    return tuple((x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles)


def house() -> list[Part]:
    """Walls, a roof, a chimney, a door and two windows."""
    return [
        Part("shade", box(0.20, 0.60, 0.34, 0.98)),
        Part("paint", box(-0.40, 0.0, 0.40, 0.56)),
        Part("shade", ((-0.5, 0.52), (0.5, 0.52), (0.0, 1.0))),
        Part("dark", box(-0.10, 0.0, 0.12, 0.34), inner=True),
        Part("window", box(-0.33, 0.22, -0.17, 0.42), inner=True),
        Part("window", box(0.19, 0.22, 0.34, 0.42), inner=True),
    ]


def tree() -> list[Part]:
    """A trunk and a crown of three balls."""
    return [
        Part("wood", ((-0.12, 0.0), (0.12, 0.0), (0.09, 0.45), (-0.09, 0.45))),
        Part("paint", oval(-0.23, 0.52, 0.27, 0.21)),
        Part("paint", oval(0.23, 0.52, 0.27, 0.21)),
        Part("paint", oval(0.0, 0.70, 0.36, 0.30)),
        Part("light", oval(-0.10, 0.78, 0.15, 0.11), inner=True),
    ]


def boat() -> list[Part]:
    """A hull, a mast and two sails."""
    return [
        Part("wood", box(-0.045, 0.18, 0.035, 1.0)),
        Part("paint", ((0.05, 0.32), (0.44, 0.32), (0.05, 0.96))),
        Part("light", ((-0.06, 0.32), (-0.36, 0.32), (-0.06, 0.82))),
        Part("shade", ((-0.5, 0.24), (0.5, 0.24), (0.34, 0.0), (-0.34, 0.0))),
    ]


def car() -> list[Part]:
    """A body, a cabin with two windows, two wheels."""
    return [
        Part("paint", ((-0.30, 0.50), (-0.20, 0.96), (0.14, 0.96), (0.30, 0.50))),
        Part("paint", ((-0.5, 0.18), (0.5, 0.18), (0.5, 0.48), (0.42, 0.58), (-0.44, 0.60), (-0.5, 0.52))),
        Part("dark", oval(-0.27, 0.17, 0.125, 0.19)),
        Part("dark", oval(0.27, 0.17, 0.125, 0.19)),
        Part("glass", ((-0.21, 0.58), (-0.145, 0.86), (-0.035, 0.86), (-0.035, 0.58)), inner=True),
        Part("glass", ((0.025, 0.58), (0.025, 0.86), (0.10, 0.86), (0.20, 0.58)), inner=True),
        Part("cream", oval(-0.27, 0.17, 0.055, 0.085), inner=True),
        Part("cream", oval(0.27, 0.17, 0.055, 0.085), inner=True),
    ]


def cat() -> list[Part]:
    """A sitting cat that looks at you: ears, head, body, tail, eyes and a muzzle."""
    return [
        Part("shade", oval(0.30, 0.15, 0.20, 0.13)),
        Part("paint", oval(0.0, 0.24, 0.30, 0.27)),
        Part("paint", ((-0.40, 1.0), (-0.38, 0.60), (-0.06, 0.86))),
        Part("paint", ((0.40, 1.0), (0.38, 0.60), (0.06, 0.86))),
        Part("paint", oval(0.0, 0.64, 0.42, 0.27)),
        Part("light", oval(0.0, 0.53, 0.17, 0.11), inner=True),
        Part("light", oval(0.0, 0.18, 0.15, 0.16), inner=True),
        Part("dark", oval(-0.19, 0.68, 0.065, 0.075), inner=True),
        Part("dark", oval(0.19, 0.68, 0.065, 0.075), inner=True),
        Part("dark", oval(0.0, 0.56, 0.05, 0.03), inner=True),
    ]


def balloon() -> list[Part]:
    """A hot-air balloon: an envelope with a light stripe, ropes, a basket."""
    return [
        Part("wood", ((-0.13, 0.0), (0.13, 0.0), (0.16, 0.17), (-0.16, 0.17))),
        Part("wood", ((-0.15, 0.17), (-0.26, 0.34), (-0.20, 0.34), (-0.10, 0.17)), inner=True),
        Part("wood", ((0.15, 0.17), (0.26, 0.34), (0.20, 0.34), (0.10, 0.17)), inner=True),
        Part("paint", (*oval(0.0, 0.63, 0.5, 0.37, start=-28, end=208), (-0.20, 0.28), (0.20, 0.28))),
        Part("light", oval(0.0, 0.64, 0.17, 0.345), inner=True),
    ]


def mushroom() -> list[Part]:
    """A stem and a cap with three spots."""
    return [
        Part("cream", ((-0.15, 0.0), (0.15, 0.0), (0.13, 0.48), (-0.13, 0.48))),
        Part("paint", (*oval(0.0, 0.42, 0.5, 0.56, start=0, end=180), (-0.38, 0.35), (0.38, 0.35))),
        Part("cream", oval(-0.27, 0.57, 0.09, 0.09), inner=True),
        Part("cream", oval(0.02, 0.76, 0.11, 0.10), inner=True),
        Part("cream", oval(0.28, 0.55, 0.085, 0.09), inner=True),
    ]


def castle() -> list[Part]:
    """A wall with battlements and a gate between two towers with pointed roofs."""
    wall = ((-0.25, 0.0), (0.25, 0.0), (0.25, 0.60), (0.15, 0.60), (0.15, 0.50), (0.06, 0.50), (0.06, 0.60))
    return [
        Part("paint", (*wall, (-0.06, 0.60), (-0.06, 0.50), (-0.15, 0.50), (-0.15, 0.60), (-0.25, 0.60))),
        Part("paint", box(-0.46, 0.0, -0.20, 0.66)),
        Part("paint", box(0.20, 0.0, 0.46, 0.66)),
        Part("shade", ((-0.5, 0.66), (-0.16, 0.66), (-0.33, 1.0))),
        Part("shade", ((0.16, 0.66), (0.5, 0.66), (0.33, 1.0))),
        Part("dark", (*oval(0.0, 0.20, 0.12, 0.14, start=0, end=180), (-0.12, 0.0), (0.12, 0.0)), inner=True),
        Part("window", box(-0.38, 0.36, -0.28, 0.52), inner=True),
        Part("window", box(0.28, 0.36, 0.38, 0.52), inner=True),
    ]


SHAPES: dict[Kind, Callable[[], list[Part]]] = {
    "house": house,
    "tree": tree,
    "boat": boat,
    "car": car,
    "cat": cat,
    "balloon": balloon,
    "mushroom": mushroom,
    "castle": castle,
}
