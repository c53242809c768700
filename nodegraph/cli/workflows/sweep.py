"""`nodegraph sweep`: run a workflow for many values of its params and inputs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from nodegraph.cli.help import DONE, WRONG_WORKFLOW, epilog
from nodegraph.cli.options import file_argument
from nodegraph.cli.run_options import ALL, OptionValues, RunCommand, run_options
from nodegraph.terminal import echo, echo_json

if TYPE_CHECKING:
    from nodegraph.engine import Engine
    from nodegraph.plugins.backend import Backend
    from nodegraph.plugins.manager import Plugins
    from nodegraph.sweeps.axes import Axes
    from nodegraph.sweeps.result import SweepResult
    from nodegraph.workflow.workflow import Workflow


_NO_BATCH: Final = (
    "note: --batch: the points run one by one. Computed together, a result may have other bits, which depend on the other points, "
    "and nothing can rule that out"
)


def _part(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """The part K/N of a sweep."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", value.strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise click.BadParameter(f"expected a part such as 3/16, from 1/N to N/N, found '{value}'.", ctx=ctx, param=param)
    return int(match[1]), int(match[2])


@click.command(
    cls=RunCommand,
    epilog=epilog(
        "nodegraph sweep workflow.yaml --over seed=1..8",
        "nodegraph sweep workflow.yaml --over seed=1,2,5 --sheet --keep-going",
        status=(
            DONE,
            "1 a point failed, or an output could not be written",
            WRONG_WORKFLOW,
            "3 done, but --verify-cache found wrong results",
            "130 interrupted",
            "143 terminated",
        ),
    ),
)
@file_argument
@click.option(
    "--over",
    "over",
    multiple=True,
    metavar="NAME=VALUES",
    help="Run once for each of these values of a param or node.input: a..b, a..b:step, x,y,z, a list in brackets, or @file with "
    "one value on each line. May be repeated: each value is combined with each value of the others.",
)
@click.option(
    "--zip", "is_zip", is_flag=True, help="Take the first values of all --over together, then the second ones, and so on."
)
@click.option("--sheet", is_flag=True, help="Also make a contact sheet with the values as labels, in a file called sheet.")
@click.option(
    "--batch",
    type=click.IntRange(1),
    metavar="N",
    help="Put N points that differ only in their seed through the model together, if the results are sure to be the same. They "
    "never are, so the points run one by one, with a note.",
)
@click.option(
    "--shard",
    metavar="K/N",
    callback=_part,
    help="Run only part K of N of the points, for N machines with a shared store. With --gather, the part that ends last also "
    "gathers all points.",
)
@click.option(
    "--gather",
    is_flag=True,
    help="Write the files and tables of all points from the cache, and compute nothing: an error if a point is not there. With "
    "--shard, run the part, and then gather if all other parts are done.",
)
@run_options(
    ALL,
    keep_going="If a point or a node fails, still run everything that does not depend on it.",
    locked="Run only if all but the swept values is as the lock file of FILE says.",
    as_json="Print one JSON object about the sweep instead of paths.",
    verbose="Show a traceback of a failure.",
)
@click.pass_context
def sweep(
    ctx: click.Context,
    file: Path,
    over: Sequence[str],
    is_zip: bool,
    sheet: bool,
    batch: int | None,
    shard: tuple[int, int] | None,
    gather: bool,
    options: OptionValues,
) -> None:
    """Run the workflow FILE once for each point of a sweep.

    Prints the paths of all outputs. Without --over, the section 'sweep' of FILE says what to try. What points have in common is
    computed once. The files of point 7 begin with 0007-; points.csv and points.json list all points. The same command again goes
    on where it was stopped: no point that is done runs again, and files that the sweep has written are replaced if they have to be.
    """
    if is_zip and not over:
        raise click.UsageError("--zip needs values to take together. Give them with --over.")
    if shard is not None and sheet and not gather:
        raise click.UsageError("--sheet needs all points, and --shard runs a part. Add --gather: the last part makes the sheet.")
    if gather and (options.force or options.verify or options.no_cache):
        raise click.UsageError("--gather takes all points from the cache. Leave out --force, --verify-cache and --no-cache.")
    plugins = options.plugins(ctx)
    result = _run(file, plugins, options, axes=_axes(over, is_zip), batch=batch, shard=shard, gather=gather)
    if result.missing and not options.quiet:
        absent = f"point {result.missing[0]} is not in the cache"
        echo(f"note: --gather: {absent}, so other parts are not done. The last one to end gathers all points", err=True)
    is_whole = shard is None or (result.error is None and not result.missing)
    sheets = _write_sheets(result, options.out, quiet=options.quiet) if sheet and is_whole else []
    _show(result, sheets, options, plugins.backend)


def _axes(over: Sequence[str], is_zip: bool) -> Axes | None:
    """The axes that the command line gives; None if the file has to say what to try."""
    from nodegraph.sweeps.axes import Axes, checked, read_over

    return checked(Axes(axes=[read_over(text) for text in over], zip=is_zip)) if over else None


def _run(file: Path, plugins: Plugins, options: OptionValues, *, axes: Axes | None, batch: int | None, **part: Any) -> SweepResult:
    """Run the sweep, with its progress on stderr. `part` says which points run."""
    from nodegraph.cli.running import run_in_engine
    from nodegraph.cli.sweep_progress import SweepProgress
    from nodegraph.graph.load import load_workflow
    from nodegraph.sweeps.run import sweep as run_sweep

    shown, changes = SweepProgress(quiet=options.quiet, verbose=options.verbose), options.changes

    def work(engine: Engine, workflow: Workflow) -> SweepResult:
        if batch is not None and batch > 1 and not options.quiet:
            shown.line(_NO_BATCH)
        return run_sweep(
            workflow,
            axes,
            engine=engine,
            raise_errors=False,
            overrides=changes,
            **options.run_options,
            **part,
            on_start=shown.begin,
            on_point=shown.add,
        )

    return run_in_engine(
        lambda: load_workflow(file, plugins, changes, options.bases),
        work,
        plugins,
        options.display,
        engine_options=options.engine_options,
        shown=shown,
    )


def _show(result: SweepResult, sheets: Sequence[Path], options: OptionValues, backend: Backend) -> None:
    """Print, show and open what the command promises. Raises the error that ended the sweep, if there is one."""
    from nodegraph.cli.inline.outputs import NEVER, inline_outputs
    from nodegraph.cli.running import wrong_results

    display = options.display
    if options.as_json:
        echo_json(json.dumps(_summary(result, options.out, sheets)))
    else:
        with inline_outputs(NEVER if display.quiet else display.inline, backend) as show:
            _print_paths(result, options.out, sheets, show)
    if result.error is not None:
        raise result.error
    if display.viewer is not None:
        display.viewer.open(sheets or [options.out / path for _, path in _outputs(result)])
    if wrong := sorted({name for point in result for name in point.differed}):
        raise wrong_results(wrong)


def _outputs(result: SweepResult) -> Iterator[tuple[str, str]]:
    """The names of the outputs and the paths of their files below the folder, point by point."""
    for point in result.points:
        for name, files in point.files.items():
            for path in files:
                yield name if len(point.files) > 1 else "", path


def _print_paths(result: SweepResult, out: Path, sheets: Sequence[Path], show: Callable[[Path], None]) -> None:
    """Print the path of each file, and show it; if there are sheets, only these are shown."""
    for name, path in _outputs(result):
        echo(f"{name}\t{out / path}" if name else str(out / path))
        if not sheets:
            show(out / path)
    for sheet in sheets:
        echo(str(sheet))
        show(sheet)


def _write_sheets(result: SweepResult, out: Path, *, quiet: bool) -> list[Path]:
    """Write the contact sheets over those of an earlier sweep. Says so if the outputs cannot be shown."""
    from nodegraph.files import write_whole

    try:
        sheets = result.sheet()
    except ValueError as error:
        if not quiet:
            echo(f"note: --sheet: {error}", err=True)
        return []
    written = []
    for number, value in enumerate(sheets if isinstance(sheets, list) else [sheets], start=1):
        data, extension = result.exported(value)
        path = out / f"sheet{f'-{number}' if number > 1 else ''}{extension}"
        write_whole(path, data)
        written.append(path)
    return written


def _summary(result: SweepResult, out: Path, sheets: Sequence[Path]) -> dict[str, Any]:
    """The object that `--json` prints."""
    return ({"seeds": dict(result.seeds)} if result.seeds else {}) | {
        "status": result.status,
        "seconds": round(result.seconds, 4),
        "over": {axis.name: list(axis.values) for axis in result.axes.axes},
        "points": [
            {
                "point": point.number,
                "params": dict(point.params),
                "status": point.status,
                "kept": point.is_kept,
                "seconds": round(point.seconds, 4),
                "keys": dict(point.keys),
                "outputs": {name: [str(out / path) for path in files] for name, files in point.files.items()},
            }
            | ({"error": point.error} if point.error else {})
            for point in result.points
        ],
        "sheets": [str(path) for path in sheets],
    }
