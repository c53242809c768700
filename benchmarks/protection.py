"""What the protections of the cache cost: for each node, and for the main job.

    python -m benchmarks.protection                # for each node: plain and numeric, in memory and on disk
    python -m benchmarks.protection --loop         # for each node, in a loop without a pause: the least that it can cost
    python -m benchmarks.protection --main-job     # the main job from an empty cache with and without them, in turns

A protecting function is timed at each of its calls in whole runs. Its figure is the low decile of these times, which depends little
on other work of the machine, times its calls for each node. With `--loop`, its last call in a run is repeated, and it is the
least of many loops. For the main job, and nowhere in the product, these functions are replaced by some that do nothing; the figures
are processor time of whole processes.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import math
import os
import runpy
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final, NamedTuple
from unittest import mock

from benchmarks.engine import NODES, chain, tensors
from nodegraph import Engine, Workflow
from nodegraph.plugins.manager import Plugins, load_plugins
from nodegraph.plugins.state.known_state import KnownState
from nodegraph.plugins.used_code import UsedCode
from nodegraph.run.model_memory import InUse
from nodegraph.run.node import call, outcome, run_node
from nodegraph.run.node.process_state import ProcessWatch
from nodegraph_nodes.codecs import SafetensorsCodec

COUNT = 200
LOOP: Final = 50
LOOPS: Final = 500
WORKFLOW: Final = "workflows/inpaint.yaml"
WITHOUT: Final = "--without"  # how this module calls itself for the main job


def _nothing(*arguments: Any, **keywords: Any) -> None:
    return None


def _always(*arguments: Any, **keywords: Any) -> bool:
    return True


def _is_outermost(state: KnownState) -> bool:
    return state._thread.depth == 0


class Protection(NamedTuple):
    """A function that protects, and what it would return if it protected from nothing. Not all of its calls may take time."""

    owner: Any
    name: str
    idle: Callable[..., Any]
    takes_time: Callable[..., bool] = _always


PARTS: Final[dict[str, tuple[Protection, ...]]] = {
    "generators, environment, directory, locale, numbers, switches around the node": (
        Protection(ProcessWatch, "__init__", _nothing),
        Protection(ProcessWatch, "__enter__", lambda watch: watch),
        Protection(ProcessWatch, "__exit__", _nothing),
    ),
    "the same around its codecs": (
        Protection(KnownState, "__enter__", _nothing, _is_outermost),
        Protection(KnownState, "__exit__", _nothing),
    ),
    "draws of its codecs": (
        Protection(KnownState, "generators", _nothing),
        Protection(KnownState, "drew_since", lambda *_: False),
    ),
    "values of their own for readers": (Protection(SafetensorsCodec, "_read", _nothing),),
    "changes in place": (Protection(call, "_versions", lambda *_: {}), Protection(InUse, "was_changed", lambda _: False)),
    "which code it uses": (Protection(run_node, "registered_things", lambda *_: ()),),
    "changed code": (Protection(UsedCode, "change", _nothing),),
    "imported modules": (Protection(UsedCode, "imports", lambda *_: {}),),
    "switches that nodes share, draws": (
        Protection(outcome, "_changed_while_stored", _nothing),
        Protection(outcome, "_not_in_key", _nothing),
    ),
    "input files": (Protection(run_node, "files_changed", lambda *_: False),),
}
NEEDED: Final = "values of their own for readers"  # by every run on disk, so it stays in the main job without protections


def timed(function: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    """`function`, which notes how long each call takes."""

    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*arguments, **keywords)
        finally:
            seconds.append(time.perf_counter() - began)

    return call


def microseconds(seconds: list[float]) -> float:
    """The low decile, without the time of measuring."""
    empty: list[float] = []
    measure = timed(_nothing, empty)
    for _ in range(1000):
        measure()
    return (quantiles(seconds, n=10)[0] - quantiles(empty, n=10)[0]) * 1e6


def costs(workflow: Workflow, plugins: Plugins, folder: Path | None) -> dict[str, float]:
    """Microseconds for each node, by part."""
    Engine(None if folder is None else folder / "warm", plugins=plugins).run(workflow)
    noted: dict[str, list[list[float]]] = {}
    with contextlib.ExitStack() as stack:
        for part, protections in PARTS.items():
            for owner, name, _, _ in protections:
                seconds: list[float] = []
                noted.setdefault(part, []).append(seconds)
                stack.enter_context(mock.patch.object(owner, name, timed(getattr(owner, name), seconds)))
        Engine(None if folder is None else folder / "measured", plugins=plugins).run(workflow)
    found = {
        part: sum(microseconds(seconds) * len(seconds) / COUNT for seconds in calls if len(seconds) > 1)
        for part, calls in noted.items()
    }
    return {**found, "**all**": sum(found.values())}


def recorded(protection: Protection, calls: list[Callable[[], Any]]) -> Callable[..., Any]:
    """The protecting function, which notes each call, so that it can be repeated."""
    function = getattr(protection.owner, protection.name)

    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        if protection.takes_time(*arguments, **keywords):
            calls.append(functools.partial(function, *arguments, **keywords))
        return function(*arguments, **keywords)

    return call


def costs_in_a_loop(workflow: Workflow, plugins: Plugins) -> dict[str, float]:
    """Microseconds for each node in memory, by part, if the part's last calls in a run are repeated without a pause."""
    noted: dict[str, list[list[Callable[[], Any]]]] = {}
    with contextlib.ExitStack() as stack:
        for part, protections in PARTS.items():
            for protection in protections:
                calls: list[Callable[[], Any]] = []
                noted.setdefault(part, []).append(calls)
                stack.enter_context(mock.patch.object(protection.owner, protection.name, recorded(protection, calls)))
        Engine(None, plugins=plugins).run(workflow)
    found = {}
    for part, functions in noted.items():
        last = [calls[-1] for calls in functions if calls]
        found[part] = least(last) * len(functions[0]) / COUNT if last else 0.0
    return {**found, "**all**": sum(found.values())}


def least(calls: list[Callable[[], Any]]) -> float:
    """Microseconds of these calls one after another, without those of calling nothing as often."""
    empty = [_nothing] * len(calls)
    seconds = {True: math.inf, False: math.inf}
    for _ in range(LOOPS):
        for is_empty, repeated in ((False, calls), (True, empty)):
            began = time.perf_counter()
            for _ in range(LOOP):
                for function in repeated:
                    function()
            seconds[is_empty] = min(seconds[is_empty], time.perf_counter() - began)
    return (seconds[False] - seconds[True]) / LOOP * 1e6


def per_node(*, in_a_loop: bool) -> str:
    """A table of microseconds for each node."""
    plugins = load_plugins([NODES])
    columns = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        for kind, workflow in (("plain", chain(COUNT)), ("numeric", tensors(COUNT))):
            if in_a_loop:
                columns[f"{kind} node"] = costs_in_a_loop(workflow, plugins)
                continue
            columns[f"{kind} node, memory"] = costs(workflow, plugins, None)
            columns[f"{kind} node, disk"] = costs(workflow, plugins, Path(temporary, kind))
    lines = [f"| us for each node | {' | '.join(columns)} |", "| --- |" + " ---: |" * len(columns)]
    parts = next(iter(columns.values()))
    return "\n".join(
        [*lines, *(f"| {part} | {' | '.join(f'{found[part]:.1f}' for found in columns.values())} |" for part in parts)]
    )


@contextlib.contextmanager
def without_protections() -> Iterator[None]:
    """Replace the protecting functions by those that do nothing during the block."""
    with contextlib.ExitStack() as stack:
        for part, protections in PARTS.items():
            for owner, name, idle, _ in protections if part != NEEDED else ():
                stack.enter_context(mock.patch.object(owner, name, idle))
        yield


def main_job(rounds: int) -> str:
    """Seconds of processor time of the main job with and without protections, in turns."""
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for i in range(1 + rounds):
        for protected in (True, False):
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, "-m", "benchmarks.protection", "--job", folder, *([] if protected else [WITHOUT])]
                _, status, usage = os.wait4(os.posix_spawn(command[0], command, os.environ), 0)
            if status:
                raise SystemExit("the main job failed")
            if i:
                seconds[protected].append(usage.ru_utime + usage.ru_stime)
        if i:
            print(f"  pair {i}: {seconds[True][-1]:.2f} and {seconds[False][-1]:.2f} s", file=sys.stderr, flush=True)
    share = median((on - off) / off for on, off in zip(seconds[True], seconds[False], strict=True))
    least = f"least {min(seconds[True]):.2f} and {min(seconds[False]):.2f} s"
    return f"main job: {share:+.1%}, the median of {rounds} pairs; with and without protections: {least}"


def job(folder: str) -> None:
    """The main job in this process."""
    sys.argv = ["nodegraph", "run", WORKFLOW, "--cache-dir", f"{folder}/cache", "--out", f"{folder}/out", "-q"]
    runpy.run_module("nodegraph", run_name="__main__")


def main() -> None:
    """Print a table, or measure the main job."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9, help="how many pairs of main jobs are run (default: 9)")
    parser.add_argument("--loop", action="store_true", help="measure calls in a loop instead of whole runs")
    parser.add_argument("--main-job", action="store_true", help="measure the main job instead")
    parser.add_argument("--job", metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument(WITHOUT, action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        with without_protections() if arguments.without else contextlib.nullcontext():
            job(arguments.job)
    else:
        print(main_job(arguments.rounds) if arguments.main_job else per_node(in_a_loop=arguments.loop))


if __name__ == "__main__":
    main()
