"""The actor: a process of Ray that runs units of nodes on the shared cache directory."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import pickle
import platform
import socket
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from nodegraph.cache.store.remote.objects import Objects
from nodegraph.cache.store.remote.sent_files import SentFiles
from nodegraph.errors import NodegraphError
from nodegraph.plugins.manager import Plugins
from nodegraph.run.events import NodeEvent, NodeProgress
from nodegraph.run.tasks.task import Outcome, RunContext
from nodegraph.run.workers.ray.messages import Report, UnitResult, WorkerFacts, opened_order, packed, packed_event
from nodegraph.run.workers.ray.reach import Mark, Seen
from nodegraph.run.workers.ray.resident_models import ResidentModels
from nodegraph.run.workers.ray.unit_files import UnitFiles
from nodegraph.run.workers.setup import WorkerSetup
from nodegraph.run.workers.task_runner import run_task

_PREVIEW_SECONDS: Final = 0.5  # between two previews of a node


class Worker:
    """Runs one unit at a time. `follow` and `cancel` are called meanwhile, in other threads of the actor."""

    def __init__(self, setup: bytes, environment: Mapping[str, str | None]) -> None:
        """`environment` holds variables that are set as in the process of the run, or removed: Ray sets some of them."""
        for name, value in environment.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        self._units: dict[int, _Unit] = {}
        self._cancelled: set[int] = set()
        self._lock = threading.Lock()
        self._context: RunContext | None = None
        self._error: str | None = None
        try:
            engine: WorkerSetup = pickle.loads(setup)
            self._context = engine.context()
            sent = SentFiles(engine.cache_dir, None if engine.remote is None else Objects(engine.remote.url))
            self._files = UnitFiles(self._context.plugins, self._context.files, sent)
            self._models = ResidentModels(self._context.models)
        except Exception as error:  # `facts` tells: an actor that fails here is started again and again
            self._error = f"{type(error).__name__}: {error}"

    def facts(self, mark: Mark) -> bytes:
        """The actor's `WorkerFacts`. `mark` is what the process of the run has left for it."""
        facts = WorkerFacts(host=socket.gethostname(), process=os.getpid(), versions={}, plugins={}, error=self._error)
        if self._context is None:
            return pickle.dumps(facts)
        plugins = self._context.plugins
        try:
            plugins.require_sound()
            numerics = self._context.numerics()
        except NodegraphError as error:
            return pickle.dumps(replace(facts, error=str(error)))
        return pickle.dumps(
            replace(facts, versions=versions(plugins), plugins=codes_of(plugins), numerics=numerics, seen=Seen.at(mark))
        )

    def lacking(self, wanted: Mapping[Path, str]) -> Mapping[Path, str]:
        """Which files with these digests this machine lacks, and what is there instead."""
        return self._files.lacking(wanted)

    def run(self, data: bytes) -> bytes:
        """Run the tasks of a unit, an `order`. Returns its `UnitResult`."""
        assert self._context is not None  # units go only to actors whose facts are right
        number, tasks, previews = opened_order(data)
        unit = _Unit(previews)
        with self._lock:
            self._units[number] = unit
            if number in self._cancelled:
                unit.is_stopped = True
        try:
            try:
                tasks = self._files.on_this_machine(tasks)
            except (NodegraphError, OSError) as error:
                unit.finish(0, Outcome(error=error, message=str(error)))
            else:
                with self._models.computing_with(next((task.model for task in tasks if task.model is not None), None)):
                    run_task(tasks, self._context, unit)
            if self._context.cache.store is not None:
                self._context.cache.store.flush()  # the process of the run may read a shared store
        finally:
            with self._lock:
                self._units.pop(number, None)
                self._cancelled.discard(number)
            reports = unit.end()
        return pickle.dumps(UnitResult(tuple(unit.outcomes), reports, self._models.take_lost()))

    def follow(self, number: int, seen: int, seconds: float) -> bytes:
        """The reports of a running unit after number `seen`; waits up to `seconds` for one. Those up to `seen` are forgotten."""
        with self._lock:
            unit = self._units.get(number)
        return pickle.dumps(() if unit is None else unit.reports_after(seen, seconds))

    def cancel(self, number: int) -> None:
        """Ask a unit to stop at its next step, also one that has not begun."""
        with self._lock:
            self._cancelled.add(number)
            if number in self._units:
                self._units[number].is_stopped = True


class _Unit:
    """A running unit: its outcomes, and the events that the process of the run has not confirmed."""

    def __init__(self, previews: bool) -> None:
        self.outcomes: list[Outcome | BaseException] = []
        self.is_stopped = False
        self._previews = previews
        self._previewed = 0.0
        self._number = 0
        self._reports: deque[Report] = deque()
        self._changed = threading.Condition()
        self._has_ended = False

    # --- the host of its task

    def emit(self, place: int, event: NodeEvent) -> None:
        preview = self._preview(event)
        with self._changed:
            self._number += 1
            last = self._reports[-1] if self._reports else None
            if (
                last is not None
                and last.place == place
                and isinstance(last.event, NodeProgress)
                and isinstance(event, NodeProgress)
            ):
                self._reports.pop()  # only the latest step counts
                preview = last.preview if preview is None else preview
            self._reports.append(Report(self._number, place, packed_event(event), preview))
            self._changed.notify_all()

    def _preview(self, event: NodeEvent) -> Any:
        if not self._previews or not isinstance(event, NodeProgress) or event.preview is None:
            return None
        now = time.monotonic()
        if now - self._previewed < _PREVIEW_SECONDS and event.step != event.steps:
            return None
        self._previewed = now
        try:
            return event.preview()
        except Exception:  # a preview that fails must not end its node
            return None

    def is_cancelled(self, place: int) -> bool:
        return self.is_stopped

    def finish(self, place: int, outcome: Outcome | BaseException) -> None:
        self.outcomes.append(packed(outcome))

    # --- what the process of the run asks

    def reports_after(self, seen: int, seconds: float) -> tuple[Report, ...]:
        with self._changed:
            while self._reports and self._reports[0].number <= seen:
                self._reports.popleft()
            if not self._reports and not self._has_ended:
                self._changed.wait(seconds)
            return tuple(self._reports)

    def end(self) -> tuple[Report, ...]:
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()
            return tuple(self._reports)


def codes_of(plugins: Plugins) -> dict[str, str]:
    """What identifies the code of each plugin, by name; why it cannot be used, if it cannot."""
    return {
        plugin.name: f"a broken one: {plugin.error}" if plugin.origin is None or plugin.error else plugin.origin.identity
        for plugin in plugins.loaded
    }


def versions(plugins: Plugins) -> dict[str, str]:
    """The versions that have to be the same in every process: of Python, nodegraph, and the libraries that nodes compute with."""
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in ("nodegraph", *sorted(plugins.backend.watched_libraries())):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


__all__ = ["Worker", "WorkerSetup", "codes_of", "versions"]
