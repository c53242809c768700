"""Workers that share no memory with the run, as other processes would: what passes is pickled, and values go through the cache."""

from __future__ import annotations

import contextlib
import pickle
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from nodegraph import Engine
from nodegraph.cache.cache import Cache
from nodegraph.cache.file_digests import FileDigests
from nodegraph.cache.store.store import Store
from nodegraph.graph.graph import ResolvedLink
from nodegraph.plugins.backend import AUTO
from nodegraph.plugins.manager import Plugins
from nodegraph.run.device import kind_of_machine, resolve
from nodegraph.run.events import Event, NodeEvent, NodeProgress
from nodegraph.run.model_memory import ModelMemory
from nodegraph.run.node.run_node import run_node
from nodegraph.run.tasks.task import NodeTask, Outcome, RunContext
from nodegraph.run.workers.protocol import Job

with_both_workers = pytest.mark.parametrize("workers", ["threads", "copying"])
"""Run a test with the threads of the engine, and with workers that share no memory with it."""


def use_copying_workers(engine: Engine) -> CopyingWorkers:
    """Let `engine`, which has a cache directory, hand its tasks to workers that share no memory with it."""
    assert engine.cache_dir is not None
    workers = CopyingWorkers(engine.plugins, engine.cache_dir)
    engine._staff = replace(engine._staff, workers=workers)
    return workers


class CopyingWorkers:
    """One thread that uses nothing of the run but pickled tasks and the cache directory. `tasks` are the last that it ran."""

    shares_memory = False

    def __init__(self, plugins: Plugins, cache_dir: Path) -> None:
        self.tasks: deque[list[NodeTask]] = deque(maxlen=100)
        self._context = RunContext(
            cache=Cache(plugins.codecs, Store(cache_dir)),
            plugins=plugins,
            files=FileDigests(None),
            models=ModelMemory(plugins.backend),
            numerics=lambda: resolve(plugins.backend, AUTO, AUTO),
            emit=_refuse_event,
            machine=kind_of_machine(plugins.backend),
            overlapped=lambda: True,  # look every result up once more: its cache has what this thread made before
        )
        self._queue: SimpleQueue[_Claim | None] = SimpleQueue()
        self._users = 0
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        with self._lock:
            self._users += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="nodegraph-copying")
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users and self._thread is not None:
                    self._queue.put(None)
                    self._thread.join()
                    self._thread = None

    def submit(self, task: Sequence[Job], *, in_caller: bool = False) -> Callable[[], bool]:
        claim = _Claim(task)
        self._queue.put(claim)
        return claim.take

    def _work(self) -> None:
        while (claim := self._queue.get()) is not None:
            if claim.take():
                self._run(claim.jobs, pickle.loads(claim.pickled))

    def _run(self, jobs: Sequence[Job], tasks: list[NodeTask]) -> None:
        """Run the nodes of a task. Values that no cache has pass between them in `values`."""
        self.tasks.append(tasks)
        values: dict[ResolvedLink, Any] = {}
        earlier: dict[str, tuple[NodeTask, Outcome]] = {}
        failed = False
        for job, handed_out in zip(jobs, tasks, strict=True):
            task = handed_out.after(earlier)
            if failed:
                job.abandon()
                continue
            try:
                outcome = run_node(task, self._context, _Host(job, values, self._context.cache))
            except BaseException as error:
                failed = True
                job.finish(error)
                continue
            failed = outcome.error is not None
            earlier[task.node] = task, outcome
            if outcome.hit is not None:
                found = outcome.hit
                values |= {ResolvedLink(task.node, port): self._context.cache.load(found.key, port) for port in task.wanted}
            values |= {ResolvedLink(task.node, port): snapshot.open() for port, snapshot in outcome.values.items()}
            job.finish(_copied(outcome))


class _Claim:
    """The jobs of a task. Whoever takes it first may run them, or abandon them."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = jobs
        self.pickled = pickle.dumps([job.task for job in jobs])
        self._free = [True]

    def take(self) -> bool:
        try:
            return self._free.pop()
        except IndexError:
            return False


class _Host:
    """What a running node reaches: events and cancelling through the job, values in its task or in the cache."""

    def __init__(self, job: Job, values: Mapping[ResolvedLink, Any], cache: Cache) -> None:
        self._job, self._values, self._cache = job, values, cache

    def emit(self, event: NodeEvent) -> None:
        if isinstance(event, NodeProgress):
            event = replace(event, preview=None)
        self._job.emit(pickle.loads(pickle.dumps(event)))

    def is_cancelled(self) -> bool:
        return self._job.is_cancelled()

    def value(self, link: ResolvedLink, key: str | None) -> Any:
        if link in self._values:
            return self._values[link]
        assert key is not None
        return self._cache.load(key, link.port)


def _copied(outcome: Outcome) -> Outcome:
    """The outcome without its values, as another process would send it."""
    hit = outcome.hit.without_values() if outcome.hit is not None else None
    copied: Outcome = pickle.loads(pickle.dumps(outcome._replace(values={}, hit=hit, error=None)))
    return copied._replace(error=outcome.error)  # an exception keeps its traceback, which tests look at


def _refuse_event(event: Event) -> None:
    raise AssertionError(f"{event} did not go through the job")
