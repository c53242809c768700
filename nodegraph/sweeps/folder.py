"""The folder of a sweep: its table, what an earlier sweep left there, and which files are its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from nodegraph.errors import Problem, WorkflowError
from nodegraph.run.outputs.own_files import OwnFiles
from nodegraph.sweeps.points import Point
from nodegraph.sweeps.table import Earlier, PointsFile

_DIGITS: Final = 4  # of the number before the name of a file, at least


class SweepFolder:
    """The folder `out` of a sweep of `count` points, or of a part of it; None: nothing is written.

    `earlier` is what an earlier sweep left there, and `own_files` are the files that the sweep may replace.
    """

    def __init__(self, out: Path | str | None, count: int, part: tuple[int, int] | None = None) -> None:
        self.out = None if out is None else Path(out)
        self._table = None if self.out is None else PointsFile(self.out, part)
        self._directory = Path.cwd() if self.out is None else self.out.absolute()
        self._digits = max(_DIGITS, len(str(count)))
        self.earlier = Earlier() if self._table is None else self._table.read()
        self.own_files = OwnFiles((self._directory / file, digest) for file, digest in self.earlier.digests.items())

    def require_same_sweep(self, workflow: str, axes: Iterable[str], *, overwrite: bool) -> None:
        """Raise WorkflowError if the folder holds the table of another sweep. With `overwrite`, it counts as empty then."""
        found = self.earlier.about
        if found is None or found == (workflow, frozenset(axes)):
            return
        if overwrite:
            self.earlier = Earlier()
            return
        message = f"{self.out} holds the points of another sweep: of {found[0]}, over {' and '.join(sorted(found[1]))}"
        raise WorkflowError([Problem("E121", message, None, "Name another folder with --out, or replace it with --overwrite.")])

    def begin(self, about: Mapping[str, Any]) -> None:
        """Note what the sweep is about. Raises OutputError, as `add` and `finish` do."""
        if self._table is not None:
            self._table.begin(about)

    def begin_point(self, number: int) -> None:
        """From now on, the names of files begin with the number of this point."""
        self.own_files.prefix = f"{number:0{self._digits}d}-"

    def add(self, point: Point) -> None:
        """Note a point that has ended."""
        if self._table is not None:
            self._table.add(point, self._digests([point]))

    def finish(self, points: Sequence[Point], about: Mapping[str, Any]) -> None:
        """Write the whole table."""
        if self._table is not None:
            self._table.finish(points, about, self._digests(points))

    def is_done(self, earlier: Point, identity: str) -> bool:
        """Whether an earlier sweep has done this point, and its files are still there."""
        if earlier.status != "done" or earlier.identity != identity:
            return False
        return all(self.own_files.is_own(self._directory / file) for files in earlier.files.values() for file in files)

    def below(self, path: Path) -> str:
        """The path of a file below the folder."""
        return path.relative_to(self.out or Path()).as_posix()

    def _digests(self, points: Sequence[Point]) -> dict[str, str]:
        """The digests of the files of `points`."""
        files = (file for point in points for files in point.files.values() for file in files)
        known = self.own_files.digests
        return {file: known[self._directory / file] for file in files if self._directory / file in known}
