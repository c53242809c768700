"""Nodes that plot figures as curves."""

from __future__ import annotations

import math
from typing import Annotated, Any

from nodegraph import Help, Range, node
from nodegraph_nodes.types import Image

_MOST_MARKS = 8  # at a logarithmic axis, where points have their own

Figures = dict[str, Any]
Pixels = Annotated[int, Range(100, 8192), Help("pixels")]


@node("Curve")
def curve(
    label: Annotated[str, Help("its name in the legend of a plot")],
    figures: Annotated[list[Figures], Help("what was measured at each point, such as the output of `Evaluate`, over a list")],
    y: Annotated[str, Help("which of the figures is plotted upwards")],
    x: Annotated[str, Help("which of the figures is plotted to the right; leave it empty if `at` has the numbers")] = "",
    at: Annotated[list[float] | None, Help("a number for each point, which is plotted to the right")] = None,
) -> Figures:
    """Make a curve of figures, for `Plot`.

    Its points are in the order of the figures.
    """
    if (at is None) == (not x):
        raise ValueError("expected either x or at, found both or neither; give one of them")
    if at is not None and len(at) != len(figures):
        raise ValueError(f"at: expected a number for each of {len(figures)} points, found {len(at)}; give as many")
    across = [_number(each, x, "x") for each in figures] if at is None else [float(number) for number in at]
    points = list(zip(across, [_number(each, y, "y") for each in figures], strict=True))
    return {"label": label, "points": [[right, up] for right, up in points]}


@node("Plot")
def plot(
    curves: Annotated[list[Figures], Help("of `Curve`")],
    title: str = "",
    x_label: Annotated[str, Help("what is plotted to the right")] = "",
    y_label: Annotated[str, Help("what is plotted upwards")] = "",
    x_logarithmic: Annotated[bool, Help("each step to the right multiplies")] = False,
    y_logarithmic: Annotated[bool, Help("each step upwards multiplies")] = False,
    width: Pixels = 640,
    height: Pixels = 420,
) -> Image:
    """Draw curves into a picture, with axes and a legend.

    Each curve has a colour and a sign of its own.
    """
    from nodegraph_nodes.pictures.plots import Axis, Panel, drawn_as_pixels

    if not curves:
        raise ValueError("curves: expected at least one curve, found none; link some")
    named = {str(each["label"]): [(float(right), float(up)) for right, up in each["points"]] for each in map(_curve, curves)}
    if len(named) < len(curves):
        raise ValueError(f"curves: expected different labels, found {', '.join(str(each['label']) for each in curves)}; change one")
    for name, logarithmic, side in (("x_logarithmic", x_logarithmic, 0), ("y_logarithmic", y_logarithmic, 1)):
        least = min((point[side] for points in named.values() for point in points), default=1.0)
        if logarithmic and least <= 0:
            raise ValueError(f"{name}: expected numbers above 0, found {least:g}; leave out {name}")
    numbers = sorted({right for points in named.values() for right, _ in points})
    panel = Panel(
        title=title,
        curves=named,
        x=Axis(name=x_label, logarithmic=x_logarithmic, marks=numbers if x_logarithmic and len(numbers) <= _MOST_MARKS else None),
        y=Axis(name=y_label, logarithmic=y_logarithmic),
    )
    return Image(drawn_as_pixels([panel], columns=1, size=(width, height))[None])


def _curve(value: Figures) -> Figures:
    if not {"label", "points"} <= value.keys():
        raise ValueError(
            f"curves: expected outputs of Curve, found figures ({', '.join(value) or 'none'}); put a Curve between them"
        )
    return value


def _number(figures: Figures, name: str, port: str) -> float:
    """One of the figures. Raises ValueError if there is no such number."""
    value = figures.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        known = [key for key, each in figures.items() if isinstance(each, int | float) and not isinstance(each, bool)]
        raise ValueError(f"{port}: expected the name of a number ({', '.join(known) or 'there is none'}), found '{name}'")
    return float(value)
