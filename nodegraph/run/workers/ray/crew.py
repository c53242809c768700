"""The actors of a cluster: their start, what they have to be like, and their end."""

from __future__ import annotations

import contextlib
import pickle
import threading
from collections.abc import Callable
from dataclasses import field
from typing import Any, Final

from nodegraph.errors import DeviceError, NodegraphError
from nodegraph.light_dataclass import dataclass
from nodegraph.plugins.backend import Numerics
from nodegraph.run.events import Event, Notice
from nodegraph.run.tasks.task import RunContext
from nodegraph.run.workers.ray.cluster import Cluster
from nodegraph.run.workers.ray.messages import WorkerFacts
from nodegraph.run.workers.ray.reach import Reach
from nodegraph.run.workers.ray.start import PATIENCE, check_facts, reason_of, wait_for_first, waiting_for, welcome
from nodegraph.run.workers.ray.units import Actor
from nodegraph.run.workers.setup import WorkerSetup

_AGAIN_AFTER: Final = 0.5  # seconds until an actor that is not there is asked again


@dataclass(kw_only=True, eq=False)
class Crew:
    """The actors of `cluster`, with the engine's `setup`. `context` is that of this process, which they have to be like.

    All but `close` is called in the thread that speaks with Ray; `later` hands a step to it. `changed` is called when an actor can
    work, `gave_up` when none ever will. With `chooses_numerics`, actors say what they compute with, and not this process.
    """

    cluster: Cluster
    setup: WorkerSetup
    context: RunContext
    chooses_numerics: bool
    later: Callable[[Callable[[], None]], None]
    notify: Callable[[Event], None]
    changed: Callable[[], None]
    gave_up: Callable[[NodegraphError], None]
    actors: list[Actor] = field(default_factory=list)
    numerics: Numerics | None = None
    _reach: Reach | None = None

    def start(self, is_over: Callable[[], bool]) -> None:
        """Start the actors, and wait for the first that can work, or until `is_over`. Raises DeviceError or PluginError."""
        self._reach = Reach(self.setup.cache_dir, self.setup.remote)
        setup, cluster, mark = pickle.dumps(self.setup), self.cluster, self._reach.mark
        self.actors += [Actor(handle=cluster.start(setup), number=number) for number in range(1, cluster.count + 1)]
        self.numerics = wait_for_first(cluster, self.actors, self._check, mark=mark, notify=self.notify, is_over=is_over)
        for actor in self.actors:
            if not actor.is_ready:
                self.wait_for(actor)
        self._after(PATIENCE, self._note_waiting)

    def wait_for(self, actor: Actor) -> None:
        """Ask an actor that starts for its facts; it is used as soon as it answers."""
        assert self._reach is not None  # it is there before the actors
        future = actor.handle.facts.options(concurrency_group="aside").remote(self._reach.mark).future()
        future.add_done_callback(lambda done: self.later(lambda: self._started(actor, done)))

    def close(self) -> None:
        """End the actors, and leave the cluster."""
        for actor in self.actors:
            with contextlib.suppress(Exception):
                self.cluster.ray.kill(actor.handle)
        if self._reach is not None:
            self._reach.close()
        self.cluster.close()

    def _started(self, actor: Actor, future: Any) -> None:
        try:
            welcome(actor, pickle.loads(future.result()), self._check)
        except Exception as error:
            if isinstance(error, self.cluster.ray.exceptions.ActorUnavailableError):
                self._after(_AGAIN_AFTER, lambda: self.wait_for(actor))  # Ray starts it again
                return
            actor.is_dead = True
            if not isinstance(error, NodegraphError):
                error = DeviceError(f"[E305] a worker cannot start again: {reason_of(error)}")
            self.notify(Notice(None, f"a worker is left out: {error}"))
            if all(actor.is_dead for actor in self.actors):
                self.gave_up(error)
        self.changed()

    def _check(self, facts: WorkerFacts) -> None:
        """Raise DeviceError or PluginError if a worker is not like this process, or does not reach what it stores."""
        assert self._reach is not None  # it is there before the actors
        self._reach.check(facts.seen, facts.host)
        expected = self.numerics if self.chooses_numerics else self.context.numerics()
        check_facts(facts, plugins=self.context.plugins, numerics=expected)

    def _note_waiting(self) -> None:
        """Say how many actors have not started by now."""
        late = sum(not actor.has_run and not actor.is_dead for actor in self.actors)
        if late:
            self.notify(Notice(None, waiting_for(late, self.cluster), is_waiting=True))

    def _after(self, seconds: float, step: Callable[[], None]) -> None:
        """Let the thread do `step` in a while."""
        timer = threading.Timer(seconds, self.later, [step])
        timer.daemon = True
        timer.start()
