"""Which points of a sweep are in the cache, so that the whole sweep can be gathered without computing anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from nodegraph.engine import Engine
from nodegraph.errors import SweepError
from nodegraph.sweeps.axes import Axes
from nodegraph.sweeps.result import SweepOptions
from nodegraph.workflow.workflow import Workflow

_MOST_LISTED: Final = 5


def uncached_points(
    engine: Engine, workflow: Workflow, options: SweepOptions, *, axes: Axes, numbers: Iterable[int]
) -> Iterator[int]:
    """Those of the points with these numbers, from 0, that are not in the cache; the numbers are from 1."""
    values = list(axes.points())
    for number in numbers:
        overrides = [*options.overrides, *axes.overrides(values[number])]
        plan = engine.plan(workflow, overrides=overrides, targets=options.targets)
        if plan.names("run") or plan.undecided:
            yield number + 1


def require_all(engine: Engine, workflow: Workflow, options: SweepOptions, *, axes: Axes) -> None:
    """Raise SweepError unless all points are in the cache."""
    missing = [*uncached_points(engine, workflow, options, axes=axes, numbers=range(len(axes)))]
    if missing:
        raise _not_gathered(missing, len(axes))


def _not_gathered(missing: Sequence[int], count: int) -> SweepError:
    """The error of a sweep that was to be gathered before all of its points were computed."""
    listed = ", ".join(map(str, missing[:_MOST_LISTED]))
    more = f" and {len(missing) - _MOST_LISTED} more" if len(missing) > _MOST_LISTED else ""
    points = "points are" if len(missing) > 1 else "point is"
    return SweepError(
        f"[E231] {len(missing)} of {count} {points} not in the cache: {listed}{more}. Run the parts that they belong to, or the "
        f"sweep without --gather, which computes them"
    )
