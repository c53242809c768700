"""The runs of the points: one for each, unless an earlier sweep has done it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from nodegraph.errors import Cancelled, LockError, WorkflowError
from nodegraph.graph.graph import Graph
from nodegraph.graph.overrides import Override
from nodegraph.run.plan import Plan
from nodegraph.run.result import Result
from nodegraph.sweeps.checked import CheckedSweep
from nodegraph.sweeps.folder import SweepFolder
from nodegraph.sweeps.identity import identity_of, typed_values
from nodegraph.sweeps.points import Point
from nodegraph.workflow.dump import dump


class PointRuns:
    """Runs points of a sweep, and notes in its folder what came of them."""

    def __init__(self, sweep: CheckedSweep, folder: SweepFolder) -> None:
        self._sweep, self._folder = sweep, folder
        self._document = dump(sweep.workflow, all_values=False)
        self._forced: set[str] = set()  # the keys of nodes that were forced in an earlier point

    def run(self, number: int, values: Sequence[Any]) -> tuple[Point, BaseException | None]:
        """Run a point, unless it is done. Returns it, and what went wrong."""
        blank = self.blank(number, values)
        began = time.perf_counter()
        error: BaseException | None
        try:
            if self._sweep.locked is not None:
                self._sweep.locked.require_same_files()
            point, error = self._kept_or_run(blank, self._sweep.overrides(values))
        except (WorkflowError, LockError) as wrong:  # such as a file that is gone by now
            point, error = replace(blank, status="failed", seconds=time.perf_counter() - began, error=str(wrong)), wrong
        finally:
            self._sweep.forget_graph(number)
        if not isinstance(error, Cancelled):
            if not point.is_kept:
                self._folder.add(point)
            self._sweep.options.on_point(point)
        return point, error

    def blank(self, number: int, values: Sequence[Any]) -> Point:
        """A point that has not run."""
        return Point(number=number, params=dict(zip(self._sweep.axes.names, values, strict=True)))

    def _kept_or_run(self, blank: Point, overrides: Sequence[Override]) -> tuple[Point, BaseException | None]:
        options, engine, workflow = self._sweep.options, self._sweep.engine, self._sweep.workflow
        force, graph = options.force, self._sweep.graph(blank.number)
        earlier = self._folder.earlier.points.get(blank.number)
        if force or (earlier is not None and not options.overwrite):
            plan = engine.plan(workflow, overrides=overrides, targets=options.targets, force=force)
            force = self._to_force(plan) if force else ()
            values = typed_values(blank.params, plan.graph)
            if earlier is not None and not force and self._folder.is_done(earlier, self._identity(values, plan)):
                return replace(earlier, params=values), None
        self._folder.begin_point(blank.number)
        result = engine.run(
            workflow,
            overrides=overrides,
            targets=options.targets,
            force=force,
            out=self._folder.out,
            overwrite=options.overwrite,
            keep_going=options.keep_going,
            verify=options.verify,
            metadata=options.metadata,
            graph=graph,
            own_files=None if self._folder.out is None else self._folder.own_files,
            raise_errors=False,
        )
        return self._point(blank, result), result.error

    def _point(self, blank: Point, result: Result) -> Point:
        """The point that a run gives."""
        if isinstance(result.error, Cancelled):
            return blank
        graph = result.graph
        names = dict.fromkeys(output.name for output in graph.outputs.values())
        values = typed_values(blank.params, graph)
        return replace(
            blank,
            params=values,
            status="done" if result.error is None else "failed",
            seconds=result.seconds,
            keys={output.full_name: _key(result, output.link.node) for output in graph.outputs.values()},
            files={name: [self._folder.below(path) for path in paths] for name, paths in result.outputs.items()},
            error=None if result.error is None else str(result.error),
            run=result.run,
            identity=self._identity(values, result),
            differed=result.differed,
            readers={} if result.error is not None else {name: result.reader(name) for name in names},
        )

    def _identity(self, values: Mapping[str, Any], found: Plan | Result) -> str:
        graph: Graph = found.graph
        static = found.known.keys.static if isinstance(found, Plan) else found.static_keys
        metadata = self._sweep.options.metadata
        return identity_of(self._document, self._sweep.shared, values, graph=graph, static=static, metadata=metadata)

    def _to_force(self, plan: Plan) -> list[str]:
        """The nodes to force: those in `force` and below them, except those that an earlier point has forced under the same key."""
        keys = plan.keys
        forced = [name for name in plan.known.forced if keys.get(name) not in self._forced]
        self._forced |= {keys[name] for name in forced if name in keys}
        return forced


def _key(result: Result, node: str) -> str | None:
    report = result.nodes.get(node)
    return None if report is None else report.key
