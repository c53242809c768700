"""The table of a sweep: `points.csv` and `points.json` in its folder, and the journal of a sweep that goes on.

A point is added to the journal as soon as it is done, so a sweep that is killed loses at most the point that was running. At the
end, the two tables replace the journal.
"""

from __future__ import annotations

import contextlib
import csv
import html
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Final

from nodegraph.errors import OutputError
from nodegraph.files import parse_json, write_whole
from nodegraph.light_dataclass import dataclass
from nodegraph.sweeps.points import Point, shown

FORMAT: Final = 1
JOURNAL: Final = "points.part.jsonl"
TABLE: Final = "points.json"
COLUMNS: Final = "points.csv"


class Table(list[dict[str, Any]]):
    """One row for each point: its number, the values of the axes, status, seconds, the files of each output, and its error."""

    def __init__(self, points: Sequence[Point]) -> None:
        outputs = dict.fromkeys(name for point in points for name in point.files)
        super().__init__(
            {
                "point": point.number,
                **point.params,
                "status": point.status,
                "seconds": round(point.seconds, 3),
                **{output: " ".join(point.files.get(output, ())) for output in outputs},
                **{f"key of {output}": point.keys.get(output) for output in outputs},
                "error": point.error,
            }
            for point in points
        )

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(dict.fromkeys(name for row in self for name in row))

    def __repr__(self) -> str:
        rows = [self.columns, *([_cell(row.get(column)) for column in self.columns] for row in self)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(self.columns))]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)

    def _repr_html_(self) -> str:
        """For a notebook."""
        head = "".join(f"<th>{html.escape(column)}</th>" for column in self.columns)
        lines = ("".join(f"<td>{html.escape(_cell(row.get(column)))}</td>" for column in self.columns) for row in self)
        return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"

    def csv(self) -> str:
        """The table as comma-separated values (RFC 4180)."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow(self.columns)
        writer.writerows([_cell(row.get(column)) for column in self.columns] for row in self)
        return file.getvalue()


@dataclass(kw_only=True)
class Earlier:
    """What an earlier sweep left in the folder: its points by number, the digest of each file, and the seeds that it drew.

    `about` is what it was about: the name of its workflow, and those of its axes. None: there was no earlier sweep.
    """

    about: tuple[str, frozenset[str]] | None = None
    points: dict[int, Point] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    seeds: dict[str, int] = field(default_factory=dict)


class PointsFile:
    """The table in a folder, or that of part K of N. `add` writes one point at once, `finish` the whole table.

    Both raise OutputError.
    """

    def __init__(self, folder: Path, part: tuple[int, int] | None = None) -> None:
        self._folder = folder
        ending = "" if part is None else f"-{part[0]}-of-{part[1]}"
        self._table, self._columns, self._journal = (_with_ending(name, ending) for name in (TABLE, COLUMNS, JOURNAL))
        self._parts = _with_ending(TABLE, "-*-of-*") if part is None else ""

    def read(self) -> Earlier:
        """What is there, with what parts of the sweep have written. What cannot be read counts as not there."""
        earlier = Earlier()
        parts = sorted(self._folder.glob(self._parts)) if self._parts else []
        for path in (*parts, self._folder / self._table):
            with contextlib.suppress(OSError, ValueError):
                _take(earlier, parse_json(path.read_bytes()))
        with contextlib.suppress(OSError):
            for line in (self._folder / self._journal).read_bytes().splitlines():
                with contextlib.suppress(ValueError):  # the last line may be cut
                    _take(earlier, parse_json(line))
        return earlier

    def begin(self, about: Mapping[str, Any]) -> None:
        """Note what the sweep is about."""
        self._append({"format": FORMAT, **about, "points": []})

    def add(self, point: Point, digests: Mapping[str, str]) -> None:
        """Add a point, and the digests of its files."""
        self._append({"format": FORMAT, "points": [_row(point, digests)]})

    def finish(self, points: Sequence[Point], about: Mapping[str, Any], digests: Mapping[str, str]) -> None:
        """Write the whole table. `about` is what it says about the sweep."""
        document = {"format": FORMAT, **about, "points": [_row(point, digests) for point in points]}
        with _writing(self._folder):
            write_whole(self._folder / self._table, json.dumps(document, indent=1, default=str).encode())
            write_whole(self._folder / self._columns, Table(points).csv().encode())
            (self._folder / self._journal).unlink(missing_ok=True)

    def _append(self, document: Mapping[str, Any]) -> None:
        with _writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / self._journal).open("ab") as file:
                if file.tell():
                    file.write(b"\n")  # what comes before may be cut
                file.write(json.dumps(document, default=str).encode())


def _with_ending(name: str, ending: str) -> str:
    """The name of a file, with an ending before its extension."""
    stem, dot, extension = name.rpartition(".")
    return f"{stem}{ending}{dot}{extension}"


def _row(point: Point, digests: Mapping[str, str]) -> dict[str, Any]:
    return {
        "point": point.number,
        "params": dict(point.params),
        "status": point.status,
        "seconds": round(point.seconds, 3),
        "keys": dict(point.keys),
        "files": {output: list(files) for output, files in point.files.items()},
        "sha256": {file: digests[file] for files in point.files.values() for file in files if file in digests},
        "run": point.run,
        "error": point.error,
        "identity": point.identity,
    }


def _take(earlier: Earlier, document: Any) -> None:
    """Add what a table, or a line of the journal, says. Raises ValueError if it is something else."""
    try:
        if document["format"] != FORMAT:
            return
        if "workflow" in document:
            earlier.about = str(document["workflow"]), frozenset(map(str, document["over"]))
        earlier.seeds.update({str(name): int(seed) for name, seed in document.get("seeds", {}).items()})
        for row in document["points"]:
            point = Point(
                number=int(row["point"]),
                params=dict(row["params"]),
                status=row["status"],
                seconds=float(row["seconds"]),
                keys=dict(row["keys"]),
                files={str(output): [str(file) for file in files] for output, files in row["files"].items()},
                error=row["error"],
                run=row["run"],
                identity=str(row["identity"]),
                is_kept=True,
            )
            earlier.digests.update({str(file): str(digest) for file, digest in row["sha256"].items()})
            earlier.points[point.number] = point
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("this is not the table of a sweep") from error


def _cell(value: Any) -> str:
    return "" if value is None else shown(value)


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Raise OutputError for an OSError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"[E211] cannot write to {folder}: {reason}. Make it writable, or name another folder") from error
