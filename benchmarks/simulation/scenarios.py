"""Clusters that were not measured: up to 1,000 workers, with the costs that were."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.simulation.calibration import Figures, costs_of
from benchmarks.simulation.policies import AFFINITY, ROUND_ROBIN
from benchmarks.simulation.sweep import Cluster, Costs, Outcome, Store, Work, simulate
from nodegraph.run.workers.ray.units import MAX_IN_FLIGHT, units_ahead

WORKERS: Final = (8, 16, 32, 64, 128, 256, 512, 1000)
DURATIONS: Final = (0.2, 2.0, 20.0)
UNITS: Final = 16  # for each worker, but at least
LEAST: Final = 1024  # in a sweep, many more than are begun ahead
NETWORK: Final = 0.0005  # seconds of a message between machines, in one direction
LOAD: Final = 5.0  # seconds from the disk of a machine to its GPU
STORE: Final = Store(latency=0.03, requests=6, size=14e6, model_size=7e9, bandwidth=10e9)
MODELS: Final = 8
ROOM: Final = 3  # models that a worker holds


@dataclass(frozen=True, kw_only=True)
class Found:
    """What became of a sweep over units of `seconds` on `workers`. `linear` is the share of what as many single workers do.

    All figures but `outcome` are without the first and the last quarter of the points, so loading the model does not count.
    """

    workers: int
    seconds: float
    linear: float
    driver: float  # the share of the time that it is busy
    computing: float  # that of the workers
    outcome: Outcome


@dataclass(frozen=True, kw_only=True)
class FoundWithModels:
    """What became of a sweep over units with several models, which were handed out in some way."""

    way: str
    workers: int
    outcome: Outcome


def cluster_of(workers: int, costs: Costs, *, ahead: int | None = None, policy: str = AFFINITY) -> Cluster:
    """A cluster with a store in its region. `ahead` is how many points the driver begins ahead; default: as the real one."""
    ahead = units_ahead(workers) if ahead is None else ahead
    return Cluster(
        workers=workers,
        costs=costs,
        store=STORE,
        policy=policy,
        room=ROOM,
        load=LOAD,
        ahead=ahead,
        at_once=max(32, ahead),
    )


def works_of(count: int, seconds: float, models: int = 1) -> list[Work]:
    """Units whose length varies by a tenth, each with one of the models at random."""
    chosen = random.Random(0)
    return [Work(seconds * chosen.uniform(0.9, 1.1), f"m{chosen.randrange(models)}") for _ in range(count)]


def scaling(
    figures: Figures, workers: Sequence[int] = WORKERS, durations: Sequence[float] = DURATIONS, store: Store = STORE
) -> Iterator[Found]:
    """Sweeps with one model over units of each length on clusters of each size."""
    for seconds in durations:
        for count in workers:
            costs = costs_of(figures, workers=count, latency=NETWORK)
            outcome = simulate(cluster_of(count, costs), works_of(max(count * UNITS, LEAST), seconds))
            single = 1 / (seconds + costs.overhead + STORE.latency * STORE.requests + STORE.size / STORE.bandwidth)
            yield Found(
                workers=count,
                seconds=seconds,
                linear=outcome.steady / (count * single),
                driver=outcome.steady * costs.driver,
                computing=outcome.steady * seconds / count,
                outcome=outcome,
            )


def models(figures: Figures, workers: Sequence[int] = WORKERS[:5]) -> Iterator[FoundWithModels]:
    """Sweeps over units of 2 s that take one of several models at random: in turns, and by affinity with two ways to look ahead."""
    ways = {"in turns": (ROUND_ROBIN, None), "affinity, 2 ahead": (AFFINITY, MAX_IN_FLIGHT), "affinity": (AFFINITY, None)}
    for name, (policy, each) in ways.items():
        for count in workers:
            costs = costs_of(figures, workers=count, latency=NETWORK)
            cluster = cluster_of(count, costs, ahead=None if each is None else each * count, policy=policy)
            yield FoundWithModels(way=name, workers=count, outcome=simulate(cluster, works_of(count * UNITS, 2.0, MODELS)))


def million(figures: Figures, workers: int, seconds: float, shards: int = 1) -> dict[str, float]:
    """Hours that 10^6 points take at least: for the drivers of that many parts, for the workers, and for the line of the store."""
    costs, points = costs_of(figures, workers=workers, latency=NETWORK), 1e6
    check = figures["workers"]["1"]["short"]["check"]
    around = costs.overhead + STORE.latency * STORE.requests
    return {
        "driver": points * costs.driver / shards / 3600,
        "check": points * check / 3600,
        "workers": points * (seconds + around) / workers / 3600,
        "store": points * STORE.size / STORE.bandwidth / 3600,
    }
