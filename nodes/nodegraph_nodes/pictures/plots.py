"""Plots of figures: curves with axes and names, as a picture or as SVG. matplotlib draws them, and is imported only then."""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from nodegraph.plugin_api import dataclass

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

Point = tuple[float, float]

COLOURS: Final = ("#2563eb", "#d97706", "#059669", "#b91c1c", "#7c3aed", "#0e7490", "#be185d", "#4d7c0f", "#57534e", "#1e3a8a")
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")
"""Each curve has another colour and another sign, so that those who see few colours can tell them apart."""

_DPI: Final = 100
_LOCK: Final = threading.Lock()  # the settings of matplotlib are those of the process
_STYLE: Final = {
    "axes.edgecolor": "#d8dee6",
    "axes.grid": True,
    "axes.labelcolor": "#374151",
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.dpi": _DPI,
    "font.family": ["DejaVu Sans"],  # comes with matplotlib, so that a plot is the same on every machine
    "font.size": 9,
    "grid.color": "#d8dee6",
    "grid.linewidth": 0.6,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "nodegraph",  # the same plot, the same file
    "xtick.color": "#6b7280",
    "ytick.color": "#6b7280",
}


@dataclass(frozen=True, kw_only=True)
class Axis:
    """The name of an axis, its scale, the numbers that are written at it, and its ends; None: those that fit."""

    name: str = ""
    logarithmic: bool = False
    marks: Sequence[float] | None = None
    ends: tuple[float, float] | None = None
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One plot: curves by their names, each a sequence of points, and a dashed line at a `limit` with its name."""

    title: str
    curves: Mapping[str, Sequence[Point]]
    x: Axis = Axis()
    y: Axis = Axis()
    limit: tuple[str, float] | None = None


def drawn_as_svg(panels: Sequence[Panel], *, columns: int, size: tuple[int, int]) -> str:
    """Panels in rows, each of `size` (width, height) in pixels, as SVG."""
    file = io.StringIO()
    with _drawn(panels, columns, size) as figure:
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def drawn_as_pixels(panels: Sequence[Panel], *, columns: int, size: tuple[int, int]) -> Tensor:
    """Panels in rows, each of `size` (width, height) in pixels: (H, W, 3) in [0, 1]."""
    import numpy as np
    import torch
    from PIL import Image as pillow

    file = io.BytesIO()
    with _drawn(panels, columns, size) as figure:
        figure.savefig(file, format="png")
    return torch.from_numpy(np.array(pillow.open(file).convert("RGB"))).float() / 255


@contextmanager
def _drawn(panels: Sequence[Panel], columns: int, size: tuple[int, int]) -> Iterator[Figure]:
    """The figure. The settings of matplotlib are the same before and after, and those of the user's own file count for nothing."""
    import matplotlib
    from matplotlib.figure import Figure

    rows = math.ceil(len(panels) / columns)
    with _LOCK, matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)  # type: ignore[arg-type]  # its keys are literals of the type
        figure = Figure((columns * size[0] / _DPI, rows * size[1] / _DPI), layout="constrained")
        for index, panel in enumerate(panels):
            _draw(figure.add_subplot(rows, columns, index + 1), panel)
        yield figure


def _draw(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title)
    axes.set_axisbelow(True)
    for index, (name, points) in enumerate(panel.curves.items()):
        x, y = ([point[side] for point in points] for side in (0, 1))
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        axes.plot(x, y, color=colour, marker=marker, markersize=4, linewidth=1.4, label=name)
    if panel.limit is not None:
        name, value = panel.limit
        axes.axhline(value, color="#b91c1c", linewidth=0.8, linestyle="--", label=name)
    _scale(axes, "x", panel.x)
    _scale(axes, "y", panel.y)
    if len(panel.curves) + (panel.limit is not None) > 1:
        axes.legend(fontsize=8, framealpha=0.8, edgecolor="none")


def _scale(axes: Axes, side: str, axis: Axis) -> None:
    """Set the name, scale, ends and numbers of one axis."""
    from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, NullLocator

    part = axes.xaxis if side == "x" else axes.yaxis
    axes.set(**{f"{side}label": axis.name})
    if axis.logarithmic:
        axes.set(**{f"{side}scale": "log"})
        part.set_major_locator(LogLocator(subs=(1, 2, 5)))
        part.set_minor_formatter(NullFormatter())
    if axis.marks is not None:
        part.set_major_locator(FixedLocator(list(axis.marks)))
        part.set_minor_locator(NullLocator())
    if axis.marks is not None or axis.unit or axis.logarithmic:
        part.set_major_formatter(lambda value, _: f"{value:,g}{axis.unit}")
    if axis.ends is not None:
        axes.set(**{f"{side}lim": axis.ends})
