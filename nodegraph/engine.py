"""The engine: it checks, plans and runs workflows."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, Unpack

from nodegraph.cache.cache import Cache
from nodegraph.cache.file_digests import FileDigests
from nodegraph.cache.keys import KeyMaker, Keys
from nodegraph.cache.store.opening import open_store
from nodegraph.errors import NodegraphError, Problem, SettingsError, WorkflowError
from nodegraph.files import file_states
from nodegraph.gc_pause import gc_paused
from nodegraph.graph.build import build_graph
from nodegraph.graph.graph import Graph
from nodegraph.graph.load import load_workflow
from nodegraph.graph.overrides import Override, all_overrides
from nodegraph.node_types.fetching import expecting, without_fetching
from nodegraph.plugins.backend import AUTO, Numerics
from nodegraph.plugins.code.running import note_use_of_engine
from nodegraph.plugins.manager import Plugins, plugin_folders
from nodegraph.run.deciding import with_cached_decisions
from nodegraph.run.device import check_names, kind_of_machine, resolve
from nodegraph.run.events import Event, Notice
from nodegraph.run.handle import BackgroundRun, RunHandle, Runs, result_or_error
from nodegraph.run.lock.expected import expected_by
from nodegraph.run.model_memory import ModelMemory
from nodegraph.run.options import Options, RunOptions, WorkflowSource, names_of, path_of
from nodegraph.run.outputs.names import file_names
from nodegraph.run.outputs.own_files import OwnFiles
from nodegraph.run.plan import Plan, make_plan
from nodegraph.run.record import last_forms, new_run_id, usual_times
from nodegraph.run.result import Result
from nodegraph.run.session import RunRequest, execute
from nodegraph.run.tasks.task import CancelFlag, RunContext
from nodegraph.run.workers.dispatcher import Staff
from nodegraph.run.workers.jobs import Jobs
from nodegraph.run.workers.setup import WorkerSetup
from nodegraph.run.workers.threads import ThreadWorkers
from nodegraph.settings import load_model_memory, load_remote, load_settings, load_verify_share
from nodegraph.workflow.handles import Handle
from nodegraph.workflow.workflow import Workflow

if TYPE_CHECKING:
    from nodegraph.run.explain import Explained
    from nodegraph.run.lock.lock_file import Lock
    from nodegraph.run.workers.protocol import OtherProcesses

__all__ = ["DEFAULT", "Engine", "Result", "RunHandle"]


class _Default:
    def __repr__(self) -> str:
        return "DEFAULT"


DEFAULT: Final = _Default()
"""The cache directory that the settings name."""


class Engine:
    """Runs workflows and keeps their results. May be shared between threads.

    `cache_dir` is the folder in which results outlive the process. `cache_size` is how much of them remains at the end of a run:
    bytes, or text such as "20 GB" or "unlimited". `nodegraph.settings` supplies what is not given. With `cache_dir` None, results
    stay in memory. `device` and `dtype` say where and in which precision tensors are computed; "auto" lets the machine decide.
    Plugins come from entry points, from `plugin_dirs` and from NODEGRAPH_PLUGIN_DIR, unless `plugins` is given. `on_event` receives
    the events of every run (see `nodegraph.run.events`), in the threads in which they happen. `model_memory` is how much memory
    loaded models may occupy between nodes and runs, as bytes or text; by default NODEGRAPH_MODEL_MEMORY, or half of the machine's.
    `cache_remote` is the address of a store that several machines share, such as "s3://bucket/prefix", or "none"; by default
    NODEGRAPH_CACHE_REMOTE, or none.
    `workers` are processes that nodes run in, such as `nodegraph.RayWorkers`; without them, nodes run in threads of this process.

    Runs that go on at the same time share models and results. A node that several of them need runs once. One numeric node runs
    at a time.
    """

    def __init__(
        self,
        cache_dir: Path | str | _Default | None = DEFAULT,
        device: str = AUTO,
        dtype: str = AUTO,
        plugin_dirs: Sequence[Path | str] = (),
        on_event: Callable[[Event], None] | None = None,
        plugins: Plugins | None = None,
        cache_size: int | str | None = None,
        model_memory: int | str | None = None,
        cache_remote: str | None = None,
        workers: OtherProcesses | None = None,
    ) -> None:
        settings = None if cache_dir is None else load_settings(None if isinstance(cache_dir, _Default) else cache_dir, cache_size)
        self.cache_dir = None if settings is None else settings.cache_dir
        self.device, self.dtype = str(device), str(dtype)  # libraries have objects for them, too
        note_use_of_engine()
        self.plugins = Plugins(plugin_folders(plugin_dirs)) if plugins is None else plugins
        check_names(self.plugins.backend, self.device, self.dtype)
        self._on_event = on_event
        self._settings, self._model_memory, self._workers = settings, load_model_memory(model_memory), workers
        self._remote = None if settings is None else load_remote(cache_remote, "cache_remote")
        self._set_up()
        _engines.add(self)

    def _set_up(self) -> None:
        """Make what the runs share."""
        settings = self._settings
        store = None if settings is None else open_store(settings, self._remote, warn=self._warn)
        self._files = FileDigests(self._within("files.jsonl"))
        self.cache = Cache(self.plugins.codecs, store, version=self.plugins.backend.version, files=self._files)
        self._models = ModelMemory(self.plugins.backend, self._model_memory)
        threads = ThreadWorkers()
        self._staff = Staff(workers=threads, local=threads, jobs=Jobs())
        self._runs = Runs()
        if (workers := self._workers) is not None:
            self._runs = Runs(lambda: workers.parallel)
            self._connect(workers, threads)

    def _connect(self, workers: OtherProcesses, threads: ThreadWorkers) -> None:
        if self.cache_dir is None:
            raise SettingsError(
                "[E401] workers in other processes need a cache folder, through which values pass. Leave out cache_dir=None"
            )
        setup = WorkerSetup(
            cache_dir=self.cache_dir.absolute(),
            remote=self._remote,
            plugin_dirs=tuple(folder.absolute() for folder in self.plugins.folders),
            device=self.device,
            dtype=self.dtype,
            model_memory=self._model_memory,
        )
        context = replace(self._context(_drop, CancelFlag(), lambda: True), numerics=self._own_numerics())
        workers.connect(setup, context=context, local=threads, notify=self._emit)
        self._staff = replace(self._staff, workers=workers)

    def __repr__(self) -> str:
        cache = "results in memory" if self.cache_dir is None else f"cache {self.cache_dir}"
        return f"<Engine: device {self.device}, dtype {self.dtype}, {cache}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def workflow(self, name: str = "workflow", description: str = "", *, base: Path | None = None) -> Workflow:
        """A new workflow that knows this engine's node types. An unknown type, input or port fails at the line that names it."""
        return Workflow(name, description, base=base, plugins=self.plugins)

    def check(self, workflow: WorkflowSource, params: Mapping[str, Any] | None = None, overrides: Sequence[Override] = ()) -> Graph:
        """The checked graph of `workflow`. Raises WorkflowError with every mistake.

        Runs nothing, reads no weights and does not use the network: the graph's `not_fetched` lists what a run has to fetch.
        """
        with without_fetching():
            return self._checked(workflow, params, overrides, None)

    def plan(
        self,
        workflow: WorkflowSource,
        params: Mapping[str, Any] | None = None,
        overrides: Sequence[Override] = (),
        targets: Iterable[Handle | str] | None = None,
        force: Sequence[str] = (),
    ) -> Plan:
        """What `run` would do. Raises WorkflowError. Does not use the network, as `check` does not."""
        with without_fetching():
            graph = _with_outputs(self._checked(workflow, params, overrides, targets))
            cache = self.cache.for_run(self._warn)
            forced = names_of(force)
            _, plan = with_cached_decisions(graph, lambda known: make_plan(known, self._keys(known), cache, forced), cache)
        plan.known.free_values([*plan.known.hits])
        return plan

    def explain(self, plan: Plan | WorkflowSource) -> list[Explained]:
        """Why each node of a plan, or of the plan of a workflow, would run: what differs from its last run in this cache."""
        from nodegraph.run.explain import explain

        plan = plan if isinstance(plan, Plan) else self.plan(plan)
        runs = self._within("runs")
        return explain(plan, {} if runs is None else last_forms(runs, plan.graph.workflow, plan.graph.nodes.keys()))

    def facts(self, graph: Graph) -> Lock:
        """What the results of a checked graph depend on: its inputs, the files that it reads, versions, the class of results."""
        from nodegraph.run.lock.facts import facts_of

        return facts_of(graph, self.plugins, digest=self._files.sha256, numerics=lambda: self._numerics()().name)

    def locked_graph(
        self,
        workflow: WorkflowSource,
        overrides: Sequence[Override] = (),
        targets: Iterable[Handle | str] | None = None,
        *,
        locked: bool | Path | str = True,
    ) -> tuple[Graph, list[Override]]:
        """The checked graph of `workflow`, and what gives it the seeds that were drawn when it was locked; see `run`.

        Fetches what a run fetches. Raises WorkflowError, and LockError unless all is as the lock file says.
        """
        from nodegraph.run.lock.locked import lock_of, require_same

        graph = self._checked(workflow, None, overrides, targets)
        lock = lock_of(graph, locked)
        seeds = [Override(name, lock.seeds[name]) for name in graph.seeds if name in lock.seeds]
        graph = self._checked(workflow, None, [*overrides, *seeds], targets)
        require_same(lock, self.facts(graph))
        return graph, seeds

    def digest(self, path: Path) -> str:
        """The SHA-256 of a file, which is remembered as long as the file stays the same. Raises OSError."""
        return self._files.sha256(path)

    def run(
        self,
        workflow: WorkflowSource,
        *,
        params: Mapping[str, Any] | None = None,
        overrides: Sequence[Override] = (),
        targets: Iterable[Handle | str] | None = None,
        force: Sequence[str] = (),
        out: Path | str | None = None,
        overwrite: bool = False,
        keep_going: bool = False,
        verify: float | None = None,
        own_files: OwnFiles | None = None,
        locked: bool | Path | str = False,
        metadata: bool = True,
        graph: Graph | None = None,
        raise_errors: bool = True,
    ) -> Result:
        """Compute the outputs of `workflow`, which may be the path of a file.

        `targets` ("node", "node.port", the name of an output, or handles) are computed instead of the outputs. `params` and
        `overrides` change params ("seed") and inputs of nodes ("sampled.steps"). Nodes in `force`, and those below them, run
        whatever the cache holds. Outputs are written below the folder `out`; without it nothing is written. A file there with
        other content is kept, and the output gets a number, as in `x-2`; with `overwrite`, it is replaced, and so is one of
        `own_files`, to which what is written is added. With `keep_going`,
        a node that fails stops only the nodes below it. `verify` is the share of cached results, from 0 to 1, that is computed
        again and compared; default: NODEGRAPH_VERIFY, or 0. The result's `verified` and `differed` name these nodes. If one
        differs, the computed result is used and stored, and a notice says what was wrong. With `locked`, nothing runs unless all
        is as the lock file of the workflow's file says, or the one that `locked` names; seeds are drawn as they were then. Without
        `metadata`, files do not say how they were made. `graph` is what `check` returned for the same workflow and values: it is
        built again only if it is not complete, or if a file that it reads has changed since.

        Raises WorkflowError, DeviceError or LockError before anything runs, then NodeError, OutputError or Cancelled. With
        `raise_errors=False`, an error during the run is in the result's `error` instead.
        """
        options = Options(
            params=params,
            overrides=overrides,
            targets=targets,
            force=force,
            out=out,
            overwrite=overwrite,
            keep_going=keep_going,
            verify=verify,
            own_files=own_files,
            locked=locked,
            metadata=metadata,
            graph=graph,
        )
        cancel = CancelFlag()
        with self._runs.active(cancel) as overlapped:
            request = self._request(workflow, new_run_id(), inline=True, options=options)
            result = self._execute(request, self._context(self._emitter(), cancel, overlapped))
        return result_or_error(result, raise_errors)

    def start(self, workflow: WorkflowSource, *, raise_errors: bool = True, **options: Unpack[RunOptions]) -> RunHandle:
        """Begin a run in the background; the options are those of `run`. The workflow may be changed afterwards.

        The handle's `result` raises what `run` would raise. Raises RuntimeError if the engine is closed.
        """
        return RunHandle(self._begin(workflow, Options(**options), raise_errors=raise_errors))

    async def arun(self, workflow: WorkflowSource, *, raise_errors: bool = True, **options: Unpack[RunOptions]) -> Result:
        """Run as a coroutine; the options are those of `run`.

        If its task is cancelled, the run is cancelled too, and the coroutine waits until it has ended.
        """
        background = self._begin(workflow, Options(**options), raise_errors=raise_errors)
        return await background.wait()

    def cancel(self) -> None:
        """Stop every run of this engine at its next step or node. May be called from any thread or a signal handler."""
        self._runs.cancel()

    @contextlib.contextmanager
    def sequence(self) -> Iterator[CancelFlag]:
        """Several runs that follow each other. Yields a flag that is set if `cancel` is called meanwhile, also between two runs."""
        cancel = CancelFlag()
        with self._runs.sequence(cancel):
            yield cancel

    def finish_uploads(self, show: Callable[[int], None] = lambda left: None) -> None:
        """Wait until the results of runs are in the shared store, or it has refused them; nothing without one.

        They are written in the background, and a process waits for it before it ends. `show` is called about once a second with
        how many are left.
        """
        if self.cache.store is not None:
            self.cache.store.flush(show)

    def close(self) -> None:
        """Cancel the runs that go on, wait until they have ended, and free models and results in memory.

        If there is a shared store, the results are in it then. Afterwards `run` and `start` raise RuntimeError.
        """
        self._runs.close()
        if self._workers is not None:
            self._workers.close()
        self.finish_uploads()
        self._models.clear()
        self.cache.free()

    def _checked(
        self,
        workflow: WorkflowSource,
        params: Mapping[str, Any] | None,
        overrides: Sequence[Override],
        targets: Iterable[Handle | str] | None,
    ) -> Graph:
        note_use_of_engine()
        self.plugins.require_sound()
        changes = all_overrides(params, overrides)
        with gc_paused():
            if not isinstance(workflow, Workflow):
                workflow = load_workflow(path_of(workflow), self.plugins, changes)
            if workflow.recorded is not None:
                workflow.recorded.digest = self._files.sha256
            with expecting(expected_by(workflow.file)):
                graph = build_graph(workflow, self.plugins, changes, names_of(targets))
            file_names(graph, self.plugins.codecs)
        return graph

    def compute(self, workflow: WorkflowSource, **options: Unpack[RunOptions]) -> RunHandle:
        """Begin a run in the background of which only the results in the cache are wanted: it has no events and no record.

        Its handle raises no error of the run; whoever needs the results runs the workflow.
        """
        return RunHandle(self._begin(workflow, Options(**options), raise_errors=False, is_silent=True))

    @property
    def parallel(self) -> int:
        """How many runs the workers can serve at once: 1 in this process."""
        return 1 if self._workers is None else self._workers.parallel

    def _begin(self, workflow: WorkflowSource, options: Options, *, raise_errors: bool, is_silent: bool = False) -> BackgroundRun:
        """Begin a run in the background. If the workflow is wrong, the run has failed already."""
        background = BackgroundRun(new_run_id(), raise_errors=raise_errors)
        try:
            request = self._request(workflow, background.run, inline=False, options=options)
            if is_silent:
                request = replace(request, records=None)
        except NodegraphError as error:
            background.end(error)
            return background

        listen = _drop if is_silent else self._emitter()

        def emit(event: Event) -> None:
            background.log.add(event)
            listen(event)

        def work(overlapped: Callable[[], bool]) -> None:
            background.execute(lambda: self._execute(request, self._context(emit, background.cancel_flag, overlapped)))

        self._runs.start(background.cancel_flag, work)
        return background

    def _request(self, workflow: WorkflowSource, run: str, *, inline: bool, options: Options) -> RunRequest:
        """What to run. Raises WorkflowError, and SettingsError if `verify` is not a share."""
        verify = load_verify_share(options.verify)
        targets = names_of(options.targets)
        overrides = all_overrides(options.params, options.overrides)
        graph = options.graph
        if options.locked is not False:
            graph, seeds = self.locked_graph(workflow, overrides, targets, locked=options.locked)
            overrides += seeds
        elif graph is None or not _is_current(graph):
            graph = self._checked(workflow, None, overrides, targets)
        return RunRequest(
            run=run,
            graph=_with_outputs(graph),
            overrides={override.name: override.value for override in overrides},
            targets=targets,
            force=names_of(options.force),
            out=None if options.out is None else Path(options.out),
            overwrite=options.overwrite,
            metadata=options.metadata,
            own_files=options.own_files,
            directory=Path() if options.out is None else Path().absolute(),
            records=self._within("runs"),
            keep_going=options.keep_going,
            verify=verify,
            inline=inline,
        )

    def _execute(self, request: RunRequest, context: RunContext) -> Result:
        return execute(request, context, self._staff, lambda graph: self._keys(graph, context.numerics))

    def _context(self, emit: Callable[[Event], None], cancel: CancelFlag, overlapped: Callable[[], bool]) -> RunContext:
        return RunContext(
            cache=self.cache,
            plugins=self.plugins,
            files=self._files,
            models=self._models,
            numerics=self._numerics(),
            emit=emit,
            machine=kind_of_machine(self.plugins.backend),
            cancel=cancel,
            overlapped=overlapped,
        )

    def _keys(self, graph: Graph, numerics: Callable[[], Numerics] | None = None) -> Keys:
        numerics = numerics or self._numerics()
        plugins = self.plugins
        assert plugins.with_code  # otherwise different code would have the same keys
        maker = KeyMaker(
            self._files.sha256,
            lambda: numerics().name,
            plugins.is_unchanged,
            plugins.codecs.stored_name_of_type,
            chosen_state=plugins.chosen_state(),
            choice=plugins.choice,
        )
        return maker.static_keys(graph)

    def _numerics(self) -> Callable[[], Numerics]:
        """What device and dtype mean in one run. Settings of the process may differ in the next."""
        workers, own = self._workers, self._own_numerics()
        return own if workers is None else functools.cache(lambda: workers.numerics(own))

    def _own_numerics(self) -> Callable[[], Numerics]:
        memo = self._within("numerics.json")
        return functools.cache(lambda: resolve(self.plugins.backend, self.device, self.dtype, memo))

    def _within(self, name: str) -> Path | None:
        return None if self.cache_dir is None else self.cache_dir / name

    def _emitter(self) -> Callable[[Event], None]:
        """What one run calls with its events. In a notebook they are shown below the cell, unless the program receives them."""
        if self._on_event is not None or "IPython" not in sys.modules:
            return self._emit
        from nodegraph.run.display.notebook import is_notebook, notebook_progress

        if not is_notebook():
            return self._emit
        show = notebook_progress(lambda plan: usual_times(plan, self._within("runs")))

        def emit(event: Event) -> None:
            show(event)
            self._emit(event)

        return emit

    def _emit(self, event: Event) -> None:
        if self._on_event is not None:
            self._on_event(event)
        elif isinstance(event, Notice) and event.node is None:
            warnings.warn(event.message, RuntimeWarning, stacklevel=2)  # trouble with the cache, and there is no listener
        hook = self.plugins.manager.hook.on_event
        if not hook.get_hookimpls():
            return
        try:
            hook(event=event)
        except Exception as error:
            warnings.warn(f"a plugin's on_event failed: {type(error).__name__}: {error}", RuntimeWarning, stacklevel=2)

    def _warn(self, message: str) -> None:
        """Report trouble with the cache directory outside a run."""
        self._emit(Notice(None, message))


def _drop(event: Event) -> None:
    """Nobody listens."""


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


def _set_up_in_child() -> None:
    """Set engines up again in a forked child: it has no threads and no runs of its parent, and what these locked stays locked."""
    for engine in tuple(_engines):
        if not engine._runs.is_closed:
            engine._workers = None  # they are its parent's
            engine._set_up()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_set_up_in_child)


def _is_current(graph: Graph) -> bool:
    """Whether a graph that was checked earlier can run as it is: nothing of it is open, and no file that it reads has changed."""
    if graph.seeds or graph.undecided is not None or graph.not_fetched:
        return False
    return all(not value.states or file_states(value.states) == value.states for value in graph.read_values())


def _with_outputs(graph: Graph) -> Graph:
    if not graph.outputs and not graph.lists and (graph.undecided is None or not graph.undecided.outputs):
        message = f"workflow '{graph.workflow}' has no outputs, so there is nothing to run"
        raise WorkflowError([Problem("E115", message, None, "Add one, or name a node as target.")])
    return graph
