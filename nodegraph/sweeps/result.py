"""What a sweep is asked to do, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

from nodegraph.engine import Engine
from nodegraph.errors import Cancelled, NodegraphError, SweepError
from nodegraph.graph.overrides import Override
from nodegraph.light_dataclass import dataclass
from nodegraph.sweeps.axes import Axes
from nodegraph.sweeps.points import Point
from nodegraph.sweeps.sheets import sheets
from nodegraph.sweeps.table import Table

SweepStatus = Literal["done", "failed", "cancelled"]


@dataclass(frozen=True, kw_only=True, eq=False)
class SweepOptions:
    """How a sweep runs; most are options of `Engine.run`.

    With `keep_going`, a point that fails does not stop the others. `on_start` receives the number of points, and `on_point` each
    point as soon as it is done, also one that an earlier sweep has done. With `locked`, all but the values of the axes has to be as
    the lock file says, from the first point to the last. With `shard` (K, N), only every N-th point runs, beginning with point K.

    With `gather`, a sweep computes nothing: it fails unless all points are in the cache. A part of a sweep computes its points, and
    if those of all other parts are in the cache by then, it gathers all: its tables and result are those of the whole sweep.
    Raises ValueError for `gather` with `force` or `verify`.
    """

    params: Mapping[str, Any] | None = None
    overrides: Sequence[Override] = ()
    targets: Iterable[Any] | None = None
    force: Sequence[str] = ()
    out: Path | str | None = None
    overwrite: bool = False
    keep_going: bool = False
    verify: float | None = None
    locked: bool | Path | str = False
    metadata: bool = True
    shard: tuple[int, int] | None = None
    gather: bool = False
    on_start: Callable[[int], None] = lambda count: None
    on_point: Callable[[Point], None] = lambda point: None

    def __post_init__(self) -> None:
        if self.gather and (self.force or self.verify):
            raise ValueError("gather computes nothing, so it cannot be combined with force or verify")


@dataclass(frozen=True, kw_only=True, eq=False)
class SweepResult:
    """A finished sweep: `points` in order, each with its values, and what ended the sweep early, if anything did.

    `missing` are the points that kept a part of it from gathering all: the first that was found not to be in the cache.
    """

    workflow: str
    axes: Axes
    points: Sequence[Point]
    seconds: float
    status: SweepStatus
    error: NodegraphError | None
    seeds: Mapping[str, int]
    missing: Sequence[int] = ()
    _engine: Engine = field(repr=False)
    _out: Path | None = None

    def __repr__(self) -> str:
        sizes = " x ".join(map(str, self.axes.shape))
        done = sum(point.status == "done" for point in self.points)
        over = ", ".join(self.axes.names)
        return f"<SweepResult of {self.workflow} over {over} ({sizes}): {self.status}, {done} points in {self.seconds:.2f} s>"

    def __len__(self) -> int:
        return len(self.points)

    def __iter__(self) -> Iterator[Point]:
        return iter(self.points)

    def __getitem__(self, index: int) -> Point:
        return self.points[index]

    def table(self) -> Table:
        """A row for each point. Rows are mappings; a notebook shows the table, and `csv()` is its text."""
        return Table(self.points)

    def sheet(self, output: str | None = None) -> Any:
        """A contact sheet with the values of the axes as labels; a list of several if there are more than 400 points.

        `output`: which output to show; default: the first that the backend can show. Raises ValueError if there is none.
        """
        made = list(sheets(self.points, self.axes, self._engine.plugins.backend, output=output, folder=self._out))
        return made[0] if len(made) == 1 else made

    def exported(self, sheet: Any) -> tuple[bytes, str]:
        """A sheet as the content of a file, and the extension of its format. Raises ValueError if it has no codec."""
        codec = self._engine.plugins.codecs.for_value(sheet)
        if codec is None:
            raise ValueError(f"{type(sheet).__name__} cannot be written to a file")
        return codec.export(sheet)[0], codec.extension


def interrupted(points: Sequence[Point]) -> Cancelled:
    """The error that ends a sweep that was stopped."""
    done = sum(point.status != "skipped" for point in points)
    return Cancelled(f"the sweep was interrupted after {done} of {len(points)} points. The same command goes on with the others")


def failure(points: Sequence[Point], errors: Sequence[tuple[Point, BaseException]]) -> SweepError | None:
    """The error that ends a sweep in which points failed; None if none did."""
    if not errors:
        return None
    first, cause = errors[0]
    if len(errors) == 1:
        message = f"point {first.number} ({first.name}) failed: {cause}"
    else:
        listed = ", ".join(f"{point.number} ({point.name})" for point, _ in errors[:5])
        more = f" and {len(errors) - 5} more" if len(errors) > 5 else ""
        message = f"{len(errors)} of {len(points)} points failed: {listed}{more}. The first one: {cause}"
    error = SweepError(f"[E231] {message}")
    error.__cause__ = cause
    return error
