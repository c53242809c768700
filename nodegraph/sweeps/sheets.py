"""Contact sheets of a sweep: which values stand where, and what their labels say. The backend makes the sheets."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from nodegraph.light_dataclass import dataclass
from nodegraph.plugins.backend import Backend, SheetLabels
from nodegraph.sweeps.axes import Axes
from nodegraph.sweeps.points import Point, shown

MOST_ON_A_SHEET: Final = 400


@dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """One sheet: the indexes of its points, row by row, and its labels."""

    points: Sequence[int]
    labels: SheetLabels


def sheets(
    points: Sequence[Point], axes: Axes, backend: Backend, *, output: str | None = None, folder: Path | None = None
) -> Iterator[Any]:
    """The sheets of one output: by default, of the first that the backend can show.

    The values are read from files in `folder`, if there are some. Raises ValueError if there is nothing to show.
    """
    output = _output(points, backend, folder) if output is None else output
    values = [[shown(value) for value in point.params.values()] for point in points]
    for layout in layouts(axes, values):
        yield backend.sheet((_value(points[i], output, folder) for i in layout.points), layout.labels)


def layouts(axes: Axes, values: Sequence[Sequence[str]]) -> Iterator[Layout]:
    """How the points of a sweep stand on sheets; `values` are those of each point, as labels show them.

    The first axis goes from left to right, the second down, and the third is one section below the other. Points of more axes, and
    of axes whose values go together, stand one after another.
    """
    if axes.zip or len(axes.axes) not in (2, 3):
        yield from _one_by_one(axes, values)
        return
    columns, rows, *others = axes.shape
    sections = others[0] if others else 1
    per_section = rows * columns
    together = max(1, MOST_ON_A_SHEET // per_section)
    for first in range(0, sections, together):
        yield from _sections(axes, values, range(first, min(first + together, sections)))


def _sections(axes: Axes, values: Sequence[Sequence[str]], sections: range) -> Iterator[Layout]:
    """The sheets of some values of the third axis. More than one of them only if all fit on one sheet."""
    columns, rows, *others = axes.shape
    has_sections = bool(others)
    wide = min(columns, MOST_ON_A_SHEET)
    high = max(1, MOST_ON_A_SHEET // wide)
    names = axes.names
    title = f"columns: {names[0]}, rows: {names[1]}"

    def index(column: int, row: int, section: int) -> int:
        return (column * rows + row) * math.prod(others) + section

    for top, left in itertools.product(range(0, rows, high), range(0, columns, wide)):
        down, across = range(top, min(top + high, rows)), range(left, min(left + wide, columns))
        yield Layout(
            points=[index(column, row, section) for section in sections for row in down for column in across],
            labels=SheetLabels(
                width=len(across),
                title=title,
                columns=[values[index(column, 0, 0)][0] for column in across],
                rows=[values[index(0, row, 0)][1] for _ in sections for row in down],
                sections=[f"{names[2]}: {values[index(0, 0, section)][2]}" for section in sections] if has_sections else (),
            ),
        )


def _one_by_one(axes: Axes, values: Sequence[Sequence[str]]) -> Iterator[Layout]:
    for first in range(0, len(values), MOST_ON_A_SHEET):
        some = range(first, min(first + MOST_ON_A_SHEET, len(values)))
        width = len(some) if len(some) <= 4 else math.ceil(math.sqrt(len(some)))
        cells = [", ".join(values[i]) for i in some]
        yield Layout(points=some, labels=SheetLabels(width=width, title=", ".join(axes.names), cells=cells))


def _output(points: Sequence[Point], backend: Backend, folder: Path | None) -> str:
    """The first output that the backend can show."""
    done = next((point for point in points if point.status == "done"), None)
    if done is None:
        raise ValueError("no point is done, so there is nothing to show")
    reason = "the workflow has no outputs"
    for output in done.readers or done.files:
        try:
            backend.sheet([_value(done, output, folder)], SheetLabels(width=1))
        except ValueError as error:
            reason = f"output '{output}': {error}"
        else:
            return output
    raise ValueError(reason)


def _value(point: Point, output: str, folder: Path | None) -> Any:
    """What the backend receives for a point."""
    if folder is not None and point.files.get(output):
        return [folder / file for file in point.files[output]]
    return point[output] if output in point.readers else None
