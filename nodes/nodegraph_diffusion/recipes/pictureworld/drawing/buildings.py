"""The shapes of what people build: houses, castles, boats, cars, balloons and rockets."""

from __future__ import annotations

from nodegraph_diffusion.recipes.pictureworld.drawing.parts import Part, body, both, detail, rectangle
from nodegraph_diffusion.recipes.pictureworld.drawing.raster import curve, oval


def house() -> list[Part]:
    """Walls with a door and two windows, a roof with a chimney."""
    return [
        body("wood", rectangle(0.18, 0.62, 0.32, 0.97)),
        body("paint", rectangle(-0.40, 0.0, 0.40, 0.56)),
        body("shade", ((-0.5, 0.50), (0.5, 0.50), (0.07, 1.0), (-0.07, 1.0))),
        detail("light", ((-0.43, 0.555), (-0.385, 0.61), (0.385, 0.61), (0.43, 0.555))),
        detail("cream", oval(0.0, 0.735, 0.085, 0.085)),
        detail("window", oval(0.0, 0.735, 0.055, 0.055)),
        detail("wood", (*rectangle(-0.11, 0.0, 0.11, 0.28), *oval(0.0, 0.28, 0.11, 0.09, end=0.5))),
        detail("dark", oval(0.065, 0.17, 0.02, 0.02)),
        *both("cream", rectangle(-0.345, 0.19, -0.155, 0.43), inner=True),
        *both("window", rectangle(-0.315, 0.22, -0.185, 0.40), inner=True),
        *both("cream", rectangle(-0.262, 0.22, -0.238, 0.40), inner=True),
    ]


def castle() -> list[Part]:
    """A wall with battlements and a gate between two towers with pointed roofs and flags."""
    wall = ((-0.24, 0.0), (0.24, 0.0), (0.24, 0.56), (0.13, 0.56), (0.13, 0.49), (0.055, 0.49), (0.055, 0.56))
    return [
        *both("wood", rectangle(0.318, 0.88, 0.342, 1.0)),
        *both("light", ((0.342, 0.93), (0.342, 1.0), (0.46, 0.965))),
        body("paint", (*wall, (-0.055, 0.56), (-0.055, 0.49), (-0.13, 0.49), (-0.13, 0.56), (-0.24, 0.56))),
        *both("paint", rectangle(0.19, 0.0, 0.47, 0.60)),
        *both("shade", ((0.14, 0.60), (0.5, 0.60), (0.33, 0.90))),
        *both("light", rectangle(0.19, 0.545, 0.47, 0.595), inner=True),
        detail("light", rectangle(-0.19, 0.40, 0.19, 0.435)),
        detail("dark", (*rectangle(-0.12, 0.0, 0.12, 0.20), *oval(0.0, 0.20, 0.12, 0.13, end=0.5))),
        detail("wood", (*rectangle(-0.085, 0.0, 0.085, 0.19), *oval(0.0, 0.19, 0.085, 0.10, end=0.5))),
        *both("window", (*rectangle(0.27, 0.30, 0.39, 0.42), *oval(0.33, 0.42, 0.06, 0.06, end=0.5)), inner=True),
        *both("shade", rectangle(0.23, 0.12, 0.30, 0.155), inner=True),
        *both("shade", rectangle(0.36, 0.20, 0.43, 0.235), inner=True),
    ]


def boat() -> list[Part]:
    """A hull with a stripe, a mast, two swelling sails and a pennant."""
    return [
        body("wood", rectangle(-0.045, 0.22, 0.015, 0.98)),
        body("light", ((0.015, 0.99), (0.015, 0.90), (0.17, 0.945))),
        body("paint", (*curve((0.04, 0.88), (0.34, 0.62), (0.44, 0.31)), (0.04, 0.31))),
        body("light", (*curve((-0.07, 0.82), (-0.30, 0.60), (-0.40, 0.31)), (-0.07, 0.31))),
        body("paint", ((-0.5, 0.235), (0.5, 0.235), *curve((0.44, 0.11), (0.38, 0.0), (0.25, 0.0)), (-0.27, 0.0), (-0.41, 0.07))),
        detail("shade", ((-0.43, 0.10), (0.44, 0.10), *curve((0.42, 0.08), (0.37, 0.0), (0.25, 0.0)), (-0.27, 0.0))),
        detail("cream", ((-0.475, 0.185), (0.475, 0.185), (0.46, 0.14), (-0.45, 0.14))),
        detail("shade", ((0.04, 0.42), (0.04, 0.36), (0.415, 0.36), (0.385, 0.42))),
    ]


def car() -> list[Part]:
    """A body and a cabin with two windows, two wheels, lamps."""
    cabin = (*curve((-0.34, 0.54), (-0.26, 0.98), (-0.12, 1.0)), *curve((0.12, 1.0), (0.22, 0.99), (0.33, 0.54)))
    hull = (
        *curve((-0.5, 0.40), (-0.5, 0.60), (-0.36, 0.60)),
        *curve((0.30, 0.60), (0.5, 0.58), (0.5, 0.34)),
        (0.5, 0.16),
        (-0.5, 0.16),
    )
    return [
        body("paint", cabin),
        body("paint", hull),
        body("dark", oval(-0.27, 0.18, 0.135, 0.21)),
        body("dark", oval(0.27, 0.18, 0.135, 0.21)),
        detail("shade", rectangle(-0.49, 0.17, 0.49, 0.26)),
        detail("dark", oval(-0.27, 0.18, 0.135, 0.21)),
        detail("dark", oval(0.27, 0.18, 0.135, 0.21)),
        detail("cream", oval(-0.27, 0.18, 0.065, 0.10)),
        detail("cream", oval(0.27, 0.18, 0.065, 0.10)),
        detail("glass", (*curve((-0.25, 0.60), (-0.21, 0.87), (-0.11, 0.88)), (-0.035, 0.88), (-0.035, 0.60))),
        detail("glass", ((0.035, 0.60), (0.035, 0.88), *curve((0.10, 0.88), (0.17, 0.86), (0.235, 0.60)))),
        detail("light", rectangle(-0.40, 0.44, 0.34, 0.49)),
        detail("gold", oval(0.445, 0.41, 0.045, 0.075)),
    ]


def balloon() -> list[Part]:
    """A hot-air balloon: an envelope with stripes, ropes, a basket."""
    envelope = (
        *oval(0.0, 0.64, 0.5, 0.36, start=-0.06, end=0.56),
        *curve((-0.46, 0.55), (-0.36, 0.36), (-0.16, 0.28)),
        (0.16, 0.28),
    )
    return [
        body("wood", ((-0.13, 0.0), (0.13, 0.0), (0.16, 0.15), (-0.16, 0.15))),
        *both("wood", ((0.10, 0.14), (0.14, 0.30), (0.17, 0.30), (0.145, 0.14)), inner=True),
        body("paint", (*envelope, *curve((0.16, 0.28), (0.36, 0.36), (0.46, 0.55)))),
        detail("light", (*oval(0.0, 0.64, 0.15, 0.34, start=-0.02, end=0.52), (-0.06, 0.30), (0.06, 0.30))),
        *both(
            "shade",
            (*oval(0.20, 0.64, 0.28, 0.33, start=-0.20, end=0.22), *oval(0.16, 0.64, 0.21, 0.33, start=0.22, end=-0.20)),
            inner=True,
        ),
        detail("cream", rectangle(-0.17, 0.275, 0.17, 0.315)),
        detail("dark", rectangle(-0.155, 0.125, 0.155, 0.155)),
    ]


def rocket() -> list[Part]:
    """A rocket with a nose cone, a round window, three fins and a flame."""
    return [
        body("flame", (*curve((-0.16, 0.16), (-0.14, 0.06), (0.0, 0.0)), *curve((0.0, 0.0), (0.14, 0.06), (0.16, 0.16)))),
        detail("gold", (*curve((-0.08, 0.16), (-0.07, 0.09), (0.0, 0.05)), *curve((0.0, 0.05), (0.07, 0.09), (0.08, 0.16)))),
        *both("shade", (*curve((0.22, 0.46), (0.48, 0.34), (0.5, 0.08)), *curve((0.5, 0.08), (0.36, 0.18), (0.18, 0.20)))),
        body("paint", (*curve((-0.19, 0.16), (-0.46, 0.62), (0.0, 1.0)), *curve((0.0, 1.0), (0.46, 0.62), (0.19, 0.16)))),
        detail("shade", (*curve((-0.21, 0.76), (-0.13, 0.90), (0.0, 1.0)), *curve((0.0, 1.0), (0.13, 0.90), (0.21, 0.76)))),
        detail(
            "light", (*curve((-0.19, 0.24), (-0.29, 0.48), (-0.225, 0.70)), *curve((-0.15, 0.70), (-0.20, 0.48), (-0.12, 0.24)))
        ),
        detail("cream", oval(0.0, 0.57, 0.155, 0.095)),
        detail("window", oval(0.0, 0.57, 0.11, 0.067)),
        detail("shade", ((-0.045, 0.34), (0.045, 0.34), (0.06, 0.12), (-0.06, 0.12))),
        detail("dark", rectangle(-0.185, 0.145, 0.185, 0.18)),
    ]
