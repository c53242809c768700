"""One run, from keys and plan to outputs and record."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from nodegraph.cache.keys import Keys
from nodegraph.cache.store.store import LostResultError, Stored
from nodegraph.errors import Cancelled, NodegraphError
from nodegraph.graph.graph import Graph, Output, Wire
from nodegraph.run.events import Event, Notice, OutputWritten, RunFinished, RunStarted, Status
from nodegraph.run.gc_pause import without_collector
from nodegraph.run.outputs import Writer
from nodegraph.run.plan import Plan, make_plan
from nodegraph.run.record import RunRecord, new_run_id, provenance
from nodegraph.run.result import Result
from nodegraph.run.run_node import Surroundings
from nodegraph.run.scheduler import Executor, NodeReport


class Session:
    """Runs a checked graph once. `out` is the folder for outputs, `records` the one for the run's record; None: none is written."""

    def __init__(
        self,
        graph: Graph,
        force: Sequence[str],
        out: Path | None,
        surroundings: Surroundings,
        records: Path | None,
        keep_going: bool = False,
    ) -> None:
        self.run = new_run_id()
        self._graph, self._force, self._records, self._keep_going = graph, force, records, keep_going
        self._tell = surroundings.emit
        self._around = replace(surroundings, emit=self.emit)
        self._writer = None if out is None else Writer(out, graph, self._around.cache, self._provenance)
        self._plan: Plan | None = None
        self._telling = threading.RLock()
        self._reports: dict[str, NodeReport] = {}
        self._outputs: dict[str, list[Path]] = {}
        self._notices: list[Notice] = []
        self._kept: dict[Wire, Any] = {}

    def emit(self, event: Event) -> None:
        """Pass an event on; notices are kept for the result."""
        with self._telling:  # nodes run in several threads
            if isinstance(event, Notice):
                self._notices.append(event)
            self._tell(event)

    def execute(self, keys_of: Callable[[Graph], Keys]) -> Result:
        """Run, and write the record. What goes wrong once the plan is made is in the result, not raised."""
        began, started = time.time(), time.perf_counter()
        cache = self._around.cache
        if cache.store is not None:
            cache.store.start()
        with without_collector():
            keys = keys_of(self._graph)
            plan = self._plan = make_plan(self._graph, keys, cache, self._force)
        self.emit(RunStarted(self.run, self._graph.workflow, plan))
        error = self._guarded(plan)
        status: Status = "done" if error is None else "cancelled" if isinstance(error, Cancelled) else "failed"
        for name in self._graph.nodes:
            self._reports.setdefault(name, NodeReport("skipped", key=plan.known.key(name)))
        if cache.store is not None:
            cache.store.finish()
        reports = {name: self._reports[name] for name in self._graph.nodes}
        seconds = time.perf_counter() - started
        if self._records is not None:
            numeric = any(node.spec.numeric for node in self._graph.nodes.values())
            numerics = self._around.numerics() if numeric else None  # asked for the keys already
            known = self._plan.known  # of the last plan, if a value went away
            record = RunRecord(
                self.run, self._graph, self._document, status, error, began, seconds, numerics, reports, self._outputs, known
            )
            if cache.store is not None:
                cache.store.claim()
            with without_collector():
                record.write(self._records)
        self.emit(RunFinished(status, seconds))
        notices = tuple(self._notices)
        return Result(self.run, status, seconds, self._graph, reports, self._outputs, notices, error, self._kept, cache.load)

    def _guarded(self, plan: Plan) -> NodegraphError | None:
        """What ended the run early, or None."""
        try:
            if self._writer is not None:
                self._writer.prepare()
            self._execute(plan)
        except NodegraphError as error:
            return error
        except KeyboardInterrupt:
            return Cancelled("the run was interrupted; what was finished is kept")
        return None

    def _execute(self, plan: Plan) -> None:
        """Run the plan; where a cached value went away meanwhile, plan again with what is left."""
        while True:
            try:
                Executor(plan, self._around, self._deliver, self._reports, self._keep_going).execute()
            except LostResultError:
                done = {name for name, report in self._reports.items() if report.status == "ran"}
                force = [name for name in self._force if name not in done]
                plan = self._plan = make_plan(self._graph, plan.known.keys, self._around.cache, force)
            else:
                return

    def _deliver(self, output: Output, stored: Stored | None, value: Callable[[], Any]) -> None:
        """Keep what is stored nowhere for the result, and write the output."""
        if stored is None:
            self._kept[output.wire] = value()
        if self._writer is None:
            return
        declared = output.name in self._graph.resolved.outputs
        if stored is None and not declared and self._around.cache.codec(value()) is None:
            message = f"target '{output.name}' is {type(value()).__name__}, which cannot be written to a file"
            self.emit(Notice(output.wire.node, message))
            return
        self._outputs[output.name] = self._writer.write(output, stored, value)
        for path in self._outputs[output.name]:
            self.emit(OutputWritten(output.name, path))

    def _provenance(self) -> dict[str, str]:
        assert self._plan is not None  # nothing is written before the plan is made
        return provenance(self.run, self._graph, self._document, self._plan.keys)

    @cached_property
    def _document(self) -> str:
        return self._graph.resolved.dump()
