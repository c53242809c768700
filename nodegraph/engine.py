"""The engine: workflows in, results out."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from nodegraph.cache.cache import Cache
from nodegraph.cache.file_digests import Fingerprints
from nodegraph.cache.keys import KeyMaker, Keys
from nodegraph.cache.store.store import Store
from nodegraph.errors import Problem, WorkflowError
from nodegraph.graph.build import build_graph
from nodegraph.graph.graph import Graph
from nodegraph.graph.overrides import Override
from nodegraph.plugins.backend import AUTO, Numerics
from nodegraph.plugins.manager import Plugins, load_plugins
from nodegraph.run.device import kind_of_machine, resolve
from nodegraph.run.events import Event, Notice
from nodegraph.run.explain import Explained, explain
from nodegraph.run.gc_pause import without_collector
from nodegraph.run.model_memory import Residents
from nodegraph.run.outputs import file_names
from nodegraph.run.plan import Plan, make_plan
from nodegraph.run.record import last_forms
from nodegraph.run.result import Result
from nodegraph.run.run_node import Surroundings
from nodegraph.run.session import Session
from nodegraph.settings import load as load_settings
from nodegraph.settings import load_model_memory
from nodegraph.workflow.workflow import Handle, NodeHandle, PortHandle, Workflow, link_of

__all__ = ["DEFAULT", "Engine", "Result"]


class _Default:
    def __repr__(self) -> str:
        return "DEFAULT"


DEFAULT: Final = _Default()
"""Stands for the user's own cache directory."""


class Engine:
    """Runs workflows, and keeps what they compute.

    `cache_dir` is where results outlive the process, and `cache_size` how much is left of them at the end of a run: bytes, or text
    such as "20 GB" or "unlimited"; without these, `nodegraph.settings` says. With `cache_dir` None, results stay in memory.
    `device` and `dtype` say where and in what tensors are computed; "auto" takes what is there. Plugins are found by entry points,
    in `plugin_dirs` and in NODEGRAPH_PLUGIN_DIR, unless `plugins` brings them. `on_event` hears what happens during a run
    (see `nodegraph.run.events`). `model_memory` is how much of loaded models stays in main memory between nodes and runs, as bytes
    or text; without it, NODEGRAPH_MODEL_MEMORY says, or it is half of the machine's.
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
    ) -> None:
        settings = None if cache_dir is None else load_settings(None if isinstance(cache_dir, _Default) else cache_dir, cache_size)
        self.cache_dir = None if settings is None else settings.cache_dir
        self.device, self.dtype = device, dtype
        self.plugins = load_plugins(plugin_dirs) if plugins is None else plugins
        store = None if settings is None else Store(settings.cache_dir, warn=self._warn, limit=settings.cache_size)
        self.cache = Cache(self.plugins.codecs, store)
        self._on_event = on_event
        self._files = Fingerprints(self._within("files.jsonl"))
        self._residents = Residents(self.plugins.backend, load_model_memory(model_memory))
        self._cancelled = threading.Event()
        self._numerics: Numerics | None = None
        self._session: Session | None = None

    def check(self, workflow: Workflow, params: Mapping[str, Any] | None = None, overrides: Sequence[Override] = ()) -> Graph:
        """The checked graph of `workflow`. Raises WorkflowError with every mistake; runs nothing and reads no weights."""
        return self._checked(workflow, params, overrides, None)

    def plan(
        self,
        workflow: Workflow,
        params: Mapping[str, Any] | None = None,
        overrides: Sequence[Override] = (),
        targets: Iterable[Handle | str] | None = None,
        force: Sequence[str] = (),
    ) -> Plan:
        """What `run` would do, without doing it. Raises WorkflowError."""
        graph = _wanting(self._checked(workflow, params, overrides, targets))
        return make_plan(graph, self._keys(graph), self.cache, force)

    def explain(self, plan: Plan) -> list[Explained]:
        """Why each node of a plan would run: what differs from the last run of the same workflow in this cache."""
        runs = self._within("runs")
        return explain(plan, {} if runs is None else last_forms(runs, plan.graph.workflow, plan.graph.nodes.keys()))

    def run(
        self,
        workflow: Workflow,
        *,
        params: Mapping[str, Any] | None = None,
        overrides: Sequence[Override] = (),
        targets: Iterable[Handle | str] | None = None,
        force: Sequence[str] = (),
        out: Path | str | None = None,
        keep_going: bool = False,
        raise_errors: bool = True,
    ) -> Result:
        """Compute the outputs of `workflow`, or `targets` ("node", "node.port", an output's name, or handles) in their place.

        `params` gives params ("seed") and node inputs ("sampled.steps") other values. Nodes in `force`, and those below them, run
        whatever the cache holds. Outputs are written below the folder `out`; without it nothing is written. With `keep_going`, a
        node that fails stops only what is below it.

        Raises WorkflowError before anything runs, then NodeError, OutputError, or Cancelled; with `raise_errors=False` what went
        wrong during the run is in the result's `error` instead.
        """
        self._cancelled.clear()
        graph = _wanting(self._checked(workflow, params, overrides, targets))
        folder = None if out is None else Path(out)
        self._session = Session(graph, force, folder, self._surroundings(), self._within("runs"), keep_going)
        try:
            result = self._session.execute(self._keys)
        finally:
            self._session = None
        if raise_errors and result.error is not None:
            raise result.error
        return result

    def cancel(self) -> None:
        """Stop the run that goes on, from another thread or a signal handler: at its next step or node."""
        self._cancelled.set()

    def _checked(
        self,
        workflow: Workflow,
        params: Mapping[str, Any] | None,
        overrides: Sequence[Override],
        targets: Iterable[Handle | str] | None,
    ) -> Graph:
        self.plugins.require_sound()
        given = [Override(name, value) for name, value in (params or {}).items()]
        with without_collector():
            graph = build_graph(workflow, self.plugins, [*given, *overrides], [_target(target) for target in targets or ()])
            file_names(graph, self.plugins.codecs)
        return graph

    def _keys(self, graph: Graph) -> Keys:
        self._numerics = None  # what a process has set in its library may be another than in an earlier run
        return KeyMaker(self._files.sha256, lambda: self._resolve().name).static(graph)

    def _resolve(self) -> Numerics:
        """What device and dtype mean, asked when first needed."""
        if self._numerics is None:
            memo = self._within("numerics.json")
            self._numerics = resolve(self.plugins.backend, self.device, self.dtype, memo)
        return self._numerics

    def _surroundings(self) -> Surroundings:
        backend = self.plugins.backend
        machine = kind_of_machine(backend)
        return Surroundings(
            self.cache,
            backend,
            self._files,
            self._residents,
            self._resolve,
            self._emit,
            self._cancelled,
            self.plugins.owner,
            machine,
        )

    def _within(self, name: str) -> Path | None:
        return None if self.cache_dir is None else self.cache_dir / name

    def _emit(self, event: Event) -> None:
        if self._on_event is not None:
            self._on_event(event)
        elif isinstance(event, Notice) and event.node is None:
            warnings.warn(event.message, RuntimeWarning, stacklevel=2)  # trouble with the cache, and nobody listens
        hook = self.plugins.manager.hook.on_event
        if not hook.get_hookimpls():
            return
        try:
            hook(event=event)
        except Exception as error:
            warnings.warn(f"a plugin's on_event failed: {type(error).__name__}: {error}", RuntimeWarning, stacklevel=2)

    def _warn(self, message: str) -> None:
        """Something is wrong with the cache directory."""
        if self._session is not None:
            self._session.emit(Notice(None, message))
        else:
            self._emit(Notice(None, message))


def _target(target: Handle | str) -> str:
    if isinstance(target, NodeHandle | PortHandle):
        link = link_of(target)
        return f"{link.node}.{link.port}" if link.port is not None else link.node
    return target


def _wanting(graph: Graph) -> Graph:
    if not graph.outputs:
        message = f"workflow '{graph.workflow}' has no outputs, so there is nothing to run"
        raise WorkflowError([Problem("E115", message, None, "Add one, or name a node as target.")])
    return graph
