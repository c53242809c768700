"""`nodegraph sweep`: run a workflow for many values of its params and inputs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nodegraph.cli.failures import verbose_option
from nodegraph.cli.help import DONE, WRONG_WORKFLOW, epilog
from nodegraph.cli.options import (
    cache_dir_option,
    cache_size_option,
    device_option,
    dtype_option,
    file_argument,
    force_option,
    out_option,
    overrides,
    overwrite_option,
    plugin_dir_option,
    preset_option,
    preview_option,
    set_option,
    target_option,
)
from nodegraph.cli.plugin_options import ExtensibleCommand, plugins_of
from nodegraph.cli.workflows.verify_option import verify_option, with_share
from nodegraph.terminal import echo, echo_json

if TYPE_CHECKING:
    from nodegraph.engine import Engine
    from nodegraph.sweeps.run import SweepResult
    from nodegraph.workflow.workflow import Workflow


class _Sweep(ExtensibleCommand):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, with_share(args))


@click.command(
    cls=_Sweep,
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
    help="Put N points that differ only in their seed through the model together, if the results are the same. This version "
    "cannot, and says so.",
)
@set_option
@preset_option
@out_option
@overwrite_option
@target_option
@force_option
@click.option("--keep-going", is_flag=True, help="If a point or a node fails, still run everything that does not depend on it.")
@cache_dir_option
@cache_size_option
@verify_option
@click.option("--no-cache", is_flag=True, help="Do not read or write the cache on disk.")
@device_option
@dtype_option
@preview_option
@plugin_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object about the sweep instead of paths.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress and no notes on stderr.")
@verbose_option("Show a traceback of a failure.")
@click.pass_context
def sweep(
    ctx: click.Context,
    file: Path,
    over: Sequence[str],
    is_zip: bool,
    sheet: bool,
    batch: int | None,
    settings: Sequence[tuple[str, str]],
    presets: Sequence[Path],
    out: Path,
    overwrite: bool,
    targets: Sequence[str],
    force: Sequence[str],
    keep_going: bool,
    cache_dir: Path | None,
    cache_size: str | None,
    verify: float | None,
    no_cache: bool,
    device: str,
    dtype: str,
    preview: Path | None,
    plugin_dirs: Sequence[Path],
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Run the workflow FILE once for each point of a sweep.

    Prints the paths of all outputs. Without --over, the section 'sweep' of FILE says what to try. What points have in common is
    computed once. The files of point 7 begin with 0007-; points.csv and points.json list all points. The same command again goes
    on where it was stopped: no point that is done runs again, and files that the sweep has written are replaced if they have to be.
    """
    from nodegraph.cli.running import Display, cache_options, run_in_engine, wrong_results
    from nodegraph.cli.sweep_progress import SweepProgress
    from nodegraph.graph.load import load_workflow
    from nodegraph.sweeps.axes import Axes, checked, read_over, read_sweep
    from nodegraph.sweeps.run import sweep as run_sweep

    if verify and no_cache:
        raise click.UsageError("--verify-cache checks results in the cache, which --no-cache does not read. Leave out one of them.")
    if is_zip and not over:
        raise click.UsageError("--zip needs values to take together. Give them with --over.")
    plugins = plugins_of(ctx, plugin_dirs)
    changes = overrides(settings, presets)
    own = checked(Axes(axes=[read_over(text) for text in over], zip=is_zip)) if over else None
    shown = SweepProgress(quiet=quiet, verbose=verbose)

    def work(engine: Engine, workflow: Workflow) -> SweepResult:
        axes = read_sweep({} if workflow.sweep is None else workflow.sweep, workflow.base) if own is None else own
        if batch is not None and batch > 1 and not quiet:
            shown.line(
                "note: --batch: the points run one by one. On some devices, a model computes other bits for several values at "
                "once, so this version does not put points together"
            )
        return run_sweep(
            workflow,
            axes,
            engine=engine,
            raise_errors=False,
            overrides=changes,
            targets=targets or None,
            force=force,
            keep_going=keep_going,
            out=out,
            overwrite=overwrite,
            verify=verify,
            on_start=shown.begin,
            on_point=shown.add,
        )

    result = run_in_engine(
        lambda: load_workflow(file, plugins, changes),
        work,
        plugins,
        Display(quiet=quiet, verbose=verbose, as_json=as_json, preview=preview),
        engine_options={"device": device, "dtype": dtype, **cache_options(cache_dir, cache_size, no_cache=no_cache)},
        shown=shown,
    )
    made = _write_sheets(result, out, quiet=quiet) if sheet else []
    if as_json:
        echo_json(json.dumps(_summary(result, out, made)))
    else:
        for point in result.points:
            for name, files in point.files.items():
                for path in files:
                    echo(f"{name}\t{out / path}" if len(point.files) > 1 else str(out / path))
        for written in made:
            echo(str(written))
    if result.error is not None:
        raise result.error
    if wrong := sorted({name for point in result for name in point.differed}):
        raise wrong_results(wrong)


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
