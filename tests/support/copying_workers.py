"""Workers that share no memory with the run, as other processes would: what passes is pickled, and values go through the cache."""

from __future__ import annotations

import contextlib
import pickle
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from nodegraph import Engine, Workflow
from nodegraph.cache.cache import Cache
from nodegraph.cache.file_digests import FileDigests
from nodegraph.cache.store.store import Store
from nodegraph.plugins.backend import AUTO
from nodegraph.plugins.manager import Plugins
from nodegraph.run.device import kind_of_machine, resolve
from nodegraph.run.events import Event, NodeEvent, NodeProgress
from nodegraph.run.model_memory import ModelMemory
from nodegraph.run.tasks.task import CancelFlag, Demand, NodeTask, Outcome, RunContext
from nodegraph.run.workers.protocol import Job
from nodegraph.run.workers.task_runner import run_task

with_both_workers = pytest.mark.parametrize("workers", ["threads", "copying"])
"""Run a test with the threads of the engine, and with workers that share no memory with it."""


def use_copying_workers(engine: Engine) -> CopyingWorkers:
    """Let `engine`, which has a cache directory, hand its tasks to workers that share no memory with it."""
    assert engine.cache_dir is not None
    workers = CopyingWorkers(engine.plugins, engine.cache_dir)
    engine._staff = replace(engine._staff, workers=workers)
    return workers


class CopyingWorkers:
    """One thread that uses nothing of the run but pickled tasks and the cache directory. `tasks` are the last that it ran,
    `demands` what each run announced."""

    shares_memory = False

    def __init__(self, plugins: Plugins, cache_dir: Path) -> None:
        self.tasks: deque[list[NodeTask]] = deque(maxlen=100)
        self.demands: list[list[Demand]] = []
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

    def prepare(self, demands: Sequence[Demand], cancel: CancelFlag) -> None:
        self.demands.append([*demands])

    def submit(self, task: Sequence[Job], *, in_caller: bool = False) -> Callable[[], bool]:
        claim = _Claim(task)
        self._queue.put(claim)
        return claim.take

    def _work(self) -> None:
        while (claim := self._queue.get()) is not None:
            if claim.take():
                self._run(claim.jobs, pickle.loads(claim.pickled))

    def _run(self, jobs: Sequence[Job], tasks: list[NodeTask]) -> None:
        self.tasks.append(tasks)
        host = _Host(jobs)
        run_task(tasks, self._context, host)
        for job in jobs[host.done :]:
            job.abandon()


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
    """Passes events and outcomes on as another process would send them."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs, self.done = jobs, 0

    def emit(self, place: int, event: NodeEvent) -> None:
        if isinstance(event, NodeProgress):
            event = replace(event, preview=None)
        self._jobs[place].emit(pickle.loads(pickle.dumps(event)))

    def is_cancelled(self, place: int) -> bool:
        return self._jobs[place].is_cancelled()

    def finish(self, place: int, outcome: Outcome | BaseException) -> None:
        self.done = place + 1
        self._jobs[place].finish(outcome if isinstance(outcome, BaseException) else _copied(outcome))


def _copied(outcome: Outcome) -> Outcome:
    """The outcome as another process would send it."""
    copied: Outcome = pickle.loads(pickle.dumps(outcome._replace(error=None)))
    return copied._replace(error=outcome.error)  # an exception keeps its traceback, which tests look at


def _refuse_event(event: Event) -> None:
    raise AssertionError(f"{event} did not go through the job")


def with_model(tmp_path: Path, count: int) -> tuple[Workflow, list[Any]]:
    """A model that `count` nodes use, each with its number as text."""
    (tmp_path / "weights").write_text("w")
    workflow = Workflow("w")
    loaded = workflow.add("Load", name="load", path=tmp_path / "weights")
    return workflow, [workflow.add("Use", name=f"use{i}", model=loaded.model, text=str(i)) for i in range(count)]
