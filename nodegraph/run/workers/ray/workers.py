"""Workers that are actors of Ray: in other processes, on other GPUs, on other machines."""

from __future__ import annotations

import contextlib
import pickle
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from queue import Empty, SimpleQueue
from typing import Any, Final

from nodegraph.cache.store.remote.objects import Objects
from nodegraph.cache.store.remote.sent_files import SentFiles
from nodegraph.errors import Cancelled, DeviceError, NodegraphError
from nodegraph.plugins.backend import Numerics
from nodegraph.run.events import Event, Notice
from nodegraph.run.tasks.task import CancelFlag, Demand, RunContext, stopped
from nodegraph.run.workers.protocol import Job, Threads, do_nothing
from nodegraph.run.workers.ray.cluster import Cluster, RayOptions, require_ray
from nodegraph.run.workers.ray.crew import Crew
from nodegraph.run.workers.ray.local import LocalTask, LocalTasks
from nodegraph.run.workers.ray.messages import UnitResult, order
from nodegraph.run.workers.ray.shipping import Shipping
from nodegraph.run.workers.ray.start import reason_of
from nodegraph.run.workers.ray.units import MAX_LOSSES, Actor, Unit, next_pair, units_ahead
from nodegraph.run.workers.setup import WorkerSetup

_TICK: Final = 0.1  # seconds between two looks at what was cancelled
_FOLLOWED_AFTER: Final = 0.5  # seconds after which the events of a running unit are asked for,
_FOLLOWED_AT_MOST: Final = 50  # of all units so often in a second
_POLL: Final = 5.0  # seconds that an actor waits for an event


class RayWorkers:
    """Runs what computes with a model in actors of Ray; everything else runs in this process.

        Engine(workers=RayWorkers(workers=4, gpus_per_worker=1))

    All processes use one cache directory, on one machine or on a file system that all machines share, or one shared store. Ray
    starts before the first node of the first run that may need a worker, and ends with the engine. Results are the same as without
    it, to the last bit, as long as the kind of processor and the number of threads are the same: each worker computes with as many
    threads as this process would.

    With `ship_models`, files that nodes read and that a machine of the cluster lacks, such as models, are sent to it. With
    `previews`, the values of previews are sent to this process.

    Raises SettingsError if Ray is not installed. The run that starts it raises DeviceError if the cluster cannot give what is asked
    for, or a worker does not reach the cache, and PluginError if workers have other versions or plugins. No node has run then.
    """

    shares_memory = False

    def __init__(
        self,
        address: str | None = None,
        *,
        workers: int | None = None,
        gpus_per_worker: float | None = None,
        labels: dict[str, str] | None = None,
        ship_models: bool = False,
        dashboard: bool = False,
        previews: bool = False,
    ) -> None:
        self.options = RayOptions(
            address=address,
            workers=workers,
            gpus_per_worker=gpus_per_worker,
            labels=labels or {},
            ship_models=ship_models,
            dashboard=dashboard,
        )
        require_ray()
        self.previews = previews
        self._lock = threading.RLock()  # of what this process knows of the units
        self._has_started = threading.Event()  # or has failed to
        self._here = LocalTasks()
        self._is_closed = False
        self._inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()  # what the thread is to do; None ends it
        self._waiting: deque[Unit] = deque()
        self._actors: list[Actor] = []
        self._crew: Crew | None = None
        self._shipping: Shipping | None = None
        self._thread: threading.Thread | None = None
        self._setup: WorkerSetup | None = None
        self._context: RunContext  # this and `_local` come with the setup
        self._local: Threads
        self._numerics: Numerics | None = None
        self._failure: NodegraphError | None = None
        self._notify: Callable[[Event], None] = lambda event: None

    def __repr__(self) -> str:
        where = "on this machine" if self.options.address is None else f"at {self.options.address}"
        return f"<RayWorkers {where}: {len(self._actors)} actors>"

    # --- what the engine calls

    def connect(self, setup: WorkerSetup, *, context: RunContext, local: Threads, notify: Callable[[Event], None]) -> None:
        """Belong to an engine from now on.

        `context` is what nodes of this process work with, `local` are the workers for them, and `notify` receives notices.
        """
        if self._setup is not None:
            raise ValueError("these workers belong to another engine. Make new ones")
        self._setup, self._context, self._local, self._notify = setup, context, local, notify

    def numerics(self, own: Callable[[], Numerics]) -> Numerics:
        """What the workers compute with; `own` is what this process would. On this machine they are the same.

        A cluster is asked, which starts the workers.
        """
        if self.options.address is None:
            return own()
        self._start_and_wait()
        assert self._numerics is not None  # workers that have started have told
        return self._numerics

    @property
    def parallel(self) -> int:
        """How many units are to be ready at a time."""
        return units_ahead(self._crew.cluster.count if self._crew is not None else self.options.workers or 1)

    def in_use(self) -> AbstractContextManager[None]:
        return self._local.in_use()

    def submit(self, task: Sequence[Job], *, in_caller: bool = False) -> Callable[[], bool]:
        if not any(self._goes_out(numeric=job.task.numeric, has_model=job.task.model is not None) for job in task):
            job = LocalTask(task, self._context, self._here.ended)
            return self._here.submit(lambda: self._local.submit([job]))
        unit = Unit(jobs=task)
        with self._lock:
            self._waiting.append(unit)
            self._run_thread()
            are_busy = self._failure is None and bool(self._actors) and not any(actor.is_free for actor in self._actors)
        if not are_busy:  # else the first that ends a unit gets this one
            self._inbox.put(self._assign)

        def take_back() -> bool:
            with self._lock:
                if unit not in self._waiting:
                    return False
                self._waiting.remove(unit)
                return True

        return take_back

    def close(self) -> None:
        """End the actors, and the Ray that this process has started."""
        with self._lock:
            self._is_closed = True
            thread, self._thread = self._thread, None
        if thread is not None:
            self._inbox.put(None)
            thread.join()
        crew, self._crew, self._actors = self._crew, None, []
        if crew is not None:
            crew.close()

    # --- starting

    def prepare(self, demands: Sequence[Demand], cancel: CancelFlag) -> None:
        """Start the workers before the first node, if one of these may go to a worker, and wait for the first of them."""
        sent_out = [demand for demand in demands if self._goes_out(numeric=demand.numeric, has_model=demand.model)]
        if not sent_out:
            return

        def check() -> None:
            if cancel.is_set:
                raise stopped()

        self._start_and_wait(check)
        files = {path: digest for demand in sent_out for path, digest in demand.files.items()}
        if files and self._shipping is not None and not self._computes_alike():  # those of this machine are here
            self._shipping.require(files, check)

    def _goes_out(self, *, numeric: bool, has_model: bool) -> bool:
        """Whether a node runs in a worker, and not in this process."""
        return numeric and (has_model or not self._computes_alike())

    def _start_and_wait(self, check: Callable[[], None] = do_nothing) -> None:
        """Start the actors, in the thread that speaks with Ray, and wait until the first can work. Raises as `_start` does."""
        with self._lock:
            self._run_thread()
        while not self._has_started.wait(_TICK):
            check()
            if self._is_closed:
                raise Cancelled("the engine was closed")
        if self._failure is not None:
            raise self._failure

    def _computes_alike(self) -> bool:
        """Whether this process computes what workers compute, in the same class of results."""
        return self.options.address is None

    def _run_thread(self) -> None:
        """Start the thread, once; the caller holds the lock. It starts the actors."""
        if self._thread is None and not self._is_closed:
            self._thread = threading.Thread(target=self._work, name="nodegraph-ray", daemon=True)
            self._thread.start()
            self._inbox.put(self._start_or_give_up)

    def _start_or_give_up(self) -> None:
        try:
            self._start()
        except NodegraphError as error:
            self._give_up(error)
        except Exception as error:
            self._give_up(DeviceError(f"[E305] Ray cannot be used: {reason_of(error)}"))
        finally:
            self._has_started.set()

    def _start(self) -> None:
        """Start the actors, and wait for the first that can work. Raises SettingsError, DeviceError or PluginError."""
        assert self._setup is not None  # an engine has these workers
        with self._here.none():
            cluster = Cluster(self.options)
        crew = Crew(
            cluster=cluster,
            setup=self._setup,
            context=self._context,
            chooses_numerics=not self._computes_alike(),
            later=self._inbox.put,
            notify=self._notify,
            changed=self._assign,
            gave_up=self._give_up,
        )
        try:
            crew.start(lambda: self._is_closed)
        except BaseException:
            crew.close()
            raise
        self._crew, self._actors, self._numerics = crew, crew.actors, crew.numerics
        objects = None if self._setup.remote is None or self._setup.remote.read_only else Objects(self._setup.remote.url)
        sent = SentFiles(self._setup.cache_dir, objects)
        self._shipping = Shipping(crew, sent, is_allowed=self.options.ship_models, notify=self._notify)

    def _give_up(self, error: NodegraphError) -> None:
        with self._lock:
            self._failure = error
            units = [*self._waiting]
            self._waiting.clear()
        for unit in units:
            unit.refuse(error)

    # --- the thread that speaks with Ray

    def _work(self) -> None:
        while True:
            try:
                step = self._inbox.get(timeout=_TICK if any(actor.units for actor in self._actors) else None)
            except Empty:
                self._look()
                continue
            if step is None:
                return
            step()

    def _assign(self) -> None:
        """Hand out units as long as there are units and free actors."""
        while True:
            with self._lock:
                if self._failure is not None:
                    break
                pair = next_pair(self._waiting, self._actors)
                if pair is None:
                    return
                unit, actor = pair
                self._waiting.remove(unit)
                actor.give(unit)
            unit.began = time.monotonic()
            future = actor.run.remote(order(unit.number, unit.pickled, previews=self.previews)).future()
            future.add_done_callback(lambda done, unit=unit, actor=actor: self._inbox.put(lambda: self._ended(unit, actor, done)))
        self._give_up(self._failure)

    def _ended(self, unit: Unit, actor: Actor, future: Any) -> None:
        if unit.actor is not actor:
            return  # it was lost, and is somewhere else by now
        was_running = bool(actor.units) and actor.units[0] is unit
        try:
            result: UnitResult = pickle.loads(future.result())
        except Exception as error:
            self._lost(unit, actor, error, was_running)
        else:
            with self._lock:
                actor.units.remove(unit)
                actor.forget(result.lost_models)
                unit.actor = None
                if actor.units:
                    actor.units[0].began = time.monotonic()
            unit.end(result)
        self._assign()

    def _lost(self, unit: Unit, actor: Actor, error: Exception, was_running: bool) -> None:
        """The actor has ended, or the unit failed in a way that is not the node's."""
        assert self._crew is not None  # units are handed out only then
        exceptions = self._crew.cluster.ray.exceptions
        if not isinstance(error, exceptions.RayActorError | exceptions.WorkerCrashedError | exceptions.OutOfMemoryError):
            with self._lock:
                actor.units.remove(unit)
            unit.fail(NodegraphError(f"a worker on {actor.host} failed: {reason_of(error)}"))
            return
        with self._lock:
            lost = [*actor.units]
            actor.units.clear()
            is_new = actor.is_ready
            actor.is_ready = False
            actor.models.clear()
        for other in reversed(lost):
            other.losses += other is lost[0]
            if other.losses >= MAX_LOSSES:
                node, reason = other.jobs[other.suspect].task.node, reason_of(error)
                message = f"node '{node}' has ended {MAX_LOSSES} workers, the last one on {actor.host}: {reason}"
                other.actor = None
                other.fail(NodegraphError(message))
            else:
                other.lose()
                with self._lock:
                    add = self._waiting.append if other is lost[0] else self._waiting.appendleft  # it may be what ends workers
                    add(other)
        if is_new:
            self._notify(Notice(None, f"a worker on {actor.host} has ended and starts again; what it was doing runs elsewhere"))
            self._crew.wait_for(actor)

    def _look(self) -> None:
        """Ask actors for the events of their units, and tell them what was cancelled."""
        now = time.monotonic()
        patience = max(_FOLLOWED_AFTER, len(self._actors) / _FOLLOWED_AT_MOST)
        for actor in self._actors:
            for place, unit in enumerate([*actor.units]):
                if not unit.is_cancelled and all(job.is_cancelled() for job in unit.jobs[unit.done :]):
                    unit.is_cancelled = True
                    actor.cancel.remote(unit.number)
                if place == 0 and not unit.is_followed and now - unit.began >= patience:
                    self._follow(unit, actor)

    def _follow(self, unit: Unit, actor: Actor) -> None:
        unit.is_followed = True
        future = actor.follow.remote(unit.number, unit.seen, _POLL).future()

        def received(done: Any) -> None:
            if unit.actor is not actor:
                return
            with contextlib.suppress(Exception):  # a lost actor: `_ended` hears of it
                unit.receive(pickle.loads(done.result()))
                unit.is_followed = False

        future.add_done_callback(lambda done: self._inbox.put(lambda: received(done)))


__all__ = ["RayWorkers"]
