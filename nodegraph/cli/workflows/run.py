"""`nodegraph run`: run a workflow and say where each output went."""

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
from nodegraph.cli.options import (
    cache_dir_option,
    cache_size_option,
    file_argument,
    overrides,
    pickles_option,
    plugin_dir_option,
    set_option,
)

if TYPE_CHECKING:
    from nodegraph.cli.progress import PlainProgress
    from nodegraph.engine import Engine, Result
    from nodegraph.run.events import Event


@click.command()
@file_argument
@set_option
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="out",
    show_default=True,
    metavar="DIR",
    help="Where outputs are written.",
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="NODE",
    help="Compute this node (or node.port) instead of the workflow's outputs; may be repeated.",
)
@click.option("--force", multiple=True, metavar="NODE", help="Run this node even if its result is in the cache; may be repeated.")
@click.option("--keep-going", is_flag=True, help="A node that fails stops only what is below it.")
@cache_dir_option
@cache_size_option
@click.option("--no-cache", is_flag=True, help="Neither read nor write the cache on disk.")
@click.option("--device", default="auto", show_default=True, metavar="D", help="Where tensors are computed: cpu, cuda, mps.")
@click.option("--dtype", default="auto", show_default=True, metavar="T", help="In what: float32, bfloat16, float16.")
@pickles_option
@click.option(
    "--preview",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="While nodes run, write there what they show so far, for an image viewer that reloads.",
)
@click.option(
    "--preview-decoder",
    type=click.Path(path_type=Path),
    envvar="NODEGRAPH_PREVIEW_DECODER",
    metavar="FILE",
    help="With --preview: a TAESD decoder, for sharper pictures. Also: NODEGRAPH_PREVIEW_DECODER.",
)
@plugin_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object about the run instead of paths.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
@verbose_option("Add keys, and tracebacks of failures.")
def run(
    file: Path,
    settings: Sequence[tuple[str, str]],
    out: Path,
    targets: Sequence[str],
    force: Sequence[str],
    keep_going: bool,
    cache_dir: Path | None,
    cache_size: str | None,
    no_cache: bool,
    device: str,
    dtype: str,
    preview: Path | None,
    preview_decoder: Path | None,
    plugin_dirs: Sequence[Path],
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Run the workflow FILE; print where its outputs went.

    What was computed before, with the same inputs, is taken from the cache. Ctrl-C stops at the next step and keeps
    what is finished; a second one stops at once.
    """
    from nodegraph.cli.previews import PreviewFiles
    from nodegraph.cli.progress import progress
    from nodegraph.engine import Engine
    from nodegraph.workflow.workflow import Workflow

    decoder_from = click.get_current_context().get_parameter_source("preview_decoder")
    if preview is None and decoder_from is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("--preview-decoder shows nothing by itself. Say where previews go, too: --preview DIR.")
    if preview_decoder is not None:
        before = os.environ.get("NODEGRAPH_PREVIEW_DECODER", "")
        os.environ["NODEGRAPH_PREVIEW_DECODER"] = str(preview_decoder)
        click.get_current_context().call_on_close(lambda: os.environ.update(NODEGRAPH_PREVIEW_DECODER=before))
    where: dict[str, Any] = {"cache_size": cache_size} if cache_dir is None else {"cache_dir": cache_dir, "cache_size": cache_size}
    if no_cache:
        where = {"cache_dir": None}
    with progress(quiet=quiet, verbose=verbose) as shown:
        heard: list[Callable[[Event], None]] = [shown]
        engine = Engine(device=device, dtype=dtype, plugin_dirs=plugin_dirs, on_event=partial(_tell, heard), **where)
        warn_of_broken(engine.plugins, fatal=False)
        if preview is not None:
            renderer = engine.plugins.backend.preview_renderer()
            heard.append(PreviewFiles(preview, engine.plugins.codecs, shown, renderer))
        workflow = Workflow.load(file)
        with _stoppable(engine, shown):
            result = engine.run(
                workflow,
                overrides=overrides(settings),
                targets=targets or None,
                force=force,
                keep_going=keep_going,
                out=out,
                raise_errors=False,
            )
    if as_json:
        click.echo(json.dumps(_summary(result)))
    else:
        _print_paths(result)
    _report_others(result)
    if result.error is not None:
        raise result.error


def _tell(listeners: Sequence[Callable[[Event], None]], event: Event) -> None:
    for listener in listeners:
        listener(event)


def _summary(result: Result) -> dict[str, Any]:
    """What `--json` prints; nodes whose turn never came are left out, and `seeds` where none was drawn."""
    return ({"seeds": dict(result.graph.seeds)} if result.graph.seeds else {}) | {
        "run": result.run,
        "status": result.status,
        "seconds": round(result.seconds, 4),
        "outputs": {name: [str(path) for path in paths] for name, paths in result.outputs.items()},
        "nodes": {
            name: {"status": report.status, "seconds": round(report.seconds, 4), "key": report.key}
            | ({"error": report.error} if report.error else {})
            for name, report in result.nodes.items()
            if report.status != "skipped"
        },
    }


def _report_others(result: Result) -> None:
    """Say why nodes failed beside the one whose error ends the command."""
    for name in result.failed:
        said = result.nodes[name].error
        if said != str(result.error):
            click.echo(said, err=True)


def _print_paths(result: Result) -> None:
    """One path a line; where there are several outputs, after the output's name and a tab."""
    for name, paths in result.outputs.items():
        for path in paths:
            click.echo(f"{name}\t{path}" if len(result.outputs) > 1 else str(path))


@contextmanager
def _stoppable(engine: Engine, shown: PlainProgress) -> Iterator[None]:
    """Ctrl-C stops the run at its next step, and a second one at once; everything on disk is whole either way."""
    asked = False

    def stop(number: int, frame: object) -> None:
        nonlocal asked
        if asked:
            try:
                shown.close()
            finally:
                os._exit(130)  # threads inside a long operation would be waited for otherwise
        asked = True
        engine.cancel()
        if not shown.quiet:
            with suppress(OSError, RuntimeError):  # stderr is gone, or in the middle of a write that this one interrupts
                shown.line("stopping at the next step; Ctrl-C again stops at once")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        sys.stderr.flush()
