"""What a sweep over actors of Ray costs on this machine: time and bytes for each unit, requests to a store, loads of models.

    python -m benchmarks.scale [--quick] [--part units] [--json FILE] [--address auto]     # 20 minutes on two busy cores

A unit is a point of a sweep: a node that opens a model and one that sleeps, so a busy machine changes little. Times of the process
of the sweep are processor time, and the least of a few repetitions. `benchmarks/simulation` goes on from the figures in FILE, which
is benchmarks/scale.json by default.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import quantiles
from typing import Any, Final
from unittest import mock

from benchmarks.simulation.policies import AFFINITY, POLICIES
from benchmarks.simulation.scenarios import WORKERS
from nodegraph import Engine, RayWorkers, Workflow, sweep
from nodegraph.cache.store.remote import objects, tiered_store
from nodegraph.run.workers.ray import workers as ray_workers
from nodegraph.run.workers.ray.cluster import import_ray
from nodegraph.run.workers.ray.units import Actor, Unit
from nodegraph.sweeps.checked import CheckedSweep
from nodegraph.sweeps.point_runs import PointRuns

NODES: Final = Path(__file__).parent / "scale_nodes"
FILE: Final = Path(__file__).parent / "scale.json"
UNITS: Final = 60
LENGTHS: Final = {"short": (0.0, UNITS), "long": (0.3, 24)}  # seconds and number of units; the events of long ones are asked for
ROUNDS: Final = 3
DURATIONS: Final = {1.0: 16, 2.0: 12, 4.0: 8}  # seconds of a unit, and how many units
MODELS, ROOMS, LOADED_UNITS = 4, (4, 2), 60  # models, how many fit into a worker, and units that take one of them at random
MEBIBYTE: Final = 2**20

_numbers = iter(range(10**9))  # of points: none is computed twice


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one repetition")
    parser.add_argument("--part", choices=PARTS, help="measure only this, and keep the rest of the file")
    parser.add_argument("--json", type=Path, default=FILE, help="where to write the figures")
    parser.add_argument("--address", default="local", help="join this Ray, such as auto; by default one starts")
    arguments = parser.parse_args()
    found: dict[str, Any] = json.loads(arguments.json.read_text(encoding="utf-8")) if arguments.part else {}
    found |= {
        "machine": f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} CPUs",
        "load": [os.getloadavg()[0]],
    }
    with one_ray(arguments.address), tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        for name, part in PARTS.items():
            if arguments.part in (None, name):
                part(found, folder, 1 if arguments.quick else ROUNDS)
            found["load"].append(os.getloadavg()[0])
            arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")  # what there is, if the next one fails
    print(report(found))


def small_parts(found: dict[str, Any], folder: Path, rounds: int) -> None:
    """What needs no workers."""
    note("requests, choosing workers")
    found["store"] = requests(folder)
    found["assign"] = {str(count): assigning(count) for count in WORKERS}


def units(found: dict[str, Any], folder: Path, rounds: int) -> None:
    """What units cost with one and two workers."""
    found |= {"workers": {}, "runs": []}
    for count in (1, 2):
        note(f"{count} workers")
        with engine_with(folder / f"cache{count}", count) as (engine, workers):
            figures = found["workers"][str(count)] = {"round_trip": round_trip(workers)}
            for length, (seconds, number) in LENGTHS.items():
                each = [costs(engine, folder, seconds, number) for _ in range(rounds)]
                figures[length] = {name: min(costs[name] for costs in each) for name in each[0]}
            found["runs"] += [makespan(engine, count, seconds, folder) for seconds in (0.0, *DURATIONS)]
            if count == 1:
                found["bytes"] = bytes_moved(engine, folder)


def models(found: dict[str, Any], folder: Path, rounds: int) -> None:
    """How often models are loaded."""
    note("models")
    found["loads"] = {f"{name}, room for {room}": loads(name, room, folder) for room in ROOMS for name in POLICIES}


PARTS: Final[Mapping[str, Callable[[dict[str, Any], Path, int], None]]] = {"small": small_parts, "units": units, "models": models}


def note(text: str) -> None:
    print(f"{text} ...", file=sys.stderr, flush=True)


def workflow(folder: Path, seconds: float = 0.0) -> Workflow:
    """A node that works for `seconds` beside a model. Both the model and the number of the point are params."""
    made = Workflow("scale")
    model = made.add("OpenModel", file=made.param("model", "m"), log=str(folder / "loads"), seconds=0.0)
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
        engine.run(workflow(folder), params={"number": next(_numbers)})
        while not all(actor.is_ready for actor in by_ray._actors):
            time.sleep(0.05)
        swept(engine, workflow(folder), 8 * workers, folder)
        yield engine, by_ray


def swept(engine: Engine, of: Workflow, count: int, folder: Path, models: Sequence[str] | None = None) -> float:
    """Sweep over `count` new points, and return the seconds that it took. Each point may have a model of its own."""
    over: dict[str, Any] = {"number": [next(_numbers) for _ in range(count)]}
    if models is not None:
        over["model"] = models
    began = time.perf_counter()
    sweep(of, over, zip=models is not None, engine=engine, out=folder / f"out{next(_numbers)}")
    return time.perf_counter() - began


# --- time


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


def makespan(engine: Engine, workers: int, seconds: float, folder: Path) -> dict[str, float]:
    """A sweep over units of a length: for the simulation, which is to predict its `wall`, the least of two."""
    count = DURATIONS.get(seconds, UNITS)
    wall = min(swept(engine, workflow(folder, seconds), count, folder) for _ in range(2))
    return {"workers": workers, "seconds": seconds, "units": count, "wall": wall}


# --- bytes


def bytes_moved(engine: Engine, folder: Path) -> dict[str, float]:
    """Bytes for each unit: in messages to and from an actor, and in the cache folder."""
    sizes: Counter[str] = Counter()

    class Counted(Unit):
        def __post_init__(self) -> None:
            super().__post_init__()
            sizes["to_worker"] += len(self.pickled)

        def end(self, result: Any) -> None:
            sizes["from_worker"] += len(ray_workers.pickle.dumps(result))
            super().end(result)

    assert engine.cache_dir is not None
    with mock.patch.object(ray_workers, "Unit", Counted):
        before = size_of(engine.cache_dir)
        swept(engine, workflow(folder), UNITS, folder)
        sizes["cache_folder"] = size_of(engine.cache_dir) - before
    return {name: size / UNITS for name, size in sizes.items()}


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def requests(folder: Path) -> dict[str, Mapping[str, float]]:
    """Requests to a shared store, a folder, and bytes: for a unit that is computed, and for one that is found there.

    They are read when the engine has closed: it writes in the background.
    """
    done: Counter[str] = Counter()

    class Counted(objects.Objects):
        pass

    def counted(kind: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def request(self: Any, *arguments: Any, **keywords: Any) -> Any:
            done[kind] += 1
            return original(self, *arguments, **keywords)

        return request

    kinds = {"reads": ("get", "head", "download"), "writes": ("put", "create", "replace", "upload", "list"), "deletes": ("delete",)}
    for kind, methods in kinds.items():
        for method in methods:
            setattr(Counted, method, counted(kind, getattr(objects.Objects, method)))
    store = folder / "store"
    store.mkdir()
    points = [next(_numbers) for _ in range(UNITS)]
    found = {}
    with mock.patch.object(tiered_store, "Objects", Counted):
        for name in ("computed", "found"):
            made = Engine(
                folder / name, device="cpu", plugin_dirs=[NODES], on_event=lambda event: None, cache_remote=store.as_uri()
            )
            with made as engine:
                engine.run(workflow(folder), params={"number": next(_numbers)})
                done.clear()
                before = size_of(store)
                sweep(workflow(folder), {"number": points}, engine=engine, out=folder / f"out of {name}")
            found[name] = {kind: done[kind] / UNITS for kind in kinds} | {"bytes": (size_of(store) - before) / UNITS}
    return found


# --- models


def models_at_random() -> list[str]:
    chosen = random.Random(0)
    return [f"m{chosen.randrange(MODELS)}" for _ in range(LOADED_UNITS)]


def loads(policy: str, room: int, folder: Path) -> dict[str, int]:
    """How often two workers with room for that many models load one, and how often the same worker loads the same one at most."""
    own = folder / f"{policy} {room}"
    own.mkdir()
    choose = mock.patch.object(ray_workers, "next_pair", POLICIES[policy]()) if policy != AFFINITY else contextlib.nullcontext()
    with choose, engine_with(own, 2, model_memory=int((room + 0.5) * MEBIBYTE)) as (engine, _):
        (own / "loads").unlink()
        swept(engine, workflow(own, 0.05), LOADED_UNITS, own, models=models_at_random())
    lines = Counter((own / "loads").read_text().splitlines())
    return {"all": lines.total(), "of one worker and model": max(lines.values()), "least possible": MODELS}


# --- the report


def report(found: Mapping[str, Any]) -> str:
    """The figures as tables in Markdown."""
    lines = [f"{found['machine']}, load {found['load'][0]:.1f} to {found['load'][-1]:.1f}", ""]
    measured = [found["workers"][count][length] for count in ("1", "2") for length in LENGTHS]
    shown = [f"{count}, {length}" for count in ("1 worker", "2 workers") for length in LENGTHS]
    lines += [f"| for each unit | {' | '.join(shown)} |", "| --- |" + " ---: |" * len(shown)]
    names = {
        "speak": "the thread that speaks with Ray, us",
        "speak_least": "the same, low decile of all units, us",
        "submit": "packing a unit, us",
        "check": "checking a value before the first point, us",
        "begin": "before a unit is handed out, us",
        "finish": "after its end, us",
        "driver": "the process of the sweep, us",
        "native": "Ray's own threads in it, us",
        "worker": "a worker, us",
        "wall": "what passes, us",
    }
    lines += [f"| {text} | {' | '.join(f'{it[name] * 1e6:,.0f}' for it in measured)} |" for name, text in names.items()]
    lines += ["", f"A call of an actor that does nothing: {found['workers']['1']['round_trip'] * 1e6:,.0f} us"]
    lines += ["", "| workers | choosing one for a unit, us |", "| ---: | ---: |"]
    lines += [f"| {count} | {seconds * 1e6:,.0f} |" for count, seconds in found["assign"].items()]
    lines += ["", "| bytes for each unit | |", "| --- | ---: |"]
    lines += [f"| {name.replace('_', ' ')} | {size:,.0f} |" for name, size in found["bytes"].items()]
    kinds = [*found["store"]["computed"]]
    lines += ["", f"| shared store, for each unit | {' | '.join(kinds)} |", "| --- |" + " ---: |" * len(kinds)]
    lines += [f"| {name} | {' | '.join(f'{count:,.1f}' for count in row.values())} |" for name, row in found["store"].items()]
    lines += [
        "",
        f"| {MODELS} models, 2 workers | loads | by one worker of one model | least possible |",
    ]
    lines += ["| --- | ---: | ---: | ---: |"]
    lines += [f"| {name} | {' | '.join(map(str, row.values()))} |" for name, row in found["loads"].items()]
    lines += ["", "| workers | seconds of a unit | units | the sweep took, s | of ideal |", "| ---: | ---: | ---: | ---: | ---: |"]
    for run in found["runs"]:
        ideal = run["units"] * run["seconds"] / run["workers"]
        lines.append(f"| {run['workers']} | {run['seconds']:g} | {run['units']} | {run['wall']:.2f} | {ideal / run['wall']:.0%} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
