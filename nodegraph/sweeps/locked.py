"""Sweeps that have to be as a lock file says, but for the swept values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from nodegraph.engine import Engine
from nodegraph.graph.overrides import Override
from nodegraph.run.lock.changes import file_changes
from nodegraph.run.lock.facts import files_of
from nodegraph.run.lock.locked import lock_of, refuse
from nodegraph.workflow.workflow import Workflow


class LockedSweep:
    """The workflow of a sweep, as its lock file says.

    It is compared without the values of the axes, which a lock file does not have. `seeds` are those that were drawn then. Raises
    LockError if anything differs.
    """

    def __init__(
        self,
        engine: Engine,
        workflow: Workflow,
        *,
        overrides: Sequence[Override],
        targets: Iterable[Any] | None,
        locked: bool | Path | str,
    ) -> None:
        self._engine = engine
        self._graph, self.seeds = engine.locked_graph(workflow, overrides, targets, locked=locked)
        self._files = lock_of(self._graph, locked).files

    def require_same_files(self) -> None:
        """Raise LockError if a file has changed since: a sweep may take days."""
        changed = [*file_changes(self._files, files_of(self._graph, self._engine.digest))]
        refuse(self._graph.workflow, changed, "the point was not run")
