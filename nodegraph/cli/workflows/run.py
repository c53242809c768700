"""`nodegraph run`: run a workflow and print where each output went."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nodegraph.cli.failures import verbose_option, warn_of_broken
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
    plugin_dir_option,
    preview_option,
    set_option,
    target_option,
)
from nodegraph.cli.plugin_options import ExtensibleCommand, plugins_of
from nodegraph.cli.workflows.verify_option import verify_option, with_share
from nodegraph.errors import Cancelled, WrongResultError
from nodegraph.terminal import echo, echo_json

if TYPE_CHECKING:
    from nodegraph.cli.progress import PlainProgress
    from nodegraph.engine import Engine, Result
    from nodegraph.run.events import Event


class _Run(ExtensibleCommand):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, with_share(args))


@click.command(
    cls=_Run,
    epilog=epilog(
        "nodegraph run workflow.yaml",
        "nodegraph run workflow.yaml --set seed=8 --out results",
        "nodegraph run workflow.yaml --no-cache --json",
        status=(
            DONE,
            "1 a node failed or an output could not be written",
            WRONG_WORKFLOW,
            "3 done, but --verify-cache found wrong results",
            "130 interrupted",
            "143 terminated",
        ),
    ),
)
@file_argument
@set_option
@out_option
@click.option("--overwrite", is_flag=True, help="Replace files with other content instead of numbering the new ones.")
@target_option
@force_option
@click.option("--keep-going", is_flag=True, help="If a node fails, still run every node that does not depend on it.")
@cache_dir_option
@cache_size_option
@verify_option
@click.option("--no-cache", is_flag=True, help="Do not read or write the cache on disk.")
@device_option
@dtype_option
@preview_option
@plugin_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object about the run instead of paths.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress on stderr.")
@verbose_option("Show the keys of nodes, and a traceback of every failure.")
@click.pass_context
def run(
    ctx: click.Context,
    file: Path,
    settings: Sequence[tuple[str, str]],
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
    """Run the workflow FILE and print the paths of its outputs.

    FILE may be '-' for standard input. A node whose inputs have not changed is not run again: its result comes from the cache.
    Ctrl-C, or SIGTERM, stops at the next step and keeps every finished result; a second one stops at once.
    """
    from nodegraph.cli.progress import progress
    from nodegraph.engine import Engine
    from nodegraph.graph.load import load_workflow

    if verify and no_cache:
        raise click.UsageError("--verify-cache checks results in the cache, which --no-cache does not read. Leave out one of them.")
    cache: dict[str, Any] = {"cache_dir": None} if no_cache else {"cache_size": cache_size}
    if cache_dir is not None and not no_cache:
        cache["cache_dir"] = cache_dir
    plugins = plugins_of(ctx, plugin_dirs)
    with progress(quiet=quiet, verbose=verbose) as shown:
        listeners: list[Callable[[Event], None]] = [shown]
        engine = Engine(device=device, dtype=dtype, plugins=plugins, on_event=partial(_pass_on, listeners), **cache)
        warn_of_broken(plugins, fatal=False)
        if preview is not None:
            from nodegraph.cli.previews import PreviewFiles

            listeners.append(PreviewFiles(preview, plugins.codecs, shown, plugins.backend.preview_renderer()))
        workflow = load_workflow(file, plugins, overrides(settings))
        with _stoppable(engine, shown) as stopped_by:
            result = engine.run(
                workflow,
                overrides=overrides(settings),
                targets=targets or None,
                force=force,
                keep_going=keep_going,
                out=out,
                overwrite=overwrite,
                verify=verify,
                raise_errors=False,
            )
    if isinstance(result.error, Cancelled) and stopped_by:
        result.error.exit_status = 128 + stopped_by[0]
    _print_result(result, as_json=as_json)


def _pass_on(listeners: Sequence[Callable[[Event], None]], event: Event) -> None:
    for listener in listeners:
        listener(event)


def _print_result(result: Result, *, as_json: bool) -> None:
    """Print what the command promises; raises the error that ended the run, if there is one."""
    if as_json:
        echo_json(json.dumps(_summary(result)))
    else:
        _print_paths(result)
    _print_other_errors(result)
    if result.error is not None:
        raise result.error
    if result.differed:
        names = ", ".join(f"'{name}'" for name in result.differed)
        raise WrongResultError(
            f"[E221] wrong results were in the cache: {names}. This run computed and stored them again, and its outputs are right. "
            f"Earlier runs may have used the wrong ones: run again what uses these nodes"
        )


def _summary(result: Result) -> dict[str, Any]:
    """The object that `--json` prints, without nodes that were skipped, and without `seeds` if none was drawn."""
    return ({"seeds": dict(result.graph.seeds)} if result.graph.seeds else {}) | {
        "run": result.run,
        "status": result.status,
        "seconds": round(result.seconds, 4),
        "outputs": {name: [str(path) for path in paths] for name, paths in result.outputs.items()},
        "nodes": {
            name: {"status": report.status, "seconds": round(report.seconds, 4), "key": report.key}
            | ({"error": report.error} if report.error else {})
            | ({"wrong": report.wrong.as_json()} if report.wrong else {})
            for name, report in result.nodes.items()
            if report.status != "skipped"
        },
    }


def _print_other_errors(result: Result) -> None:
    """Print why nodes failed, except for the error that ends the command."""
    for name in result.failed:
        error = result.nodes[name].error
        if error != str(result.error):
            echo(str(error), err=True)


def _print_paths(result: Result) -> None:
    """Print one path a line; if there are several outputs, each after the output's name and a tab."""
    for name, paths in result.outputs.items():
        for path in paths:
            echo(f"{name}\t{path}" if len(result.outputs) > 1 else str(path))


@contextmanager
def _stoppable(engine: Engine, shown: PlainProgress) -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM stop the run at its next step, a second one at once; every file on disk is complete either way.

    Yields the numbers of the signals that came.
    """
    received: list[int] = []

    def stop(number: int, frame: object) -> None:
        received.append(number)
        if len(received) > 1:
            try:
                shown.close()
            finally:
                os._exit(128 + number)  # a normal exit would wait for threads in a long operation
        engine.cancel()
        if not shown.quiet:
            with suppress(OSError, RuntimeError):  # stderr is closed, or this signal interrupts a write to it
                shown.line("stopping at the next step; Ctrl-C again stops at once")

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.stderr.flush()
