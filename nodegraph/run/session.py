"""One run, from keys and plan to outputs and record."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nodegraph.cache.cache import Cache
from nodegraph.cache.keys import Keys
from nodegraph.cache.results import CachedResult
from nodegraph.cache.snapshots import Snapshot
from nodegraph.cache.store.records import Computation
from nodegraph.cache.store.store import LostResultError, StoredValue
from nodegraph.errors import CacheError, Cancelled, NodeError, NodegraphError
from nodegraph.gc_pause import gc_paused
from nodegraph.graph.expansion.undecided import known_part, next_decisions
from nodegraph.graph.graph import Awaited, Graph, Output, ResolvedLink
from nodegraph.light_dataclass import dataclass
from nodegraph.plugins.state.surroundings import look_again_later
from nodegraph.run.deciding import decide, decided_value, name_of, only_deciders, with_cached_decisions
from nodegraph.run.events import Event, Notice, OutputWritten, PlanExtended, RunFinished, RunStarted, Status
from nodegraph.run.known_results import Carried
from nodegraph.run.lock.facts import plain_nodes
from nodegraph.run.outputs.names import RunFacts
from nodegraph.run.outputs.own_files import OwnFiles
from nodegraph.run.outputs.whole import recorded_files, whole_workflow
from nodegraph.run.outputs.writer import Writer
from nodegraph.run.plan import Plan, make_plan
from nodegraph.run.record import RunRecord, provenance
from nodegraph.run.result import NodeReport, Result
from nodegraph.run.scheduler import Scheduler
from nodegraph.run.tasks.groups import TaskGroups, undecided_demands
from nodegraph.run.tasks.maker import TaskMaker
from nodegraph.run.tasks.task import Outcome, RunContext
from nodegraph.run.workers.dispatcher import Staff
from nodegraph.settings import load_stall_seconds

if TYPE_CHECKING:
    from nodegraph.run.verification import Verification

MAX_LOSSES: Final = 3
"""How often a run computes a result again that it cannot read."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RunRequest:
    """What to run, and how.

    `out` is the folder for outputs, relative to `directory`, and `records` the folder for the run's record; None: none are written.
    `overrides` and `targets` are as the caller gave them. Without `metadata`, outputs hold nothing but the value. With `overwrite`,
    outputs replace files with other content, otherwise only `own_files`. Nodes whose result is in the cache are computed again and
    compared with probability `verify`. With `inline`, a node that runs alone runs in the calling thread.
    """

    run: str
    graph: Graph
    overrides: Mapping[str, Any] = field(default_factory=dict)
    targets: Sequence[str] = ()
    force: Sequence[str] = ()
    out: Path | None = None
    overwrite: bool = False
    metadata: bool = True
    own_files: OwnFiles | None = None
    directory: Path = field(default_factory=Path)
    records: Path | None = None
    keep_going: bool = False
    verify: float = 0.0
    inline: bool = True


class Session:
    """Runs a checked graph once."""

    def __init__(self, request: RunRequest, context: RunContext, staff: Staff) -> None:
        self._request, self._graph, self._staff = request, request.graph, staff
        self._listener = context.emit
        self._cache_of_engine = context.cache
        self._cache = context.cache.for_run(lambda message: self.emit(Notice(None, message)))
        if not staff.workers.shares_memory:
            self._cache = Cache(self._cache.codecs, self._cache.store)  # what other runs have in memory is of no use to workers
        self._context = replace(context, emit=self.emit, cache=self._cache)
        self._writer: Writer | None = None
        self._verification: Verification | None = None
        if request.verify > 0:
            from nodegraph.run.verification import draw_verification

            self._verification = draw_verification(request.graph, request.verify, context.machine)
        self._plan: Plan | None = None
        self._emitting = threading.RLock()
        self._reports: dict[str, NodeReport] = {}
        self._outputs: dict[str, list[Path]] = {}
        self._items: dict[str, dict[int, list[Path]]] = {}  # of outputs that are lists
        self._notices: list[Notice] = []
        self._values: dict[ResolvedLink, Snapshot] = {}
        self._deciding: dict[str, Snapshot | None] | None = None  # while values are computed that decide the graph: these
        self._carried: dict[str, Carried] = {}
        self._failure: NodegraphError | None = None

    def emit(self, event: Event) -> None:
        """Pass an event on. Notices are kept for the result."""
        with self._emitting:  # nodes run in several threads
            if isinstance(event, Notice):
                self._notices.append(event)
            self._listener(event)

    def execute(self, keys_of: Callable[[Graph], Keys]) -> Result:
        """Run, and write the record. Errors after the plan is made are in the result, not raised."""
        began, started = time.time(), time.perf_counter()
        self._keys_of = keys_of
        plan = self._extend_plan()
        self.emit(RunStarted(self._request.run, self._graph.workflow, plan))
        if self._graph.resolved.sweep is not None:
            self.emit(Notice(None, "the section 'sweep' is ignored: a run computes the workflow once"))
        error = self._run_plan(plan, began)
        plan = self._plan or plan
        for name, items in self._items.items():
            self._outputs[name] = [path for _, paths in sorted(items.items()) for path in paths]
        self._note_unchecked()
        status: Status = "done" if error is None else "cancelled" if isinstance(error, Cancelled) else "failed"
        for name in self._graph.nodes:
            if name not in self._reports:
                self._reports[name] = NodeReport(status="skipped", key=plan.known.key(name))
        if self._cache.store is not None:
            self._cache.store.finish()
        reports = {name: self._reports[name] for name in self._graph.nodes}
        seconds = time.perf_counter() - started
        self._write_record(status=status, error=error, began=began, seconds=seconds, reports=reports)
        self.emit(RunFinished(status, seconds))
        return Result(
            run=self._request.run,
            status=status,
            seconds=seconds,
            graph=self._graph,
            nodes=reports,
            outputs=self._outputs,
            notices=tuple(self._notices),
            error=error,
            _values=self._values,
            _load=self._cache.load,
            _load_stored=self._cache_of_engine.load,
            static_keys=plan.known.keys.static,
        )

    def _write_record(
        self, *, status: Status, error: NodegraphError | None, began: float, seconds: float, reports: dict[str, NodeReport]
    ) -> None:
        if self._request.records is None:
            return
        assert self._plan is not None  # it is made before
        is_numeric = any(node.spec.numeric for node in self._graph.nodes.values())
        record = RunRecord(
            run=self._request.run,
            graph=self._graph,
            document=self._document,
            status=status,
            error=error,
            started=began,
            seconds=seconds,
            numerics=self._context.numerics() if is_numeric else None,  # the keys needed it already
            reports=reports,
            outputs=self._outputs,
            overrides=self._request.overrides,
            targets=self._request.targets,
            out=None if self._request.out is None else self._request.directory / self._request.out,
            known=self._plan.known,  # of the last plan, if there were several
        )
        if self._cache.store is not None:
            self._cache.store.mark_directory()
        with gc_paused():
            record.write(self._request.records)

    def _note_unchecked(self) -> None:
        """Report which results were to be checked and could not be."""
        if self._verification is None or self._plan is None:
            return
        drawn, is_of_another = self._verification.nodes, self._verification.is_of_another_machine
        hits = self._plan.known.hits.items()
        names = [name for name, hit in hits if name in drawn and is_of_another(self._graph.nodes[name], hit)]
        if names:
            self.emit(
                Notice(
                    None,
                    f"not verified: {', '.join(names)}. Another kind of machine (or another number of threads) made these results, "
                    f"and may round in another way. Verify them there",
                )
            )

    def _run_plan(self, plan: Plan, began: float) -> NodegraphError | None:
        """Run the plan. Returns what ended the run early, or None."""
        try:
            self._prepare_outputs(plan, began)
            if next_decisions(self._graph):
                self._prepare_workers(plan)
                plan = self._decide(plan, began)
            self._schedule(plan)
        except NodegraphError as error:
            return error
        except KeyboardInterrupt:
            return Cancelled("the run was interrupted; what was finished is kept")
        return None

    def _prepare_outputs(self, plan: Plan, began: float) -> None:
        request = self._request
        if request.out is None:
            return
        self._writer = Writer(
            request.out,
            self._graph,
            self._cache,
            self._provenance,
            directory=request.directory,
            overwrite=request.overwrite,
            own=request.own_files,
        )
        self._writer.prepare(RunFacts(run=request.run, started=began, keys=plan.keys))
        self._outputs.update({name: [] for name in known_part(self._graph).lists})

    def _prepare_workers(self, plan: Plan) -> None:
        """Before values are computed that decide the graph: workers have to be able to run the rest, too."""
        workers = self._staff.workers
        if not workers.shares_memory and self._cache.store is not None:
            groups = TaskGroups(plan, TaskMaker(plan, self._cache, shares_memory=False), self._cache.codecs)
            demands = [*groups.demands(), *undecided_demands(self._graph, self._cache.codecs)]
            workers.prepare(demands, self._context.cancel)

    # --- values that decide the graph

    def _extend_plan(self) -> Plan:
        """The plan of what is known of the graph, which is built again for each value in the cache that decides it."""
        with gc_paused():
            self._graph, self._plan = with_cached_decisions(self._graph, self._plan_of, self._cache)
        self.__dict__.pop("_document", None)
        return self._plan

    def _plan_of(self, graph: Graph) -> Plan:
        done = self._done()
        verification = None
        if self._verification is not None:
            self._verification = self._verification.extended(graph, self._request.verify)
            verification = self._verification.without(done)
        return make_plan(
            graph,
            self._keys_of(graph),
            self._cache,
            self._request.force,
            done=done,
            carried=self._carried,
            verification=verification,
        )

    def _decide(self, plan: Plan, began: float) -> Plan:
        """Compute the values that decide the graph, and build it again, until all of it is known. Returns its plan.

        With `keep_going`, what depends on a value that cannot be computed is left out.
        """
        failed: set[Awaited] = set()
        while decisions := next_decisions(self._graph, failed):
            self._deciding = {name_of(decision): None for decision in decisions}
            try:
                self._schedule(self._plan_of(only_deciders(self._graph, decisions)))
            except NodeError:
                if not self._request.keep_going:
                    raise
            finally:  # what these values do not need may still be needed
                self._reports = {name: report for name, report in self._reports.items() if report.status != "pruned"}
            found, self._deciding = self._deciding, None
            values = {}
            for decision in decisions:
                snapshot = found[name_of(decision)]
                if snapshot is None:
                    failed.add(decision.awaited)
                else:
                    values[decision.awaited] = decided_value(decision, snapshot)
            if values:
                self._graph = decide(self._graph, values)
                plan = self._extend_plan()
                self._prepare_outputs(plan, began)
                self.emit(PlanExtended(plan))
        if failed:
            plan = self._plan = self._plan_of(known_part(self._graph))
        self._carried = {name: carried for name, carried in self._carried.items() if name in plan.needed}
        return plan

    def _carry(
        self,
        name: str,
        outcome: Outcome,
        *,
        digests: Mapping[str, str],
        is_keyed: bool,
        snapshot: Callable[[ResolvedLink], Snapshot],
    ) -> None:
        """Keep a result for the next plan: one that decides the graph, or that the cache does not have."""
        assert self._deciding is not None  # only then, results are carried
        decides = any(wanted.startswith(f"${name}.") for wanted in self._deciding)
        if outcome.stored and not decides:
            return
        spec = self._graph.nodes[name].spec
        ports = (port.name for port in spec.outputs if port.name in digests)
        values = outcome.values or {port: snapshot(ResolvedLink(name, port)) for port in ports}
        content = self._plan.known.content.get(name) if self._plan is not None else None
        computation = Computation(type=spec.name, workflow=self._graph.workflow, node=name, seconds=outcome.seconds)
        result = CachedResult(key=content or "", computation=computation, digests=digests, in_memory=values)
        self._carried[name] = Carried(
            result=result, content=content, stored=outcome.stored, keyed=is_keyed, depends=outcome.depends
        )

    def _done(self) -> set[str]:
        return {name for name, report in self._reports.items() if report.status in ("ran", "verified", "differed")}

    def _schedule(self, plan: Plan) -> None:
        """Run the plan. If a cached value is found to be gone, plan again with what is left.

        Raises CacheError if the same value is gone again and again.
        """
        losses: Counter[str] = Counter()
        self._plan = plan
        while True:
            try:
                scheduler = Scheduler(
                    plan=plan,
                    context=self._context,
                    staff=self._staff,
                    deliver=self._deliver,
                    reports=self._reports,
                    keep_going=self._request.keep_going,
                    inline=self._request.inline,
                    carry=None if self._deciding is None else self._carry,
                    failure=self._failure,
                )
                try:
                    scheduler.execute()
                finally:
                    self._failure = scheduler.failure
            except LostResultError as error:
                losses[str(error)] += 1
                if losses[str(error)] > MAX_LOSSES:
                    raise CacheError(
                        f"a result was computed and stored {MAX_LOSSES} times, and each time it could not be read: {error}. "
                        f"Give every worker the same cache directory, and stop other programs that remove files from it"
                    ) from error
                plan = self._plan = self._plan_of(plan.graph)
            else:
                return

    def _deliver(self, output: Output, stored: StoredValue | None, snapshot: Callable[[], Snapshot]) -> None:
        """Write an output, and keep its value for the result if it is not stored."""
        if self._deciding is not None:
            self._deciding[output.name] = snapshot()
            return
        self._values.pop(output.link, None)  # of an earlier pass, whose inputs may have been others
        if stored is None:
            self._values[output.link] = snapshot()

        if self._writer is None:
            return
        is_declared = output.name in self._graph.resolved.outputs
        if stored is None and not is_declared and self._cache.codec(snapshot().open()) is None:
            message = f"target '{output.name}' is {type(snapshot().open()).__name__}, which cannot be written to a file"
            self.emit(Notice(output.link.node, message))
            return
        paths = self._outputs[output.name] = self._writer.write(output, stored, snapshot)
        if output.index is not None:
            items = self._items.setdefault(output.name, {})
            items[output.index] = paths
            self._outputs[output.name] = []
        for path in paths:
            self.emit(OutputWritten(output.name, path))

    def _provenance(self, output: Output, data: bytes, content: Mapping[str, Any]) -> dict[str, str]:
        """The metadata of a file of an output that holds `data`, which `content` describes."""
        assert self._plan is not None  # nothing is written before the plan is made
        if not self._request.metadata:
            return {}
        own = provenance(
            self._request.run, self._graph, document=self._document, keys=self._plan.keys, files=self._files, output=content
        )
        hook, others = self._context.plugins.manager.hook.output_texts, dict[str, str]()
        if hook.get_hookimpls():
            try:
                for texts in hook(nodes=self._plain_nodes, node=output.link.node, data=data):
                    others |= texts or {}
            except Exception as error:
                self.emit(Notice(None, f"a plugin's output_texts failed: {type(error).__name__}: {error}"))
        return others | own

    @cached_property
    def _plain_nodes(self) -> Mapping[str, Mapping[str, Any]]:
        return plain_nodes(self._graph)

    @cached_property
    def _document(self) -> str:
        from nodegraph.workflow.dump import dump

        return dump(whole_workflow(self._graph), all_values=False)

    @cached_property
    def _files(self) -> Mapping[str, Mapping[str, str]]:
        """The digests of the files that nodes read: those in their keys."""
        assert self._plan is not None  # nothing is written before the plan is made
        known = {path: digest for files in self._plan.known.keys.files.values() for path, digest in files.items()}
        return recorded_files(self._graph, lambda path: known.get(path) or self._context.files.sha256(path))


def execute(request: RunRequest, context: RunContext, staff: Staff, keys_of: Callable[[Graph], Keys]) -> Result:
    """Run what is asked for. With NODEGRAPH_STALL, a run without progress prints what every thread does."""
    look_again_later()
    seconds = load_stall_seconds()
    watching: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if seconds is not None:
        from nodegraph.run.workers.stall import StallWatch

        watch = StallWatch(request.run, seconds)
        context, watching = replace(context, emit=watch.noting(context.emit)), watch.watching()
    with watching:
        return Session(request, context, staff).execute(keys_of)
