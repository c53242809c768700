"""What differs between two workflows, runs or outputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nodegraph.engine import Engine
from nodegraph.errors import OutputError
from nodegraph.light_dataclass import dataclass
from nodegraph.reproduce.sides import Side, side_of
from nodegraph.run.lock.changes import Change, compared, file_changes, graph_changes
from nodegraph.run.options import WorkflowSource


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What differs: `changes` by name, and for two outputs `measured`, how much their content differs; None if that is unknown."""

    changes: tuple[Change, ...]
    measured: Mapping[str, Any] | None = None

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.changes) or (self.measured is not None and self.measured.get("same") is not True)


def diff(
    first: WorkflowSource, second: WorkflowSource, *, engine: Engine | None = None, path: Path | str | None = None
) -> Difference:
    """What differs between two workflows, ids of runs, or outputs; the file `path` shows two outputs and their difference.

    Raises WorkflowError if one of them is none of these or has mistakes, and OutputError if the outputs cannot be compared, or
    `path` cannot be written.
    """
    engine = Engine() if engine is None else engine
    one, other = side_of(first, engine), side_of(second, engine)
    measured = None
    if one.output is not None and other.output is not None:
        try:
            measured = engine.plugins.backend.difference(one.output, other.output, None if path is None else Path(path))
        except (OSError, ValueError) as error:
            raise OutputError(f"[E212] {one.name} and {other.name} cannot be compared: {error}") from error
    if path is not None and measured is None:
        raise OutputError(f"[E212] {path} is not written: {one.name} and {other.name} are not two outputs that can be shown")
    return Difference(changes=tuple(_changes(one, other)), measured=measured)


def _changes(one: Side, other: Side) -> list[Change]:
    found = [*compared("param", one.params, other.params), *graph_changes(one.nodes, other.nodes)]
    found += compared("output", one.outputs, other.outputs)
    if one.files is not None and other.files is not None:
        found += file_changes(one.files, other.files)
    if one.versions is not None and other.versions is not None:
        found += compared("version", one.versions, other.versions)
    return [*found, *compared("setting", one.settings, other.settings)]
