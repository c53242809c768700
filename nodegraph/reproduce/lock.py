"""Lock files: what a workflow's results depend on and what they are, written, and compared with another run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from nodegraph.engine import Engine
from nodegraph.errors import LockError
from nodegraph.graph.graph import Graph
from nodegraph.graph.overrides import Override
from nodegraph.light_dataclass import dataclass
from nodegraph.run.lock.changes import Change, changes, output_changes
from nodegraph.run.lock.lock_file import Lock, lock_path, read_lock
from nodegraph.run.options import WorkflowSource
from nodegraph.run.result import Result


@dataclass(frozen=True, kw_only=True)
class Verified:
    """How a run compares with a lock file: what it depends on that changed, and which outputs differ."""

    changes: tuple[Change, ...]
    outputs: tuple[Change, ...]
    result: Result

    def __bool__(self) -> bool:
        """Whether the outputs are the same."""
        return not self.outputs


def lock(workflow: WorkflowSource, *, engine: Engine | None = None, path: Path | str | None = None) -> Lock:
    """Run a workflow, and write its lock file: `x.lock.yaml` beside `x.yaml`, or `path`. Results may come from the cache.

    Raises what `Engine.run` raises, and LockError if the file cannot be written; an earlier one then stays as it is.
    """
    engine = Engine() if engine is None else engine
    graph = engine.check(workflow)
    target = _path(graph, path)
    overrides = [Override(name, seed) for name, seed in graph.seeds.items()]
    result = engine.run(workflow, overrides=overrides)
    known = engine.check(workflow, overrides=overrides)  # with what the run has fetched; lists that nodes make are not decided
    found = replace(engine.facts(known), seeds=dict(graph.seeds), outputs=dict(_digests(result, engine)))
    found.write(target)
    return found


def verify(workflow: WorkflowSource, *, engine: Engine | None = None, path: Path | str | None = None) -> Verified:
    """Run a workflow again, with the seeds that were drawn when it was locked, and compare it with its lock file.

    Every node computes its result again, whatever the cache holds. Raises what `Engine.run` raises, and LockError if the lock file
    is missing or cannot be used.
    """
    engine = Engine() if engine is None else engine
    graph = engine.check(workflow)
    before = read_lock(_path(graph, path))
    overrides = [Override(name, before.seeds[name]) for name in graph.seeds if name in before.seeds]
    result = engine.run(workflow, overrides=overrides, force=[*_outermost(graph)])
    after = replace(engine.facts(engine.check(workflow, overrides=overrides)), outputs=dict(_digests(result, engine)))
    return Verified(changes=tuple(changes(before, after)), outputs=tuple(output_changes(before, after)), result=result)


def _path(graph: Graph, path: Path | str | None) -> Path:
    if path is not None:
        return Path(path)
    if graph.resolved.file is None:
        raise LockError(f"[E402] workflow '{graph.workflow}' was not read from a file, so it has no lock file. Name one")
    return lock_path(graph.resolved.file)


def _outermost(graph: Graph) -> Iterator[str]:
    """The nodes of the workflow itself that are, or stand for, nodes of the graph."""
    for name in graph.resolved.nodes:
        if name in graph.nodes or (graph.composed is not None and graph.composed.inside(name)):
            yield name


def _digests(result: Result, engine: Engine) -> Iterator[tuple[str, str]]:
    """The digest of the value of each output. It depends on nothing but the value."""
    for name in result.graph.outputs:
        value = result[name]
        codec = engine.plugins.codecs.for_value(value)
        assert codec is not None  # the graph was checked: its outputs can be written
        yield name, codec.digest(value)
