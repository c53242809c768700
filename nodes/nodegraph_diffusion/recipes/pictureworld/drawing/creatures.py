"""The shapes of what grows and lives: trees, mushrooms, flowers, cats, owls and rabbits."""

from __future__ import annotations

from nodegraph_diffusion.recipes.pictureworld.drawing.parts import Part, body, both, detail
from nodegraph_diffusion.recipes.pictureworld.drawing.raster import curve, oval, sine


def tree() -> list[Part]:
    """A trunk with a branch, and a crown of five balls."""
    return [
        body("wood", (*curve((-0.17, 0.0), (-0.08, 0.08), (-0.09, 0.42)), *curve((0.09, 0.42), (0.08, 0.08), (0.17, 0.0)))),
        body("paint", oval(-0.27, 0.50, 0.23, 0.18)),
        body("paint", oval(0.27, 0.50, 0.23, 0.18)),
        body("paint", oval(0.0, 0.47, 0.24, 0.16)),
        body("paint", oval(-0.19, 0.71, 0.23, 0.19)),
        body("paint", oval(0.19, 0.71, 0.23, 0.19)),
        body("paint", oval(0.0, 0.83, 0.22, 0.17)),
        detail("paint", oval(0.0, 0.62, 0.30, 0.22)),
        detail("shade", (*oval(0.24, 0.485, 0.19, 0.135, start=0.52, end=1.02), *curve((0.40, 0.52), (0.25, 0.40), (0.06, 0.48)))),
        detail(
            "shade", (*oval(-0.24, 0.485, 0.20, 0.135, start=0.5, end=0.98), *curve((-0.08, 0.46), (-0.25, 0.40), (-0.44, 0.49)))
        ),
        detail("light", oval(-0.13, 0.82, 0.13, 0.085)),
        detail("light", oval(-0.30, 0.66, 0.07, 0.05)),
        detail("light", oval(0.13, 0.70, 0.055, 0.04)),
    ]


def mushroom() -> list[Part]:
    """A stem with a collar, and a cap with spots."""
    cap = (
        *oval(0.0, 0.46, 0.5, 0.54, end=0.5),
        *curve((-0.5, 0.42), (-0.42, 0.30), (0.0, 0.30)),
        *curve((0.0, 0.30), (0.42, 0.30), (0.5, 0.42)),
    )
    return [
        body("cream", (*curve((-0.17, 0.0), (-0.22, 0.14), (-0.12, 0.42)), *curve((0.12, 0.42), (0.22, 0.14), (0.17, 0.0)))),
        body("paint", cap),
        detail("shade", (*curve((-0.49, 0.42), (0.0, 0.26), (0.49, 0.42)), *curve((0.42, 0.33), (0.0, 0.27), (-0.42, 0.33)))),
        detail("pale", oval(-0.29, 0.57, 0.10, 0.095)),
        detail("pale", oval(0.03, 0.78, 0.125, 0.11)),
        detail("pale", oval(0.31, 0.56, 0.085, 0.085)),
        detail("pale", oval(0.04, 0.50, 0.065, 0.06)),
        detail(
            "light", (*oval(-0.02, 0.48, 0.42, 0.46, start=0.28, end=0.40), *oval(-0.02, 0.48, 0.36, 0.39, start=0.40, end=0.28))
        ),
    ]


def flower() -> list[Part]:
    """A stem with two leaves, and a blossom of seven petals around a golden middle."""
    petals = []
    for i in range(7):
        turn = 0.25 + i / 7
        x, y = 0.31 * sine(turn + 0.25), 0.66 + 0.225 * sine(turn)
        petals.append(body("paint", oval(x, y, 0.175, 0.13)))
    streaks = []
    for i in range(7):
        turn = 0.25 + i / 7
        x, y = 0.31 * sine(turn + 0.25), 0.66 + 0.225 * sine(turn)
        streaks.append(detail("light", oval(x, y, 0.075, 0.055)))
    return [
        body("leaf", ((-0.05, 0.0), (0.05, 0.0), (0.035, 0.55), (-0.035, 0.55))),
        body("leaf", (*curve((0.0, 0.06), (0.14, 0.30), (0.44, 0.28)), *curve((0.44, 0.28), (0.34, 0.04), (0.0, 0.06)))),
        body("leaf", (*curve((0.0, 0.04), (-0.12, 0.26), (-0.40, 0.25)), *curve((-0.40, 0.25), (-0.32, 0.02), (0.0, 0.04)))),
        *petals,
        *streaks,
        detail("shade", oval(0.0, 0.66, 0.19, 0.14)),
        detail("gold", oval(0.0, 0.66, 0.15, 0.11)),
    ]


def cat() -> list[Part]:
    """A sitting cat that looks at you, with its tail around it."""
    return [
        body(
            "shade",
            (
                *curve((0.16, 0.02), (0.5, -0.02), (0.5, 0.26)),
                *curve((0.5, 0.26), (0.46, 0.36), (0.38, 0.28)),
                *curve((0.38, 0.26), (0.38, 0.16), (0.18, 0.16)),
            ),
        ),
        body(
            "paint",
            (
                *curve((-0.30, 0.02), (-0.34, 0.34), (-0.14, 0.50)),
                *curve((0.14, 0.50), (0.34, 0.34), (0.30, 0.02)),
                (0.24, 0.0),
                (-0.24, 0.0),
            ),
        ),
        *both(
            "paint",
            (*curve((0.40, 1.0), (0.44, 0.84), (0.40, 0.66)), (0.06, 0.86), *curve((0.12, 0.88), (0.28, 0.92), (0.40, 1.0))),
        ),
        body("paint", oval(0.0, 0.66, 0.43, 0.255)),
        *both("light", ((0.36, 0.935), (0.36, 0.82), (0.21, 0.875)), inner=True),
        detail("light", oval(0.0, 0.55, 0.17, 0.105)),
        detail("light", oval(0.0, 0.23, 0.14, 0.17)),
        *both("shade", oval(0.135, 0.04, 0.115, 0.05), inner=True),
        *both("light", oval(0.135, 0.045, 0.085, 0.035), inner=True),
        *both("pale", oval(0.19, 0.70, 0.095, 0.085), inner=True),
        *both("dark", oval(0.18, 0.695, 0.062, 0.072), inner=True),
        *both("pale", oval(0.20, 0.72, 0.022, 0.022), inner=True),
        detail("dark", ((-0.055, 0.595), (0.055, 0.595), (0.0, 0.545))),
    ]


def owl() -> list[Part]:
    """An owl with tufts, large eyes, folded wings and a patterned belly."""
    return [
        *both("gold", oval(0.15, 0.03, 0.10, 0.035)),
        *both("paint", (*curve((0.08, 0.90), (0.26, 0.90), (0.40, 1.0)), *curve((0.40, 1.0), (0.42, 0.84), (0.38, 0.70)))),
        body(
            "paint",
            (
                *oval(0.0, 0.55, 0.44, 0.40, end=0.5),
                *curve((-0.44, 0.50), (-0.46, 0.05), (0.0, 0.03)),
                *curve((0.0, 0.03), (0.46, 0.05), (0.44, 0.50)),
            ),
        ),
        detail("light", oval(0.0, 0.30, 0.235, 0.235)),
        *both("shade", (*curve((0.43, 0.56), (0.22, 0.40), (0.20, 0.12)), *curve((0.20, 0.12), (0.44, 0.16), (0.43, 0.56)))),
        *both("paint", oval(0.09, 0.36, 0.045, 0.03), inner=True),
        detail("paint", oval(0.0, 0.28, 0.045, 0.03)),
        *both("paint", oval(0.09, 0.20, 0.045, 0.03), inner=True),
        *both("shade", oval(0.19, 0.69, 0.205, 0.165), inner=True),
        *both("pale", oval(0.19, 0.69, 0.165, 0.132), inner=True),
        *both("dark", oval(0.17, 0.685, 0.09, 0.078), inner=True),
        *both("pale", oval(0.20, 0.715, 0.03, 0.026), inner=True),
        detail("gold", ((-0.075, 0.62), (0.075, 0.62), (0.0, 0.50))),
    ]


def rabbit() -> list[Part]:
    """A sitting rabbit with long ears, one of them bent a little, and a white tail."""
    return [
        body("pale", oval(0.36, 0.13, 0.13, 0.085)),
        body(
            "paint",
            (
                *curve((-0.34, 0.03), (-0.40, 0.30), (-0.15, 0.42)),
                *curve((0.15, 0.42), (0.40, 0.30), (0.34, 0.03)),
                (0.28, 0.0),
                (-0.28, 0.0),
            ),
        ),
        body("paint", oval(-0.19, 0.80, 0.125, 0.20)),
        body("paint", (*oval(0.20, 0.80, 0.125, 0.19, start=-0.12, end=0.62), *curve((0.10, 0.68), (0.16, 0.60), (0.30, 0.68)))),
        body("paint", oval(0.0, 0.50, 0.39, 0.195)),
        detail("light", oval(-0.19, 0.81, 0.06, 0.135)),
        detail("light", oval(0.20, 0.81, 0.06, 0.125)),
        detail("light", oval(0.0, 0.20, 0.165, 0.13)),
        *both("shade", oval(0.17, 0.04, 0.15, 0.045), inner=True),
        *both("light", oval(0.17, 0.045, 0.115, 0.032), inner=True),
        detail("light", oval(0.0, 0.425, 0.155, 0.075)),
        *both("dark", oval(0.175, 0.525, 0.065, 0.056), inner=True),
        *both("pale", oval(0.195, 0.545, 0.025, 0.02), inner=True),
        detail("shade", oval(0.0, 0.465, 0.055, 0.026)),
        detail("pale", ((-0.035, 0.41), (0.035, 0.41), (0.03, 0.365), (-0.03, 0.365))),
    ]
