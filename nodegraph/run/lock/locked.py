"""Runs that have to be as a lock file says."""

from __future__ import annotations

from pathlib import Path

from nodegraph.errors import LockError
from nodegraph.graph.graph import Graph
from nodegraph.run.lock.changes import Change, changes
from nodegraph.run.lock.lock_file import Lock, lock_path, read_lock


def lock_of(graph: Graph, locked: bool | Path | str = True) -> Lock:
    """What the lock file of a graph's workflow holds, or the one that `locked` names. Raises LockError."""
    if not isinstance(locked, bool):
        return read_lock(Path(locked))
    if graph.resolved.file is None:
        raise LockError(f"[E402] workflow '{graph.workflow}' was not read from a file, so it has no lock file. Name one")
    return read_lock(lock_path(graph.resolved.file))


def require_same(lock: Lock, found: Lock) -> None:
    """Raise LockError unless what a workflow depends on is what its lock file holds."""
    refuse(found.workflow, changes(lock, found))


def refuse(workflow: str, found: list[Change], consequence: str = "nothing was run") -> None:
    """Raise LockError if there are changes."""
    if found:
        listed = "\n".join(f"  {change}" for change in found)
        raise LockError(f"[E403] the lock file of workflow '{workflow}' does not match, so {consequence}:\n{listed}")
