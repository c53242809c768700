"""The sweep that is measured: a point opens a model and sleeps beside it, in actors of one Ray."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from nodegraph import Engine, RayWorkers, Workflow, sweep
from nodegraph.run.workers.ray.cluster import import_ray

NODES: Final = Path(__file__).parents[1] / "scale_nodes"
UNITS: Final = 60
DURATIONS: Final = {1.0: 16, 2.0: 12, 4.0: 8}  # seconds of a unit, and how many units

numbers = iter(range(10**9))
"""Numbers of points: none is computed twice."""


def workflow(folder: Path, seconds: float = 0.0, *, load: float = 0.0) -> Workflow:
    """A node that works for `seconds` beside a model that loads for `load` seconds. The model and a number are params."""
    made = Workflow("scale")
    model = made.add("OpenModel", file=made.param("model", "m"), log=str(folder / "loads"), seconds=load)
    made.output("text", made.add("Wait", model=model, number=made.param("number", 0), seconds=seconds), save="{number}.json")
    return made


@contextlib.contextmanager
def one_ray(address: str) -> Iterator[None]:
    """One Ray for all measurements."""
    ray = import_ray()
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    options: dict[str, Any] = {"num_cpus": 2, "include_dashboard": False} if address == "local" else {}
    ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def engine_with(folder: Path, workers: int, **options: Any) -> Iterator[tuple[Engine, RayWorkers]]:
    """An engine whose actors have all started, and have run something."""
    by_ray = RayWorkers(workers=workers)
    with Engine(folder, device="cpu", plugin_dirs=[NODES], on_event=lambda event: None, workers=by_ray, **options) as engine:
        engine.run(workflow(folder), params={"number": next(numbers)})
        while not all(actor.is_ready for actor in by_ray._actors):
            time.sleep(0.05)
        swept(engine, workflow(folder), 8 * workers, folder)
        yield engine, by_ray


def swept(engine: Engine, of: Workflow, count: int, folder: Path, *, models: Sequence[str] | None = None) -> float:
    """Sweep over `count` new points, and return the seconds that it took. Each point may have a model of its own."""
    over: dict[str, Any] = {"number": [next(numbers) for _ in range(count)]}
    if models is not None:
        over["model"] = models
    began = time.perf_counter()
    sweep(of, over, zip=models is not None, engine=engine, out=folder / f"out{next(numbers)}")
    return time.perf_counter() - began


def makespan(engine: Engine, workers: int, seconds: float, folder: Path) -> dict[str, float]:
    """A sweep over units of a length: for the simulation, which is to predict its `wall`, the least of two."""
    count = DURATIONS.get(seconds, UNITS)
    wall = min(swept(engine, workflow(folder, seconds), count, folder) for _ in range(2))
    return {"workers": workers, "seconds": seconds, "units": count, "wall": wall}
