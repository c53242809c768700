"""Runs a sweep: one run for each point, on one engine, so that the points share what they have in common."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from nodegraph.engine import Engine
from nodegraph.errors import Cancelled
from nodegraph.graph.load import load_workflow
from nodegraph.graph.overrides import all_overrides
from nodegraph.run.handle import RunHandle
from nodegraph.run.options import WorkflowSource, path_of
from nodegraph.settings import settings_read_once
from nodegraph.sweeps.ahead import RunsAhead
from nodegraph.sweeps.axes import Axes, make_axes, read_sweep
from nodegraph.sweeps.checked import CheckedSweep
from nodegraph.sweeps.folder import SweepFolder
from nodegraph.sweeps.gathering import require_all, uncached_points
from nodegraph.sweeps.point_runs import PointRuns
from nodegraph.sweeps.points import Point
from nodegraph.sweeps.result import SweepOptions, SweepResult, SweepStatus, failure, interrupted
from nodegraph.workflow.workflow import Workflow


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
        result = _run(workflow, axes, engine, chosen)
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
    return _run(workflow, axes, engine, whole)


def _run(workflow: Workflow, axes: Axes, engine: Engine, options: SweepOptions) -> SweepResult:
    """Check every value of the axes, then run the points."""
    began = time.perf_counter()
    workflow = workflow.with_({})  # one without a section `sweep`: a file that a point writes holds one run
    workflow.sweep = None
    folder = SweepFolder(options.out, len(axes), options.shard)
    folder.require_same_sweep(workflow.name, axes.names, overwrite=options.overwrite)
    checked = CheckedSweep(workflow, axes, engine, options=options, earlier_seeds=folder.earlier.seeds)
    if options.gather and options.shard is None:
        require_all(engine, workflow, replace(options, overrides=checked.shared), axes=axes)
    folder.begin(checked.about())
    options.on_start(checked.count)
    points, errors, is_cancelled = _run_points(checked, folder)
    status: SweepStatus = "cancelled" if is_cancelled else "failed" if errors else "done"
    folder.finish(points, {**checked.about(), "status": status})
    return SweepResult(
        workflow=workflow.name,
        axes=axes,
        points=points,
        seconds=time.perf_counter() - began,
        status=status,
        error=interrupted(points) if is_cancelled else failure(points, errors),
        seeds=checked.seeds,
        _engine=engine,
        _out=folder.out,
    )


def _run_points(checked: CheckedSweep, folder: SweepFolder) -> tuple[list[Point], list[tuple[Point, BaseException]], bool]:
    """Run the points in order. Returns them, those that failed with their errors, and whether the sweep was cancelled."""
    points: list[Point] = []
    errors: list[tuple[Point, BaseException]] = []
    runs, ahead = PointRuns(checked, folder), _runs_ahead(checked)
    is_stopped = False
    with checked.engine.sequence() as cancel, contextlib.ExitStack() as stack:
        if ahead is not None:
            stack.callback(ahead.stop)
        for number, values in checked.points():
            if ahead is not None:
                ahead.advance()
            is_stopped = is_stopped or cancel.is_set or (bool(errors) and not checked.options.keep_going)
            point, error = (runs.blank(number, values), None) if is_stopped else runs.run(number, values)
            points.append(point)
            if isinstance(error, Cancelled):
                cancel.set()
            elif error is not None:
                errors.append((point, error))
    return points, errors, cancel.is_set


def _runs_ahead(checked: CheckedSweep) -> RunsAhead | None:
    """What computes the next points already, if there are workers for it."""
    options, engine = checked.options, checked.engine
    if engine.parallel == 1 or options.force or options.verify:
        return None

    def begin(number: int, values: Sequence[Any]) -> RunHandle:
        return engine.compute(
            checked.workflow,
            overrides=checked.overrides(values),
            targets=options.targets,
            keep_going=options.keep_going,
            graph=checked.graph(number),
        )

    return RunsAhead(checked.points(), begin, lambda: engine.parallel)
