"""A simulated sweep: its process, the workers, and the store that they share."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.simulation.events import Action, Clock, Server
from benchmarks.simulation.policies import AFFINITY, POLICIES
from nodegraph.run.workers.ray.units import Actor, units_ahead


class Work(NamedTuple):
    """What a unit computes: for how many seconds, and with which model."""

    seconds: float
    model: str | None = None


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What happens around the work, in seconds.

    The process of the sweep, the driver, does one thing at a time: `begin` before it hands out a unit, `end` when the unit has
    ended, and `finish`, point by point in order, when it reads the result and writes files. `latency` is that of a message in one
    direction, `overhead` what a worker does besides computing.
    """

    begin: float = 0.0
    end: float = 0.0
    finish: float = 0.0
    latency: float = 0.0
    overhead: float = 0.0

    @property
    def driver(self) -> float:
        """What the driver does for a unit, in all."""
        return self.begin + self.end + self.finish


@dataclass(frozen=True, kw_only=True)
class Store:
    """A store that all workers share. `requests` are those that a unit waits for, one after another, `latency` seconds each.

    `size` is how many bytes a unit writes. They, and `model_size` bytes for each load of a model, pass through one line of
    `bandwidth` bytes per second.
    """

    latency: float = 0.0
    requests: float = 0.0
    size: float = 0.0
    model_size: float = 0.0
    bandwidth: float = float("inf")


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What a sweep runs on. `room` is how many models a worker holds, `load` the seconds that it takes to load one.

    The driver begins up to `ahead` points before the one that it waits for (default: as many as the real one), of which up to
    `at_once` are runs that go on (default: all). With `one_processor`, the overhead of the workers and the driver wait for each
    other.
    """

    workers: int
    costs: Costs = Costs()
    store: Store = Store()
    policy: str = AFFINITY
    room: int = 8
    load: float = 0.0
    ahead: int | None = None
    at_once: int | None = None
    one_processor: bool = False


@dataclass(kw_only=True)
class Outcome:
    """What happened. `waits` are the times of units, by number, between being ready to run and running."""

    seconds: float = 0.0
    units: int = 0
    computed: float = 0.0  # seconds of work, of all workers
    driver_busy: float = 0.0
    store_busy: float = 0.0
    stored: float = 0.0  # bytes through the store
    waits: dict[int, float] = field(default_factory=dict)
    most_in_flight: int = 0  # units of one worker
    loads: Counter[tuple[int, str]] = field(default_factory=Counter)  # by worker and model
    finished: list[tuple[int, float]] = field(default_factory=list)  # points, and when

    @property
    def throughput(self) -> float:
        """Units per second."""
        return self.units / self.seconds

    @property
    def steady(self) -> float:
        """Units per second without the first and the last quarter of the points: without start and end."""
        first, last = len(self.finished) // 4, 3 * len(self.finished) // 4
        return (last - first) / (self.finished[last][1] - self.finished[first][1])

    @property
    def steady_wait(self) -> float:
        """The mean time that one of these units waits until it runs."""
        first, last = len(self.finished) // 4, 3 * len(self.finished) // 4
        return sum(self.waits[number] for number in range(first, last)) / (last - first)


@dataclass(kw_only=True, eq=False, slots=True)
class _Unit:
    """A unit as `next_pair` and `Actor.give` see it."""

    number: int
    work: Work
    model: str | None
    ready: float = 0.0
    actor: Actor | None = None
    lost: Actor | None = None


def simulate(cluster: Cluster, works: Sequence[Work]) -> Outcome:
    """Run a sweep with a point for each of `works`."""
    return _Sweep(cluster, works).run()


class _Sweep:
    def __init__(self, cluster: Cluster, works: Sequence[Work]) -> None:
        self.cluster, self._works = cluster, works
        self.clock = Clock()
        self.driver, self._line = Server(self.clock), Server(self.clock)
        self._actors = [Actor(handle=None, number=number, is_ready=True) for number in range(cluster.workers)]
        self._next_pair = POLICIES[cluster.policy]()
        self._workers = [_Worker(self, actor) for actor in self._actors]
        self._ahead = units_ahead(cluster.workers) if cluster.ahead is None else cluster.ahead
        self._at_once = len(works) if cluster.at_once is None else cluster.at_once
        self._begun = self._point = self._going = 0
        self._queued: deque[_Unit] = deque()  # points whose run has not begun
        self._waiting: deque[_Unit] = deque()  # units without a worker
        self._ended: set[int] = set()
        self.outcome = Outcome(units=len(works))

    def run(self) -> Outcome:
        self._advance()
        self.clock.run()
        self.outcome.seconds = self.clock.now
        self.outcome.driver_busy, self.outcome.store_busy = self.driver.busy, self._line.busy
        return self.outcome

    # --- the driver

    def _advance(self) -> None:
        """Begin points up to the limit, then wait for the oldest."""
        if self._begun < len(self._works) and self._begun <= self._point + self._ahead:
            number, self._begun = self._begun, self._begun + 1
            self.driver.serve(self.cluster.costs.begin, lambda: self._has_begun(number))
        else:
            self._finish_point()

    def _has_begun(self, number: int) -> None:
        work = self._works[number]
        self._queued.append(_Unit(number=number, work=work, model=work.model))
        self._assign()
        self._advance()

    def _finish_point(self) -> None:
        """Finish the oldest point if it has ended; if not, its end will."""
        if self._point in self._ended:
            self._ended.remove(self._point)
            self.driver.serve(self.cluster.costs.finish, self._has_finished)

    def _has_finished(self) -> None:
        self.outcome.finished.append((self._point, self.clock.now))
        self._point += 1
        if self._point < len(self._works):
            self._advance()

    def _assign(self) -> None:
        while self._queued and self._going < self._at_once:
            unit = self._queued.popleft()
            unit.ready = self.clock.now
            self._going += 1
            self._waiting.append(unit)
        while (pair := self._next_pair(self._waiting, self._actors)) is not None:
            unit, actor = pair
            self._waiting.remove(unit)
            actor.give(unit)  # type: ignore[arg-type]
            self.outcome.most_in_flight = max(self.outcome.most_in_flight, len(actor.units))
            worker = self._workers[actor.number]
            self.clock.after(self.cluster.costs.latency, lambda worker=worker, unit=unit: worker.receive(unit))  # type: ignore[misc]

    def ended(self, unit: _Unit, lost: Sequence[str]) -> None:
        """A worker has done a unit: its message is on the way, and says which models the worker has no longer."""
        costs = self.cluster.costs
        self.clock.after(costs.latency, lambda: self.driver.serve(costs.end, lambda: self._has_ended(unit, lost)))

    def _has_ended(self, unit: _Unit, lost: Sequence[str]) -> None:
        assert unit.actor is not None
        unit.actor.units.remove(unit)  # type: ignore[arg-type]
        unit.actor.forget(lost)
        self._going -= 1
        self._ended.add(unit.number)
        self._assign()
        if unit.number == self._point and (self._begun == len(self._works) or self._begun > self._point + self._ahead):
            self._finish_point()

    def transfer(self, size: float, then: Action) -> None:
        """Move bytes through the line of the store."""
        self.outcome.stored += size
        self._line.serve(size / self.cluster.store.bandwidth, then)


class _Worker:
    """Computes its units one by one. `_models` are those that it holds, the last used ones at the end."""

    def __init__(self, sweep: _Sweep, actor: Actor) -> None:
        self._sweep, self._number = sweep, actor.number
        self._units: deque[_Unit] = deque()
        self._models: OrderedDict[str, None] = OrderedDict()
        self._lost: list[str] = []  # models, since the last unit ended

    def receive(self, unit: _Unit) -> None:
        self._units.append(unit)
        if len(self._units) == 1:
            self._begin()

    def _begin(self) -> None:
        unit, sweep = self._units[0], self._sweep
        sweep.outcome.waits[unit.number] = sweep.clock.now - unit.ready
        overhead = sweep.cluster.costs.overhead
        if sweep.cluster.one_processor:
            sweep.driver.serve(overhead, self._compute)
        else:
            sweep.clock.after(overhead, self._compute)

    def _compute(self) -> None:
        unit, sweep = self._units[0], self._sweep
        store = sweep.cluster.store
        seconds = store.latency * store.requests + unit.work.seconds
        if unit.model is None or self._has(unit.model):
            sweep.clock.after(seconds, self._store)
        else:
            sweep.outcome.loads[self._number, unit.model] += 1
            loading = sweep.cluster.load + seconds
            sweep.transfer(store.model_size, lambda: sweep.clock.after(loading, self._store))

    def _has(self, model: str) -> bool:
        """Whether it holds a model; from now on it does."""
        found = model in self._models
        self._models[model] = None
        self._models.move_to_end(model)
        if len(self._models) > self._sweep.cluster.room:
            self._lost.append(self._models.popitem(last=False)[0])
        return found

    def _store(self) -> None:
        self._sweep.outcome.computed += self._units[0].work.seconds
        self._sweep.transfer(self._sweep.cluster.store.size, self._end)

    def _end(self) -> None:
        lost, self._lost = self._lost, []
        self._sweep.ended(self._units.popleft(), lost)
        if self._units:
            self._begin()
