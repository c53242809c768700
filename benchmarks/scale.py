"""What a sweep over actors of Ray costs on this machine: time and bytes for each unit, requests to a store, loads of models.

    python -m benchmarks.scale [--quick] [--part units] [--json FILE] [--address auto]     # 20 minutes on two busy cores

A unit is a point of a sweep: a node that opens a model and one that sleeps, so a busy machine changes little. Times of the process
of the sweep are processor time, and the least of a few repetitions. `benchmarks/simulation` goes on from the figures in FILE, which
is benchmarks/scale.json by default.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.scaling.loads import all_loads
from benchmarks.scaling.report import LENGTHS, report
from benchmarks.scaling.sweeps import DURATIONS, engine_with, makespan, one_ray
from benchmarks.scaling.times import assigning, costs, round_trip
from benchmarks.scaling.traffic import bytes_moved, requests
from benchmarks.simulation.scenarios import WORKERS

FILE: Final = Path(__file__).parent / "scale.json"
ROUNDS: Final = 3


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
    found["loads"] = all_loads(folder)


PARTS: Final[Mapping[str, Callable[[dict[str, Any], Path, int], None]]] = {"small": small_parts, "units": units, "models": models}


def note(text: str) -> None:
    print(f"{text} ...", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
