"""Processor time for each unit: in the process of a sweep, in its threads, and in the actors."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import quantiles
from typing import Any
from unittest import mock

from benchmarks.scaling.sweeps import swept, workflow
from nodegraph import Engine, RayWorkers
from nodegraph.run.workers.ray import workers as ray_workers
from nodegraph.run.workers.ray.cluster import import_ray
from nodegraph.run.workers.ray.units import Actor, Unit
from nodegraph.sweeps.checked import CheckedSweep
from nodegraph.sweeps.point_runs import PointRuns


class Clock:
    """Adds up the processor time of this thread in calls of functions."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    def timed(self, owner: Any, method: str, name: str) -> contextlib.AbstractContextManager[Any]:
        original: Callable[..., Any] = getattr(owner, method)

        def measured(*arguments: Any, **keywords: Any) -> Any:
            began = time.thread_time()
            try:
                return original(*arguments, **keywords)
            finally:
                self.seconds[name] += time.thread_time() - began

        return mock.patch.object(owner, method, measured)


def costs(engine: Engine, folder: Path, seconds: float, units: int) -> dict[str, float]:
    """Seconds of processor time for each unit, which sleeps for `seconds`; `wall` is what passes.

    In the process of the sweep: `check` before the first point, `begin` until a point's unit is handed out, `submit` of that for
    packing it, `speak` in the thread that speaks with Ray, `finish` for reading the result and writing the files. `driver` is all
    of it, `native` what threads of Ray's own take beside it. `worker` is that of the actors' processes.
    """
    clock, workers = Clock(), engine._workers
    assert isinstance(workers, RayWorkers)
    actors = [actor.process for actor in workers._actors]
    assert workers._thread is not None  # the actors have started
    speaking = time.pthread_getcpuclockid(workers._thread.ident)
    ends: list[float] = []  # by the clock of the thread that speaks with Ray
    end = Unit.end

    def noted(unit: Unit, result: Any) -> None:
        ends.append(time.thread_time())
        end(unit, result)

    before = (time.process_time(), native_time(), time.clock_gettime(speaking), sum(map(time_of, actors)))
    with (
        clock.timed(CheckedSweep, "_check", "check"),
        clock.timed(PointRuns, "run", "finish"),
        clock.timed(RayWorkers, "submit", "submit"),
        mock.patch.object(Unit, "end", noted),
    ):
        wall = swept(engine, workflow(folder, seconds), units, folder)
    after = (time.process_time(), native_time(), time.clock_gettime(speaking), sum(map(time_of, actors)))
    process, native, speak, worker = (end - begin for begin, end in zip(before, after, strict=True))
    driver = process - native
    found = {
        "wall": wall,
        "driver": driver,
        "check": clock.seconds["check"],
        "begin": driver - speak - clock.seconds["finish"] - clock.seconds["check"],
        "submit": clock.seconds["submit"],
        "speak": speak,
        "finish": clock.seconds["finish"],
        "native": native,
        "worker": worker,
    }
    least = quantiles((after - before for before, after in pairwise(ends)), n=10)[0]
    return {name: total / units for name, total in found.items()} | {"speak_least": least}


def native_time() -> float:
    """The processor time of the threads of this process that Python did not start."""
    ours = {thread.native_id for thread in threading.enumerate() if not isinstance(thread, threading._DummyThread)}
    return time_of(os.getpid(), leave_out=ours)


def time_of(process: int, leave_out: set[int | None] | None = None) -> float:
    """The processor time of the threads of a process."""
    total = 0
    for thread in Path(f"/proc/{process}/task").iterdir():
        if int(thread.name) not in (leave_out or ()):
            with contextlib.suppress(OSError):  # it has ended
                total += int((thread / "schedstat").read_text().split()[0])
    return total / 1e9


def round_trip(workers: RayWorkers) -> float:
    """The least time that a call of an actor's method takes, which does nothing."""
    ray = import_ray()
    method = workers._actors[0].handle.cancel.options(concurrency_group="aside")
    least = float("inf")
    for _ in range(100):
        began = time.perf_counter()
        ray.get(method.remote(-1))
        least = min(least, time.perf_counter() - began)
    return least


def assigning(count: int) -> float:
    """The least time that choosing a worker for a unit takes with `count` workers that are all busy but one."""
    actors = [Actor(handle=None, number=number, is_ready=True) for number in range(count)]
    units = [Unit(jobs=()) for _ in range(2 * count + 1)]
    for unit in units:
        unit.model = "m"
    for actor, first, second in zip(actors, units[::2], units[1::2], strict=False):
        actor.give(first)
        actor.give(second)
    waiting, least = deque(units[-1:]), float("inf")
    for _ in range(200):
        actors[count // 2].units.pop()
        began = time.perf_counter()
        pair = ray_workers.next_pair(waiting, actors)
        chosen = time.perf_counter() - began
        assert pair is not None
        pair[1].units.append(pair[0])
        began = time.perf_counter()
        ray_workers.next_pair(waiting, actors)  # no other one is free
        least = min(least, chosen + time.perf_counter() - began)
    return least
