"""Runs a sweep: one run for each point, on one engine, so that the points share what they have in common."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from nodegraph.engine import Engine
from nodegraph.errors import Cancelled, LockError, Problem, WorkflowError
from nodegraph.graph.graph import Graph, Value
from nodegraph.graph.load import load_workflow
from nodegraph.graph.overrides import Override, all_overrides
from nodegraph.plugins.codecs import is_json
from nodegraph.run.handle import RunHandle
from nodegraph.run.options import WorkflowSource, path_of
from nodegraph.run.outputs.own_files import OwnFiles
from nodegraph.run.plan import Plan
from nodegraph.run.result import Result
from nodegraph.settings import settings_read_once
from nodegraph.sweeps.ahead import RunsAhead
from nodegraph.sweeps.axes import Axes, make_axes, read_sweep
from nodegraph.sweeps.gathering import not_gathered, uncached_points
from nodegraph.sweeps.locked import LockedSweep
from nodegraph.sweeps.points import Point
from nodegraph.sweeps.result import SweepOptions, SweepResult, SweepStatus, failure, interrupted
from nodegraph.sweeps.table import Earlier, PointsFile
from nodegraph.workflow.dump import dump
from nodegraph.workflow.workflow import Workflow

_DIGITS: Final = 4  # of the number before the name of a file, at least
_MOST_WRONG: Final = 20  # values with mistakes that are listed
_MOST_REMEMBERED: Final = 10_000  # nodes in graphs that are not built again for their points


def sweep(
    workflow: WorkflowSource,
    over: Mapping[str, Any] | Axes | None = None,
    *,
    zip: bool = False,
    engine: Engine | None = None,
    raise_errors: bool = True,
    **options: Any,
) -> SweepResult:
    """Run `workflow` once for each point of the axes `over`: a mapping of params ("seed") and inputs ("sampled.steps") to values.

    Values are a list, or text as the command line has it: "1..8", "3,5,7", "@file". Each value of an axis is combined with each of
    the others; with `zip`, the first ones go together, and so on. Without `over`, the section `sweep` of the workflow counts. What
    points have in common is computed once: the points are runs of one `engine`. `options` are those of `SweepOptions`.

    With `out`, the outputs are written there under the number of their point, with the tables `points.csv` and `points.json`. The
    same call again goes on where it was stopped: it repeats no point that is done, and replaces files that it has written.

    Raises WorkflowError before anything runs, SweepError if a point failed, and Cancelled. With `raise_errors=False`, an error
    during the sweep is in the result's `error` instead.
    """
    engine = Engine() if engine is None else engine
    chosen = SweepOptions(**options)
    changes = all_overrides(chosen.params, chosen.overrides)
    if not isinstance(workflow, Workflow):
        workflow = load_workflow(path_of(workflow), engine.plugins, changes)
    if isinstance(over, Axes):
        axes = over
    elif over is not None:
        axes = make_axes(over, zip=zip)
    else:
        axes = read_sweep({} if workflow.sweep is None else workflow.sweep, workflow.base)
    chosen = replace(chosen, params=None, overrides=changes)
    with settings_read_once():
        result = _Sweep(workflow.with_({}), axes, engine, chosen).run()
        if chosen.gather and chosen.shard is not None and result.error is None:
            result = _gathered(result, workflow, chosen)
    if raise_errors and result.error is not None:
        raise result.error
    return result


def _gathered(part: SweepResult, workflow: Workflow, options: SweepOptions) -> SweepResult:
    """The whole sweep, if all other parts are done; else `part`, which says what is missing."""
    assert options.shard is not None  # it is a part
    engine, axes = part._engine, part.axes
    engine.finish_uploads()  # of two parts that end at the same time, one finds the points of both
    values, every = list(axes.points()), options.shard[1]
    lasts = [max(range(first, len(values), every)) for first in range(min(every, len(values)))]  # those that a part computes last
    missing = next(uncached_points(engine, workflow, options, axes=axes, numbers=(*lasts, *range(len(values)))), None)
    if missing is not None:
        return replace(part, missing=(missing,))
    quiet = SweepOptions()
    whole = replace(options, shard=None, gather=False, on_start=quiet.on_start, on_point=quiet.on_point)
    return _Sweep(workflow.with_({}), axes, engine, whole).run()


class _Sweep:
    """One sweep. Its workflow is its own, and has no section `sweep`: a file that a point writes holds one run."""

    def __init__(self, workflow: Workflow, axes: Axes, engine: Engine, options: SweepOptions) -> None:
        workflow.sweep = None
        self._workflow, self._axes, self._engine, self._options = workflow, axes, engine, options
        self._out = None if options.out is None else Path(options.out)
        self._file = None if self._out is None else PointsFile(self._out, options.shard)
        self._directory = Path.cwd() if self._out is None else self._out.absolute()
        self._earlier = Earlier() if self._file is None else self._file.read()
        self._own = OwnFiles((self._directory / file, digest) for file, digest in self._earlier.digests.items())
        self._digits = max(_DIGITS, len(str(len(axes))))
        self._document = dump(workflow, all_values=False)
        self._fixed = list(options.overrides)
        self._seeds: dict[str, int] = {}
        self._forced: set[str] = set()  # the keys of nodes that were forced in an earlier point
        self._locked: LockedSweep | None = None
        self._graphs: dict[int, Graph] = {}  # of points, by their numbers, as they were checked

    def run(self) -> SweepResult:
        """Check every value of the axes, then run the points."""
        began = time.perf_counter()
        self._require_same_sweep()
        self._require_lock()
        self._check()
        self._require_all()
        if self._file is not None:
            self._file.begin(self._about())
        first, step = self._options.shard or (1, 1)
        self._options.on_start(len(range(first, len(self._axes) + 1, step)))
        points: list[Point] = []
        errors: list[tuple[Point, BaseException]] = []
        is_stopped = False
        own = slice(first - 1, None, step)
        ahead = self._runs_ahead(own)
        with self._engine.sequence() as cancel, contextlib.ExitStack() as stack:
            if ahead is not None:
                stack.callback(ahead.stop)
            for number, values in itertools.islice(enumerate(self._axes.points(), start=1), own.start, None, step):
                if ahead is not None:
                    ahead.advance()
                is_stopped = is_stopped or cancel.is_set or (bool(errors) and not self._options.keep_going)
                point, error = (self._blank(number, values), None) if is_stopped else self._point(number, values)
                points.append(point)
                if isinstance(error, Cancelled):
                    cancel.set()
                elif error is not None:
                    errors.append((point, error))
        status: SweepStatus = "cancelled" if cancel.is_set else "failed" if errors else "done"
        if self._file is not None:
            self._file.finish(points, {**self._about(), "status": status}, self._digests(points))
        return SweepResult(
            workflow=self._workflow.name,
            axes=self._axes,
            points=points,
            seconds=time.perf_counter() - began,
            status=status,
            error=interrupted(points) if status == "cancelled" else failure(points, errors),
            seeds=self._seeds,
            _engine=self._engine,
            _out=self._out,
        )

    def _runs_ahead(self, own: slice) -> RunsAhead | None:
        """What computes the next points of `own` already, if there are workers for it."""
        options, engine = self._options, self._engine
        if engine.parallel == 1 or options.force or options.verify:
            return None

        def begin(values: Sequence[Any]) -> RunHandle:
            overrides = [*self._fixed, *self._axes.overrides(values)]
            return self._engine.compute(self._workflow, overrides=overrides, targets=options.targets, keep_going=options.keep_going)

        points = itertools.islice(self._axes.points(), own.start, None, own.step)
        return RunsAhead(points, begin, lambda: engine.parallel)

    # --- before the first point

    def _require_same_sweep(self) -> None:
        """Raise WorkflowError if the folder holds the table of another sweep."""
        found = self._earlier.about
        if found in (None, (self._workflow.name, frozenset(self._axes.names))):
            return
        if self._options.overwrite:
            self._earlier = Earlier()
            return
        assert found is not None
        message = f"{self._out} holds the points of another sweep: of {found[0]}, over {' and '.join(sorted(found[1]))}"
        raise WorkflowError([Problem("E121", message, None, "Name another folder with --out, or replace it with --overwrite.")])

    def _require_lock(self) -> None:
        """With `locked`, raise LockError unless all but the values of the axes is as the lock file says."""
        options = self._options
        if options.locked is False:
            return
        self._locked = LockedSweep(
            self._engine, self._workflow, overrides=self._fixed, targets=options.targets, locked=options.locked
        )
        for seed in self._locked.seeds:
            self._fix_seed(seed.name, seed.value)

    def _require_all(self) -> None:
        """If the whole sweep is only to be gathered, raise SweepError unless all of its points are in the cache."""
        options = self._options
        if not options.gather or options.shard is not None:
            return
        fixed = replace(options, overrides=self._fixed)
        missing = [*uncached_points(self._engine, self._workflow, fixed, axes=self._axes, numbers=range(len(self._axes)))]
        if missing:
            raise not_gathered(missing, len(self._axes))

    def _check(self) -> None:
        """Check each value of each axis, and draw the seeds that all points share. Raises WorkflowError with every mistake."""
        problems: dict[Problem, None] = {}
        wrong = nodes = 0
        samples_are_points = self._axes.zip or len(self._axes.axes) == 1
        for number, values in enumerate(self._axes.samples(), start=1):
            try:
                graph = self._checked(values)
            except WorkflowError as error:
                problems.update(dict.fromkeys(error.problems))
                wrong += 1
                if wrong == _MOST_WRONG:
                    break
            else:
                self._fix_seeds(graph)
                nodes += len(graph.nodes)
                if samples_are_points and nodes <= _MOST_REMEMBERED:
                    self._graphs[number] = graph
        if problems:
            raise WorkflowError(problems)
        drawn = [name for name in self._seeds if name not in self._earlier.seeds]
        if self._options.shard is not None and drawn:
            message = f"the seed '{drawn[0]}' is random, and each part of the sweep would draw another one"
            raise WorkflowError([Problem("E121", message, None, f"Give all parts the same one: --set {drawn[0]}=1.")])

    def _checked(self, values: Sequence[Any]) -> Graph:
        overrides, targets = [*self._fixed, *self._axes.overrides(values)], self._options.targets
        if targets is None:
            return self._engine.check(self._workflow, overrides=overrides)
        return self._engine.plan(self._workflow, overrides=overrides, targets=targets).graph

    def _fix_seeds(self, graph: Graph) -> None:
        """Give seeds that are `random` to all points alike, unless they are an axis, or belong to an item of a list."""
        for name, drawn in graph.seeds.items():
            node = name.partition(".")[0]
            if name in self._workflow.params or node in self._workflow.nodes:
                self._fix_seed(name, self._earlier.seeds.get(name, drawn))

    def _fix_seed(self, name: str, seed: int) -> None:
        if name not in self._axes.names:
            self._seeds[name] = seed
            self._fixed.append(Override(name, seed))

    def _about(self) -> dict[str, Any]:
        over = {axis.name: list(axis.values) for axis in self._axes.axes}
        return {"workflow": self._workflow.name, "over": over, "zip": self._axes.zip, "seeds": self._seeds}

    # --- points

    def _blank(self, number: int, values: Sequence[Any]) -> Point:
        return Point(number=number, params=dict(zip(self._axes.names, values, strict=True)))

    def _point(self, number: int, values: Sequence[Any]) -> tuple[Point, BaseException | None]:
        """Run a point, unless it is done. Returns it, and what went wrong."""
        overrides = [*self._fixed, *self._axes.overrides(values)]
        blank = self._blank(number, values)
        error: BaseException | None = None
        began = time.perf_counter()
        try:
            if self._locked is not None:
                self._locked.require_same_files()
            force = self._options.force
            earlier = self._earlier.points.get(number)
            if force or (earlier is not None and not self._options.overwrite):
                plan = self._engine.plan(self._workflow, overrides=overrides, targets=self._options.targets, force=force)
                force = self._to_force(plan) if force else ()
                params = _typed(blank.params, plan.graph)
                identity = self._identity(params, plan.graph, plan.known.keys.static)
                if earlier is not None and not force and self._is_done(earlier, identity):
                    point = replace(earlier, params=params)
                    self._options.on_point(point)
                    return point, None
            point, error = self._result(blank, self._run(number, overrides, force))
        except (WorkflowError, LockError) as wrong:  # such as a file that is gone by now
            point, error = replace(blank, status="failed", seconds=time.perf_counter() - began, error=str(wrong)), wrong
        if self._file is not None and not isinstance(error, Cancelled):
            self._file.add(point, self._digests([point]))
        if not isinstance(error, Cancelled):
            self._options.on_point(point)
        return point, error

    def _run(self, number: int, overrides: Sequence[Override], force: Sequence[str]) -> Result:
        options = self._options
        self._own.prefix = f"{number:0{self._digits}d}-"
        return self._engine.run(
            self._workflow,
            overrides=overrides,
            targets=options.targets,
            force=force,
            out=self._out,
            overwrite=options.overwrite,
            keep_going=options.keep_going,
            verify=options.verify,
            metadata=options.metadata,
            graph=self._graphs.pop(number, None),
            own_files=self._own if self._out is not None else None,
            raise_errors=False,
        )

    def _result(self, blank: Point, result: Result) -> tuple[Point, BaseException | None]:
        """The point that a run gives, and what went wrong."""
        graph = result.graph
        if isinstance(result.error, Cancelled):
            return blank, result.error
        names = dict.fromkeys(output.name for output in graph.outputs.values())
        files = {name: [self._below(path) for path in paths] for name, paths in result.outputs.items()}
        params = _typed(blank.params, graph)
        point = replace(
            blank,
            params=params,
            status="done" if result.error is None else "failed",
            seconds=result.seconds,
            keys={output.full_name: _key(result, output.link.node) for output in graph.outputs.values()},
            files=files,
            error=None if result.error is None else str(result.error),
            run=result.run,
            identity=self._identity(params, graph, result.static_keys),
            differed=result.differed,
            readers={} if result.error is not None else {name: result.reader(name) for name in names},
        )
        return point, result.error

    def _to_force(self, plan: Plan) -> list[str]:
        """The nodes to force: those in `force` and below them, except those that an earlier point has forced under the same key."""
        keys = plan.keys
        forced = [name for name in plan.known.forced if keys.get(name) not in self._forced]
        self._forced |= {keys[name] for name in forced if name in keys}
        return forced

    def _identity(self, params: Mapping[str, Any], graph: Graph, static: Mapping[str, str]) -> str:
        """What a point is: the workflow, its values, and what its results are made of."""
        inputs = [[override.name, _plain(override.value)] for override in self._fixed]
        keys = {name: static.get(output.link.node) for name, output in graph.outputs.items()}
        parts = [self._document, inputs, {name: _plain(value) for name, value in params.items()}, keys]
        parts += [] if self._options.metadata else ["without metadata"]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()

    def _is_done(self, earlier: Point, identity: str) -> bool:
        """Whether an earlier sweep has done this point, and its files are still there."""
        if earlier.status != "done" or earlier.identity != identity:
            return False
        return all(self._own.is_own(self._directory / file) for files in earlier.files.values() for file in files)

    def _digests(self, points: Sequence[Point]) -> dict[str, str]:
        """The digests of the files of `points`."""
        files = (file for point in points for files in point.files.values() for file in files)
        known = self._own.digests
        return {file: known[self._directory / file] for file in files if self._directory / file in known}

    def _below(self, path: Path) -> str:
        """The path of a file below the folder."""
        return path.relative_to(self._out or Path()).as_posix()


def _key(result: Result, node: str) -> str | None:
    report = result.nodes.get(node)
    return None if report is None else report.key


def _typed(params: Mapping[str, Any], graph: Graph) -> dict[str, Any]:
    """The values of the axes as the graph has them: the number 1 instead of the text "1"."""
    found = {name: graph.params[name] if name in graph.params else _input(graph, name) for name in params}
    return {name: value if found[name] is None or not is_json(found[name]) else found[name] for name, value in params.items()}


def _input(graph: Graph, name: str) -> Any:
    """The value of "node.input" if it is a literal; None otherwise."""
    node, _, input = name.partition(".")
    found = graph.nodes[node].inputs.get(input) if node in graph.nodes else None
    if not isinstance(found, Value):
        return None
    return found.value if found.entry is None else found.entry.name


def _plain(value: Any) -> Any:
    return value if is_json(value) else str(value)
