"""What the shapes of things are made of: filled polygons with roles, each in the box of its thing.

In the box of a shape, x goes from -0.5 to 0.5 and y from 0 at the foot to 1 at the top.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nodegraph_diffusion.recipes.pictureworld.drawing.palette import Role
from nodegraph_diffusion.recipes.pictureworld.drawing.raster import Point


@dataclass(frozen=True)
class Part:
    """A filled polygon. `inner` parts are details inside the thing; the others make up its silhouette, which is outlined."""

    role: Role
    points: tuple[Point, ...]
    inner: bool = False


def body(role: Role, points: Iterable[Point]) -> Part:
    """A part of the silhouette."""
    return Part(role, tuple(points))


def detail(role: Role, points: Iterable[Point]) -> Part:
    """A part inside the silhouette."""
    return Part(role, tuple(points), inner=True)


def rectangle(left: float, bottom: float, right: float, top: float) -> tuple[Point, ...]:
    """A rectangle by its edges."""
    return (left, bottom), (right, bottom), (right, top), (left, top)


def mirrored(points: Iterable[Point]) -> tuple[Point, ...]:
    """The same polygon on the other side of x = 0."""
    return tuple((-x, y) for x, y in points)


def both(role: Role, points: Iterable[Point], *, inner: bool = False) -> list[Part]:
    """A polygon and its mirror image."""
    corners = tuple(points)
    return [Part(role, corners, inner), Part(role, mirrored(corners), inner)]
