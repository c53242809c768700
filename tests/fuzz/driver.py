"""Hands groups of graphs to worker processes, kills these at random, and adds up what they report.

A worker is killed at some moment, or else it ends itself at one of its next writes to the cache directory (see `tests.fuzz.kills`).

The graphs of an epoch share one cache directory. Every second epoch trims it and loses files; in the others nothing is removed, so
that at the end each record must have its values.
"""

from __future__ import annotations

import contextlib
import json
import math
import multiprocessing
import shutil
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from random import Random
from typing import Any, Final

from nodegraph.cache.file_digests import hash_file
from nodegraph.cache.store.store import Store
from nodegraph.files import write_whole
from tests.fuzz.kills import EXITS
from tests.fuzz.worker import GROUP, Report, Setup, Task, serve

WORKERS: Final = 3
"""How many processes run at once. Each of them waits for a third of the time, so there are more than processors."""

TASK_GROUPS: Final = 5
CACHES: Final = "cache-"
"""The names of cache directories begin with this."""

SPAWN_SHARE: Final = 0.002
"""The share of workers that are started from nothing, not forked from a process that has imported torch: that takes seconds."""

ENDING_SHARE: Final = 0.75
"""The share of workers that end themselves at a write to a cache directory."""

WRITES: Final = 500
MUTANT_WRITES: Final = 15
"""How many writes to cache directories a worker survives on average if it ends itself at one."""

KILL_SHARE: Final = 0.12
"""The share of tasks after which a worker is killed. A new one takes as much time as ten graphs."""

CI_GRAPHS: Final = 2000
CI_EPOCH_GROUPS: Final = 50

CHECKED_KILLS: Final = 0.1
"""The share of kills after which a cache of many graphs is checked; one of few graphs is checked after each."""

HANG_SECONDS: Final = 240
MAX_DIFFERENCES: Final = 200


@dataclass(kw_only=True)
class State:
    """What was done. `first` is the next group that no worker has had; `again` lists groups whose worker was killed."""

    first: int = 0
    again: list[int] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    differences: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    @classmethod
    def read(cls, path: Path, *, first: int = 0) -> State:
        """The state in a file; if there is none yet, one that begins with the group `first`."""
        if not path.exists():
            return cls(first=first)
        state = cls(**json.loads(path.read_text()))
        state.counts = Counter(state.counts)
        return state

    def write(self, path: Path) -> None:
        write_whole(path, json.dumps({**vars(self), "counts": dict(sorted(self.counts.items()))}, indent=1).encode())

    def summary(self) -> str:
        counts = self.counts
        nodes = counts["ran"] + counts["cached"]
        share = counts["cached"] / nodes if nodes else 0
        return (
            f"{counts['graphs']} graphs, {counts['runs']} runs, {counts['kills']} kills, {counts['compared']} values compared, "
            f"{counts['compared hits']} of them hits; {share:.0%} of {nodes} nodes were hits, {counts['hits of others']} of them "
            f"from other processes; {len(self.differences)} differences; {self.seconds:.0f} s, "
            f"next is graph {(self.again or [self.first])[0] * GROUP}"
        )


@dataclass(kw_only=True, eq=False)
class _Process:
    process: Any
    connection: Connection
    ends_itself: bool = False
    task: Task | None = None
    since: float = 0.0
    remaining: tuple[int, ...] = ()  # groups of the task that it has not reported yet


class Driver:
    """Runs groups until `stop` is set. `folder` holds the cache directories and what workers write down.

    After `kill_share` of tasks, a worker is killed. Most workers end themselves before, after `writes` writes on average.
    """

    def __init__(
        self,
        state: State,
        folder: Path,
        *,
        workers: int = WORKERS,
        kill_share: float = KILL_SHARE,
        epoch_groups: int = 250,
        mutant: str | None = None,
        spawn_share: float = SPAWN_SHARE,
        writes: int = WRITES,
    ) -> None:
        self.state, self._folder, self._workers = state, folder, workers
        self._spawn_share, self._writes = spawn_share, writes
        self._kill_share, self._epoch_groups, self._mutant = kill_share, epoch_groups, mutant
        self._next_kill = math.inf
        self.stop = False
        self._random = Random()
        self._processes: list[_Process] = []
        self._saved: Callable[[], None] = lambda: None
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, groups: int, *, save: Callable[[], None] = lambda: None, stop_at_difference: bool = False) -> None:
        """Run all groups before number `groups`, and call `save` now and then."""
        began, before = time.monotonic(), self.state.seconds

        def save_with_time() -> None:
            self.state.seconds = before + time.monotonic() - began
            save()

        self._saved = save_with_time
        while not self.stop and (self.state.again or self.state.first < groups):
            self._epoch(min(groups, self._end_of_epoch()), stop_at_difference)
            save_with_time()
            if stop_at_difference and self.state.differences:
                break
        self.close()

    def close(self) -> None:
        for worker in self._processes:
            self._end(worker)
        self._processes.clear()

    # --- epochs

    def _end_of_epoch(self) -> int:
        return (self.state.first // self._epoch_groups + 1) * self._epoch_groups

    def _epoch(self, end: int, stop_at_difference: bool) -> None:
        number = (end - 1) // self._epoch_groups
        trimmed = number % 2 == 1
        cache = self._folder / f"{CACHES}{number}"
        todo = deque([*self.state.again, *range(self.state.first, end)])
        self.state.again, self.state.first = list(todo), end
        next_save = time.monotonic() + 10
        while (todo or self._busy()) and not self.stop:
            while len(self._processes) < self._workers:
                self._processes.append(self._start())
            for worker in self._processes:
                if worker.task is None and todo:
                    groups = tuple(todo.popleft() for _ in range(min(TASK_GROUPS, len(todo))))
                    self._give(worker, Task(groups=groups, cache=cache, trimmed=trimmed), todo)
            self._receive(todo, timeout=max(0.001, min(self._next_kill - time.monotonic(), 1.0)))
            if time.monotonic() >= self._next_kill and self._busy():
                self._next_kill = math.inf
                self._kill(self._random.choice(self._busy()), todo, "kills")
            for worker in self._busy():
                if time.monotonic() - worker.since > HANG_SECONDS:
                    self._note({"kind": "hang", "task": str(worker.task), "stacks": self._stacks(worker)})
                    self._kill(worker, todo, "hangs")
            if time.monotonic() >= next_save:
                self._saved()
                next_save = time.monotonic() + 10
            if stop_at_difference and self.state.differences:
                return
        if not self.stop:
            self._check_cache(cache, trimmed)

    def _check_results(self, cache: Path) -> None:
        """After a kill: what has its name is complete, and each record has its values."""
        store = Store(cache)
        incomplete = [entry.name for entry in store.layout.blobs() if not entry.name.startswith(hash_file(Path(entry.path)))]
        lost = [record.key for record in store.records() if not all(store.layout.blob(name).exists() for name in record.blobs())]
        self.state.counts["checks after kills"] += 1
        if incomplete or lost:
            self._note({"kind": "cache after a kill", "incomplete": incomplete[:5], "records without values": lost[:5]})

    def _check_cache(self, cache: Path, trimmed: bool) -> None:
        """At the end of an epoch: nothing may be damaged or missing, unless files were removed, whatever was killed."""
        found = Store(cache).upkeep.verify()
        problems = {"wrong": found.wrong, "missing": found.missing, "damaged": found.damaged, "stale": found.stale}
        if not trimmed and any(problems.values()):
            self._note({"kind": "cache", "cache": cache.name, **{name: repr(value)[:600] for name, value in problems.items()}})
        self.state.counts["epochs"] += 1
        shutil.rmtree(cache, ignore_errors=True)

    # --- workers

    def _start(self) -> _Process:
        context = multiprocessing.get_context("spawn" if self._random.random() < self._spawn_share else "forkserver")
        if context.get_start_method() == "forkserver":
            context.set_forkserver_preload(["tests.fuzz.warm"])
        ours, theirs = context.Pipe()
        writes = 1 + int(self._random.expovariate(1 / self._writes)) if self._random.random() < ENDING_SHARE else None
        setup = Setup(folder=self._folder / "work", mutant=self._mutant, caches=f"{self._folder}/{CACHES}", writes=writes)
        process = context.Process(target=serve, args=(theirs, setup), daemon=True)
        (self._folder / "work").mkdir(exist_ok=True)
        process.start()
        theirs.close()
        self.state.counts["processes"] += 1
        return _Process(process=process, connection=ours, ends_itself=writes is not None)

    def _busy(self) -> list[_Process]:
        return [worker for worker in self._processes if worker.task is not None]

    def _give(self, worker: _Process, task: Task, todo: deque[int]) -> None:
        worker.task, worker.since, worker.remaining = task, time.monotonic(), task.groups
        try:
            worker.connection.send(task)
        except OSError:
            self._lost(worker, todo)

    def _receive(self, todo: deque[int], timeout: float) -> None:
        by_connection: dict[Any, _Process] = {worker.connection: worker for worker in self._busy()}
        for connection in wait(list(by_connection), timeout):
            worker = by_connection[connection]
            try:
                report: Report = worker.connection.recv()
            except (EOFError, OSError):
                self._lost(worker, todo)
                continue
            self.state.counts.update(report.counts)
            for difference in report.differences:
                self._note(difference)
            self.state.again.remove(worker.remaining[0])
            worker.remaining = worker.remaining[1:]
            if not worker.remaining:
                worker.task = None
                if self._next_kill == math.inf and self._random.random() < self._kill_share:
                    self._next_kill = time.monotonic() + self._random.random() * (time.monotonic() - worker.since)

    def _lost(self, worker: _Process, todo: deque[int]) -> None:
        """A worker has ended: it was to end itself, or something went wrong."""
        worker.process.join(5)
        if worker.ends_itself and worker.process.exitcode in EXITS:
            self._kill(worker, todo, "kills")
            return
        self._note({"kind": "died", "exit": worker.process.exitcode, "task": str(worker.task), "stacks": self._stacks(worker)})
        self._kill(worker, todo, "deaths")

    def _kill(self, worker: _Process, todo: deque[int], reason: str) -> None:
        self.state.counts[reason] += 1
        self._end(worker)
        todo.extendleft(reversed(worker.remaining))
        self._processes.remove(worker)
        if worker.task is None or worker.task.trimmed:
            return
        if self._epoch_groups <= CI_EPOCH_GROUPS or self._random.random() < CHECKED_KILLS:
            self._check_results(worker.task.cache)

    def _end(self, worker: _Process) -> None:
        worker.process.kill()
        worker.process.join()
        worker.connection.close()
        shutil.rmtree(self._folder / "work" / f"process-{worker.process.pid}", ignore_errors=True)
        with contextlib.suppress(OSError):
            (self._folder / "work" / f"stacks-{worker.process.pid}.txt").unlink()

    def _stacks(self, worker: _Process) -> str:
        try:
            return (self._folder / "work" / f"stacks-{worker.process.pid}.txt").read_text()[-6000:]
        except OSError:
            return ""

    def _note(self, difference: dict[str, Any]) -> None:
        self.state.counts["differences"] += 1
        if len(self.state.differences) < MAX_DIFFERENCES:
            self.state.differences.append(difference)


def find_mutant(mutant: str, folder: Path) -> State:
    """Run the graphs of CI with a fault in the engine, until there is a difference."""
    state = State()
    driver = Driver(state, folder, kill_share=0.8, epoch_groups=CI_EPOCH_GROUPS, mutant=mutant, spawn_share=0, writes=MUTANT_WRITES)
    driver.run(groups_of(CI_GRAPHS), stop_at_difference=True)
    return state


@contextlib.contextmanager
def stopped_by_signals(driver: Driver) -> Iterator[None]:
    """SIGINT and SIGTERM let the driver stop soon."""

    def stop(number: int, frame: object) -> None:
        driver.stop = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def groups_of(graphs: int) -> int:
    """How many groups hold this many graphs."""
    return -(-graphs // GROUP)
