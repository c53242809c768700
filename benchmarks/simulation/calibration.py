"""The costs of a sweep as benchmarks/scale.py measured them, and whether the simulation predicts what else was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.simulation.sweep import Cluster, Costs, Work, simulate

FILE: Final = Path(__file__).parents[1] / "scale.json"
TOLERANCE: Final = 0.15
LONG: Final = 0.2  # seconds after which the process of a sweep asks for the events of a unit

Figures = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A sweep over `units` that take `seconds` each: how long it took, and how long it takes in the simulation."""

    workers: int
    seconds: float
    units: int
    measured: float
    simulated: float

    @property
    def error(self) -> float:
        """By how much the simulation is off, as a share of what was measured."""
        return self.simulated / self.measured - 1


def read_figures(file: Path = FILE) -> Figures:
    figures: Figures = json.loads(file.read_text(encoding="utf-8"))
    return figures


def costs_of(figures: Figures, *, workers: int, latency: float) -> Costs:
    """What a unit costs in processor time, if the driver and each worker have a processor of their own.

    It is that of units whose events are asked for. Choosing among `workers` takes as long as was measured for as many.
    """
    found = figures["workers"]["1"]["long"]
    choosing = figures["assign"].get(str(workers), 0.0)
    return Costs(
        begin=found["begin"],
        end=found["speak"] + choosing,
        finish=found["finish"],
        overhead=found["worker"],
        latency=latency,
    )


def slowdown(figures: Figures, workers: int) -> float:
    """How many times as long as their processor time all processes together took for a unit of no length.

    They shared the machine with each other, and with whatever else ran. This is fitted, once for each number of workers; nothing
    else is.
    """
    found = figures["workers"][str(workers)]["short"]
    run = next(run for run in figures["runs"] if run["workers"] == workers and not run["seconds"])
    return float(run["wall"] / run["units"] / (found["driver"] + found["native"] + found["worker"]))


def predictions(figures: Figures) -> list[Prediction]:
    """What the simulation makes of each measured sweep."""
    found = []
    for run in figures["runs"]:
        workers, seconds = run["workers"], run["seconds"]
        it = figures["workers"][str(workers)]["long" if seconds >= LONG else "short"]
        slower = slowdown(figures, workers)
        costs = Costs(
            begin=it["begin"] * slower,
            end=(it["speak"] + it["native"]) * slower,
            finish=it["finish"] * slower,
            overhead=it["worker"] * slower,
            latency=figures["workers"][str(workers)]["round_trip"] / 2,
        )
        cluster = Cluster(workers=workers, costs=costs, one_processor=True)
        simulated = simulate(cluster, [Work(seconds)] * run["units"]).seconds
        found.append(Prediction(workers=workers, seconds=seconds, units=run["units"], measured=run["wall"], simulated=simulated))
    return found
