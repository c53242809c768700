"""Exact rasterising: shapes as masks, in integer arithmetic only, so that every machine draws the same pixels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import isqrt

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]
Mask = NDArray[np.bool_]
Ints = NDArray[np.int32]
Pixels = NDArray[np.int16]
"""Colours, and how much of a pixel is covered: products of the two fit into 16 bits."""

FINE = 16
"""Vertices are rounded to this part of a sample's side, which is two to the power of -FINE_SHIFT."""
FINE_SHIFT = 4
TURN = 1024
"""The number of angles of the sine table."""
SINE_ONE = 1 << 14


@cache
def sines() -> Ints:
    """SINE_ONE times the sine of each TURN-th of a circle, (TURN,), by its Taylor series: only + and *, which are exact."""
    quarter = []
    for i in range(TURN // 4 + 1):
        angle = 2 * 3.141592653589793 * i / TURN
        term = total = angle
        for n in range(3, 18, 2):
            term = -term * angle * angle / (n * (n - 1))
            total += term
        quarter.append(round(SINE_ONE * total))
    half = [*quarter, *quarter[-2:0:-1]]
    return np.asarray([*half, *(-value for value in half)], np.int32)


def sine(turn: float) -> float:
    """The sine of an angle that is measured in turns, to about 4 digits."""
    return int(sines()[round(turn * TURN) % TURN]) / SINE_ONE


def oval(x: float, y: float, rx: float, ry: float, *, start: float = 0.0, end: float = 1.0) -> tuple[Point, ...]:
    """An ellipse around (x, y), or its arc from `start` to `end` in turns counter-clockwise, as a polygon."""
    steps = 40
    angles = [start + (end - start) * i / steps for i in range(steps + (end - start < 1))]
    return tuple((x + rx * sine(angle + 0.25), y + ry * sine(angle)) for angle in angles)


def curve(start: Point, control: Point, end: Point) -> tuple[Point, ...]:
    """A quadratic Bezier curve as 13 points."""
    points = []
    for i in range(13):
        t = i / 12
        a, b, c = (1 - t) * (1 - t), 2 * t * (1 - t), t * t
        points.append((a * start[0] + b * control[0] + c * end[0], a * start[1] + b * control[1] + c * end[1]))
    return tuple(points)


def polygon(points: Sequence[tuple[int, int]], height: int, width: int) -> Mask:
    """The samples inside a polygon by the even-odd rule, (height, width); vertices in FINE parts of a sample."""
    x0, y0 = np.asarray(points, np.int64).T
    x1, y1 = np.roll(x0, -1), np.roll(y0, -1)
    top = max(0, int(y0.min()) // FINE)
    bottom = min(height, int(y0.max()) // FINE + 1)
    mask = np.zeros((height, width), np.bool_)
    if bottom <= top:
        return mask
    centres = (np.arange(top, bottom, dtype=np.int64) * FINE + FINE // 2)[:, None]
    crossed = (y0 <= centres) != (y1 <= centres)
    rise = np.where(y1 == y0, 1, y1 - y0)
    x = x0 + (centres - y0) * (x1 - x0) // rise
    columns = np.clip(-((FINE // 2 - x) // FINE), 0, width)  # the first sample whose centre is not left of the crossing
    toggles = np.zeros((bottom - top, width + 1), np.int32)
    rows = np.broadcast_to(np.arange(bottom - top)[:, None], crossed.shape)
    np.add.at(toggles, (rows[crossed], columns[crossed]), 1)
    mask[top:bottom] = np.cumsum(toggles, 1)[:, :width] & 1
    return mask


def thickened(mask: Mask, radius: int) -> Mask:
    """The samples within `radius` of a mask: its dilation by a disc."""
    height, width = mask.shape
    padded = np.zeros((height + 2 * radius, width + 2 * radius), np.bool_)
    padded[radius : radius + height, radius : radius + width] = mask
    wide, reach = padded.copy(), 0
    out = np.zeros_like(mask)
    for dy in range(radius, -1, -1):
        while reach < isqrt(radius * radius - dy * dy):
            reach += 1
            wide[:, reach:] |= padded[:, :-reach]
            wide[:, :-reach] |= padded[:, reach:]
        for shift in {radius - dy, radius + dy}:
            out |= wide[shift : shift + height, radius : radius + width]
    return out


def counted(mask: Mask, samples: int) -> Pixels:
    """How many of the samples x samples of each pixel are in a mask, (height / samples, width / samples)."""
    height, width = mask.shape
    rows = mask.reshape(height // samples, samples, width).sum(1, dtype=np.int16)
    counts: Pixels = rows.reshape(height // samples, width // samples, samples).sum(2, dtype=np.int16)
    return counts
