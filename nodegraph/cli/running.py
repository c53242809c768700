"""Running a workflow from the command line: progress on stderr, Ctrl-C, and what is printed at the end."""

from __future__ import annotations

import _thread
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from nodegraph.cli.failures import warn_of_broken
from nodegraph.cli.inline.outputs import NEVER, inline_outputs
from nodegraph.cli.progress import progress
from nodegraph.engine import Engine
from nodegraph.errors import Cancelled, WrongResultError
from nodegraph.gc_pause import resume_after_start
from nodegraph.light_dataclass import dataclass
from nodegraph.terminal import echo, echo_json

if TYPE_CHECKING:
    from nodegraph.cli.progress import PlainProgress
    from nodegraph.cli.viewer import Viewer
    from nodegraph.engine import Result
    from nodegraph.plugins.backend import Backend
    from nodegraph.plugins.manager import Plugins
    from nodegraph.run.events import Event
    from nodegraph.workflow.workflow import Workflow

T = TypeVar("T")

_CLOSE_SECONDS: Final = 0.5  # to restore the terminal before a process is ended at once


@dataclass(frozen=True, kw_only=True)
class Display:
    """What a run shows; `preview` is the folder for previews, and `inline` says whether the terminal shows outputs.

    `viewer` opens the outputs.
    """

    quiet: bool = False
    verbose: bool = False
    as_json: bool = False
    preview: Path | None = None
    inline: str = NEVER
    viewer: Viewer | None = None


def cache_options(cache_dir: Path | None, cache_size: str | None, *, no_cache: bool = False) -> dict[str, Any]:
    """The options of an `Engine` for those of the command line."""
    if no_cache:
        return {"cache_dir": None}
    return {"cache_size": cache_size} | ({} if cache_dir is None else {"cache_dir": cache_dir})


def run_and_print(
    load: Callable[[], Workflow],
    plugins: Plugins,
    display: Display,
    *,
    engine_options: Mapping[str, Any],
    run_options: Mapping[str, Any],
) -> None:
    """Run the workflow that `load` returns and print its result. Raises the error that ended the run."""

    def work(engine: Engine, workflow: Workflow) -> Result:
        return engine.run(workflow, raise_errors=False, **run_options)

    result = run_in_engine(load, work, plugins, display, engine_options=engine_options)
    _print_result(result, display, plugins.backend)


def run_in_engine(
    load: Callable[[], Workflow],
    work: Callable[[Engine, Workflow], T],
    plugins: Plugins,
    display: Display,
    *,
    engine_options: Mapping[str, Any],
    shown: PlainProgress | None = None,
) -> T:
    """Do `work` with a new engine and the workflow that `load` returns: with progress on stderr, and stopped by signals."""
    with shown or progress(quiet=display.quiet, verbose=display.verbose) as shown:
        listeners: list[Callable[[Event], None]] = [shown]
        engine = Engine(plugins=plugins, on_event=partial(_pass_on, listeners), **engine_options)
        shown.records = None if engine.cache_dir is None else engine.cache_dir / "runs"
        warn_of_broken(plugins, fatal=False)
        if display.preview is not None:
            from nodegraph.cli.previews import PreviewFiles

            listeners.append(PreviewFiles(display.preview, plugins.codecs, shown, plugins.backend.preview_renderer()))
        workflow = load()
        with _stoppable(engine, shown) as stopped_by:
            resume_after_start()
            try:
                result = work(engine, workflow)
            except Cancelled as error:
                _set_status(error, stopped_by)
                raise
            finally:
                engine.finish_uploads(_upload_progress(shown))
    _set_status(getattr(result, "error", None), stopped_by)
    return result


def _upload_progress(shown: PlainProgress) -> Callable[[int], None]:
    """What shows, once, that results are still being written to the shared store."""
    unsaid = [] if shown.quiet else [True]

    def show(left: int) -> None:
        if unsaid:
            unsaid.pop()
            shown.line(f"writing to the shared store, {left} left; Ctrl-C twice leaves them out")

    return show


def _set_status(error: object, stopped_by: Sequence[int]) -> None:
    """Give the error of a run that signals stopped their exit status."""
    if isinstance(error, Cancelled) and stopped_by:
        error.exit_status = 128 + stopped_by[0]


def _pass_on(listeners: Sequence[Callable[[Event], None]], event: Event) -> None:
    for listener in listeners:
        listener(event)


def _print_result(result: Result, display: Display, backend: Backend) -> None:
    """Print and open what the command promises; raises the error that ended the run, if there is one."""
    if display.as_json:
        echo_json(json.dumps(_summary(result)))
    else:
        with inline_outputs(NEVER if display.quiet else display.inline, backend) as show:
            _print_paths(result, show)
    _print_other_errors(result)
    if result.error is not None:
        raise result.error
    if display.viewer is not None:
        display.viewer.open([path for paths in result.outputs.values() for path in paths])
    if result.differed:
        raise wrong_results(result.differed)


def wrong_results(nodes: Sequence[str]) -> WrongResultError:
    """The error that ends a command that has found wrong results of these nodes in the cache."""
    names = ", ".join(f"'{name}'" for name in nodes)
    return WrongResultError(
        f"[E221] wrong results were in the cache: {names}. This run computed and stored them again, and its outputs are right. "
        f"Earlier runs may have used the wrong ones: run again what uses these nodes"
    )


def _summary(result: Result) -> dict[str, Any]:
    """The object that `--json` prints, without nodes that were skipped, and without `seeds` and `notices` if there are none."""
    return (
        ({"seeds": dict(result.graph.seeds)} if result.graph.seeds else {})
        | {
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
        | ({"notices": [{"node": notice.node, "message": notice.message} for notice in result.notices]} if result.notices else {})
    )


def _print_other_errors(result: Result) -> None:
    """Print why nodes failed, except for the error that ends the command."""
    for name in result.failed:
        error = result.nodes[name].error
        if error != str(result.error):
            echo(str(error), err=True)


def _print_paths(result: Result, show: Callable[[Path], None]) -> None:
    """Print one path a line, and show the file; if there are several outputs, each after the output's name and a tab."""
    for name, paths in result.outputs.items():
        for path in paths:
            echo(f"{name}\t{path}" if len(result.outputs) > 1 else str(path))
            show(path)


def _in_thread(show: Callable[[], None]) -> threading.Event:
    """Call `show` in another thread, for a signal handler. Returns an event that is set afterwards.

    The signal may interrupt the main thread while it holds a lock of the display that a thread of the display waits for while it
    holds another one. If the handler waited for that one, the process would hang.
    """
    done = threading.Event()

    def work() -> None:
        with suppress(Exception):  # such as a closed stderr
            show()
        done.set()

    try:
        _thread.start_new_thread(work, ())  # Thread.start takes locks that the main thread may hold
    except RuntimeError:  # the system has no more threads
        done.set()
    return done


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
                _in_thread(shown.close).wait(_CLOSE_SECONDS)
            finally:
                os._exit(128 + number)  # a normal exit would wait for threads in a long operation
        engine.cancel()
        if not shown.quiet:
            _in_thread(lambda: shown.line("stopping at the next step; Ctrl-C again stops at once"))

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
