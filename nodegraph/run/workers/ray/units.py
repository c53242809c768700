"""Units of work, and which actor each one goes to."""

from __future__ import annotations

import itertools
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import field, replace
from functools import cached_property
from typing import Any, Final

from nodegraph.errors import NodegraphError
from nodegraph.light_dataclass import dataclass
from nodegraph.run.events import NodeProgress, NodeStarted
from nodegraph.run.tasks.task import Outcome
from nodegraph.run.workers.protocol import Job
from nodegraph.run.workers.ray.messages import Report, UnitResult, packed_tasks

MAX_IN_FLIGHT: Final = 2
"""How many units an actor has at most: one that runs, and one that it goes on with at once."""

MAX_LOSSES: Final = 3
"""With how many actors a node may end before it counts as what ends them."""

_MAX_MODELS: Final = 32  # that are remembered for an actor

_numbers = itertools.count(1)


@dataclass(kw_only=True, eq=False)
class Unit:
    """The jobs of a task. `seen` is the number of its last event, `losses` how many actors ended while they ran it."""

    jobs: Sequence[Job]
    number: int = field(default_factory=lambda: next(_numbers))
    model: str | None = None
    actor: Actor | None = None
    began: float = 0.0
    seen: int = 0
    losses: int = 0
    lost: Actor | None = None  # the one that it was lost with last
    running: int = 0  # the place of the node that runs
    done: int = 0  # how many of its nodes have an outcome
    is_followed: bool = False
    is_cancelled: bool = False
    pickled: bytes = b""

    def __post_init__(self) -> None:
        tasks = [job.task for job in self.jobs]
        self.model = next((task.model for task in tasks if task.model is not None), None)
        self.pickled = packed_tasks(tasks)

    def receive(self, reports: Sequence[Report]) -> None:
        """Pass events on, each once."""
        for report in reports:
            if report.number <= self.seen:
                continue
            self.seen, self.running = report.number, report.place
            event = report.event
            if report.place < self.done or (self.losses and isinstance(event, NodeStarted)):
                continue  # it runs again after its actor was lost
            if isinstance(event, NodeProgress) and report.preview is not None:
                event = replace(event, preview=lambda value=report.preview: value)  # type: ignore[misc]
            self.jobs[report.place].emit(event)

    def end(self, result: UnitResult) -> None:
        """Pass the outcomes on. Jobs without one are abandoned: a node before them failed."""
        self.receive(result.reports)
        for place in range(self.done, len(self.jobs)):
            if place < len(result.outcomes):
                self.jobs[place].finish(result.outcomes[place])
            else:
                self.jobs[place].abandon()
        self.done = len(self.jobs)

    def fail(self, error: NodegraphError) -> None:
        """End with an error of the node that was running."""
        outcome = Outcome(error=error, message=str(error))
        suspect = self.suspect
        for place in range(self.done, len(self.jobs)):
            if place == suspect:
                self.jobs[place].finish(outcome)
            else:
                self.jobs[place].abandon()
        self.done = len(self.jobs)

    @property
    def suspect(self) -> int:
        """The place of the node that was running, as far as that is known: the last events may have been lost.

        It is the next one that computes with a model. Those that open it have hardly anything to do.
        """
        begun = max(self.running, self.done) if self.seen else self.done
        rest = range(begun, len(self.jobs))
        return next((place for place in rest if self.jobs[place].task.model is not None), begun)

    def refuse(self, error: NodegraphError) -> None:
        """End the runs that wait for it: there are no workers."""
        for job in self.jobs[self.done :]:
            job.finish(error)
        self.done = len(self.jobs)

    def lose(self) -> None:
        """Its actor is gone: it is to run again, elsewhere if that is possible."""
        self.lost, self.actor, self.seen = self.actor, None, 0
        self.is_followed = self.is_cancelled = False


@dataclass(kw_only=True, eq=False)
class Actor:
    """An actor: `handle` is Ray's. `units` are those that it has, oldest first, `models` those that it has in memory.

    `run`, `follow` and `cancel` are its methods; making them anew for each call takes as long as half of the call.
    """

    handle: Any
    number: int
    is_ready: bool = False
    has_run: bool = False
    is_dead: bool = False
    host: str = ""
    process: int = 0
    units: deque[Unit] = field(default_factory=deque)
    models: OrderedDict[str, None] = field(default_factory=OrderedDict)

    @cached_property
    def run(self) -> Any:
        return self.handle.run

    @cached_property
    def follow(self) -> Any:
        return self.handle.follow.options(concurrency_group="aside")

    @cached_property
    def cancel(self) -> Any:
        return self.handle.cancel.options(concurrency_group="aside")

    @property
    def is_free(self) -> bool:
        """Whether it can get a unit."""
        return self.is_ready and len(self.units) < MAX_IN_FLIGHT

    def give(self, unit: Unit) -> None:
        """Note that it gets a unit."""
        unit.actor = self
        self.units.append(unit)
        if unit.model is not None:
            self.models[unit.model] = None
            self.models.move_to_end(unit.model)
            while len(self.models) > _MAX_MODELS:
                self.models.popitem(last=False)

    def forget(self, models: Iterable[str]) -> None:
        """Note that it has these models no longer. Those of its units it will have again."""
        for model in {*models} - {unit.model for unit in self.units}:
            self.models.pop(model, None)


def units_ahead(workers: int) -> int:
    """How many units are to be ready at a time: two for each worker, and more on few workers, to choose among by their models."""
    return max(MAX_IN_FLIGHT * workers, min(8 * workers, 64))


def next_pair(waiting: deque[Unit], actors: Sequence[Actor]) -> tuple[Unit, Actor] | None:
    """The next unit to hand out, and the actor for it; None if there is no unit or no free actor.

    A unit goes to an idle actor that has its model, else to the one with the fewest units. An actor that becomes free prefers a
    unit with a model that it has; one whose model another actor has may wait for that one, as long as others can go first. A unit
    that has lost an actor goes to another one, if there is one.
    """
    free = [actor for actor in actors if actor.is_free]
    if not free or not waiting:
        return None
    fewest = min(len(actor.units) for actor in free)
    emptiest = [actor for actor in free if len(actor.units) == fewest]
    wanted = {unit.model for unit in waiting} - {None}
    for actor in emptiest:
        if wanted.isdisjoint(actor.models):
            continue
        for unit in waiting:
            if unit.model is not None and unit.model in actor.models and unit.lost is not actor:
                return unit, actor
    known = {model for actor in actors if actor.is_ready for model in actor.models}
    unit = next((unit for unit in waiting if unit.model not in known), waiting[0])
    others = [actor for actor in emptiest if actor is not unit.lost]
    if not others and any(actor.is_ready and actor is not unit.lost for actor in actors):
        others = [actor for actor in free if actor is not unit.lost]
        if not others:
            return None  # the others are busy: it waits for one of them
    return unit, min(others or emptiest, key=lambda actor: len(actor.models))
