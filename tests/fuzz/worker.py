"""A process that runs fuzzed graphs, one group after another, and checks every value that it receives."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import shutil
import signal
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any, Final

from nodegraph import Engine, Workflow
from nodegraph.errors import CacheError, Cancelled
from nodegraph.plugins.manager import Plugins
from nodegraph.run.events import Event
from nodegraph.run.result import Result
from tests.fuzz.checks import UNKNOWN, Meaning
from tests.fuzz.graphs import Graph, Input, Link, Literal, ReadFile, Several, make_graph
from tests.fuzz.kills import end_at_write
from tests.fuzz.mutants import MUTANTS
from tests.fuzz.surroundings import Actor, Mark, Surroundings
from tests.fuzz.trouble import FAILURE, identity
from tests.fuzz.values import has_model, plain, spoil

GROUP: Final = 4
"""How many graphs run one after another, or at the same time, with the same trouble."""

AT_ONCE_SHARE: Final = 0.3
"""The share of groups whose graphs run at the same time."""

SECOND_ROUND_SHARE: Final = 0.25
"""The share of groups that run twice, with other trouble or none."""

SPOILED_VALUES: Final = 2
"""How many values of a result are changed at most, as its caller may, and read again."""

STALL_SECONDS: Final = 120
"""A group that takes longer hangs: the stacks of all threads are written down."""

EXPECTED_ERRORS: Final = (
    FAILURE,
    "memory ran out",
    "it returned",
    "among its",
    "expected float32",
    "changed its input",
    "changed a model",
    "was changed during the run",
    "it was changed in place",
    "the run was stopped",
)
"""What is in the messages of errors that trouble causes."""


DELIVERED: Final = ("ran", "cached", "verified", "differed")


@dataclass(frozen=True, kw_only=True)
class Task:
    """Groups to run with one cache directory. `trimmed`: it is small, and files disappear from it."""

    groups: tuple[int, ...]
    cache: Path
    trimmed: bool


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a worker needs to start. `mutant` names the fault to put into the engine.

    After `writes` writes to files whose paths begin with `caches`, the worker ends itself; None: it does not.
    """

    folder: Path
    mutant: str | None = None
    caches: str = ""
    writes: int | None = None


@dataclass(kw_only=True)
class Report:
    """What a worker found in a group."""

    counts: Counter[str] = field(default_factory=Counter)
    differences: list[dict[str, Any]] = field(default_factory=list)


class Worker:
    """Runs groups with engines that live as long as their cache directory."""

    def __init__(self, plugins: Plugins, folder: Path) -> None:
        self._plugins = plugins
        self._module: Any = plugins.manager.get_plugin("fuzzed")
        self._types: Mapping[str, Any] = self._module.TYPES
        self._trouble = self._module.TROUBLE
        self.surroundings = Surroundings(folder)
        self._trouble.change_file = self.surroundings.change_file
        self._engine: Engine | None = None
        self._in_memory: Engine | None = None
        self._made: set[str] = set()  # content keys that this process stored
        self._trimmed = False
        self.report = Report()

    def use(self, cache: Path, *, trimmed: bool) -> None:
        """Go on with another cache directory."""
        if self._engine is not None and self._engine.cache_dir == cache:
            return
        self.close()
        self._trimmed = trimmed
        self._made.clear()
        size = "300 KB" if trimmed else "unlimited"
        self._engine = self._make_engine(cache, cache_size=size)
        self._in_memory = self._make_engine(None)
        self._in_memory.cache.memory._with_codec._limit = 100_000

    def close(self) -> None:
        """End the engines."""
        for engine in filter(None, (self._engine, self._in_memory)):
            engine.close()

    def rehearse(self, graphs: int) -> None:
        """Run graphs of nodes without trouble, in this thread and in the background."""
        assert self._engine is not None
        assert self._in_memory is not None
        self._trouble.begin(None, single=True, spoiling=False)
        for seed in range(graphs):
            workflow, _ = self._workflow(make_graph(seed, self._types))
            engine = self._in_memory if seed % 4 == 0 else self._engine
            targets = [_name(graph, link) for graph in [make_graph(seed, self._types)] for link in graph.targets]
            for result in (engine.run(workflow, targets=targets), engine.start(workflow, targets=targets).result()):
                for target in targets:
                    plain(result[target])
        self._trouble.end()

    def _make_engine(self, cache: Path | None, **options: Any) -> Engine:
        return Engine(cache, plugins=self._plugins, on_event=self._receive, model_memory="100 KB", **options)

    def _receive(self, event: Event) -> None:
        pass

    def group(self, number: int) -> None:
        """Run the graphs of a group, and check what they deliver."""
        random = Random(f"group {number}")
        assert self._engine is not None
        assert self._in_memory is not None
        engine = self._in_memory if random.random() < 0.12 else self._engine
        graphs = [make_graph(seed, self._types) for seed in range(number * GROUP, (number + 1) * GROUP)]
        self.report.counts["graphs"] += len(graphs)
        at_once = random.random() < AT_ONCE_SHARE
        rounds = 1 + (random.random() < SECOND_ROUND_SHARE)
        before = Path.cwd()
        for i in range(rounds):
            has_trouble = i == 0 or random.random() < 0.5
            self._trouble.begin(
                f"{number} {i}" if has_trouble else None, single=not at_once, spoiling=has_trouble and random.random() < 0.5
            )
            actions = self._actions(engine, random) if random.random() < 0.35 else []
            with Actor(actions, Random(random.random())), _outer_switches(random):
                if at_once:
                    self._run_at_once(engine, graphs, random, place=f"{number} {i}", calm=not has_trouble and not actions)
                else:
                    for graph in graphs:
                        if random.random() < 0.2:
                            self.surroundings.change_file(random)
                        self._run(engine, graph, random, calm=not has_trouble and not actions)
            self._trouble.end()
            if random.random() < 0.3:
                self.surroundings.change_value(random)
            if random.random() < 0.4:
                self.surroundings.change_file(random)
            self._check_switches(number)
        os.chdir(before)
        os.environ.pop("FUZZED", None)
        if random.random() < 0.3:
            self.surroundings.forget()

    # --- runs

    def _run(self, engine: Engine, graph: Graph, random: Random, *, calm: bool) -> None:
        self._attempt(engine, graph, random, calm)()

    def _run_at_once(self, engine: Engine, graphs: list[Graph], random: Random, *, place: str, calm: bool) -> None:
        for finish in [self._attempt(engine, graph, random, calm, background=True) for graph in graphs]:
            finish()

    def _attempt(self, engine: Engine, graph: Graph, random: Random, calm: bool, *, background: bool = False) -> Callable[[], None]:
        """Begin a run. Returns a function that waits for its end and checks it."""
        mark = self.surroundings.mark()
        workflow, at_start = self._workflow(graph)
        options: dict[str, Any] = {
            "targets": [_name(graph, link) for link in graph.targets],
            "keep_going": random.random() < 0.5,
            "force": [name for name in graph.names.values() if random.random() < 0.3] if random.random() < 0.08 else [],
            "raise_errors": False,
            "verify": 0.5 if random.random() < 0.08 else 0.0,
        }
        own = Random(random.random())
        if background or own.random() < 0.15:
            handle = engine.start(workflow, **options)
            if own.random() < 0.1:
                threading.Timer(own.random() / 100, handle.cancel).start()
            wait: Callable[[], Result] = handle.result
            calm = False
        else:
            result_or_error = _outcome(lambda: engine.run(workflow, **options))

            def wait() -> Result:
                return result_or_error()

        def finish() -> None:
            self.report.counts["runs"] += 1
            try:
                result = wait()
            except Exception as error:
                if not isinstance(error, Cancelled):
                    self._differs(graph, "raised", error=f"{type(error).__name__}: {error}")
                return
            self._check(graph, result, calm=calm, possible=lambda input: self._possible(input, mark, at_start), random=own)

        return finish

    def _workflow(self, graph: Graph) -> tuple[Workflow, dict[Input, Any]]:
        """The workflow of a graph, and the lists and mappings given in Python as they were: they are copied at once."""
        workflow = Workflow("fuzzed", base=self.surroundings.path(0).parent)
        handles: dict[int, Any] = {}
        at_start: dict[Input, Any] = {}

        def value(input: Input) -> Any:
            if isinstance(input, Link):
                return getattr(handles[input.node], input.port) if input.port != "output" else handles[input.node]
            if isinstance(input, Literal):
                return input.value
            if isinstance(input, Several):
                return [value(item) for item in input.items]
            if isinstance(input, ReadFile):
                return str(self.surroundings.path(input.number))
            offered = self.surroundings.value(input)
            if input.kind != "image":
                at_start[input] = plain(offered)
            return offered

        with self.surroundings.held():
            for number, node in graph.nodes.items():
                inputs = {port: value(input) for port, input in node.inputs.items()}
                handles[number] = workflow.add(node.type, name=graph.names[number], **inputs)
        return workflow, at_start

    def _possible(self, input: Input, mark: Mark, at_start: Mapping[Input, Any]) -> list[Any]:
        return [at_start[input]] if input in at_start else self.surroundings.possible(input, mark)

    # --- checks

    def _check(self, graph: Graph, result: Result, *, calm: bool, possible: Callable[[Input], list[Any]], random: Random) -> None:
        counts = self.report.counts
        self._check_error(graph, result, calm=calm)
        delivered: dict[Link, Any] = {}
        for link in graph.targets:
            name = graph.names[link.node]
            if result.nodes[name].status in DELIVERED:
                try:
                    delivered[link] = _read(result, _name(graph, link))
                except CacheError as error:
                    if result.status == "done" and not self._trimmed and not _is_model(graph, link):
                        self._differs(graph, "lost", link=link, error=str(error), status=result.nodes[name].status)
                except KeyError as error:
                    self._differs(graph, "missing", link=link, error=str(error), status=result.status)
        meaning = Meaning(graph, self._types, delivered, possible)
        for link, value in delivered.items():
            report = result.nodes[graph.names[link.node]]
            right = meaning.is_right(link, value)
            if right is None:
                counts["unknown"] += 1
                continue
            counts["compared"] += 1
            counts["compared hits"] += report.status == "cached"
            if not right and any("was changed during the run" in notice.message for notice in result.notices):
                right = meaning.is_right_for_another_state(link, value)
                counts["from two states"] += right
            if not right:
                expected = None if self._types[graph.nodes[link.node].type].allows else meaning.value(link)
                self._differs(graph, "value", link=link, status=report.status, found=value, expected=expected)
        self._check_reports(graph, result, meaning)
        if result.status == "done" and random.random() < 0.25:
            self._spoil_results(graph, result, delivered, random)

    def _check_error(self, graph: Graph, result: Result, *, calm: bool) -> None:
        errors = [report.error for report in result.nodes.values() if report.error]
        if result.error is not None and not isinstance(result.error, Cancelled):
            errors.append(str(result.error))
        self.report.counts[f"runs {result.status}"] += 1
        removed = self._trimmed and isinstance(result.error, CacheError)  # by another worker, again and again
        for error in errors:
            changed = isinstance(result.error, CacheError) and "changed in place" in error
            if not removed and (calm or not (changed or any(text in error for text in EXPECTED_ERRORS))):
                self._differs(graph, "error", error=error, calm=calm)
        if calm and result.status != "done" and not removed:
            self._differs(graph, "not done", error=str(result.error))

    def _check_reports(self, graph: Graph, result: Result, meaning: Meaning) -> None:
        counts = self.report.counts
        counts["nodes"] += len(graph.nodes)
        for number, node in graph.nodes.items():
            report = result.nodes[graph.names[number]]
            counts[report.status] += 1
            if report.status == "cached" and report.content not in self._made:
                counts["hits of others"] += 1
            if report.status == "ran" and report.content is not None:
                self._made.add(report.content)
            is_unknown = self._types[node.type].allows is not None
            is_hit = report.status not in ("ran", "failed", "pruned", "skipped")
            if not self._types[node.type].keeps and (is_hit or report.content is not None):
                self._differs(graph, "kept", link=Link(number, "output"), status=report.status)
            if report.status == "differed" and not self._trimmed:
                self._differs(graph, "differed", link=Link(number, "output"))
            if not is_unknown and not self._trimmed and any("not deterministic" in notice for notice in report.notices):
                self._differs(graph, "notice", link=Link(number, "output"), error=str(report.notices))
            if report.status == "ran" and report.content is not None and self._trouble.drew and not is_unknown:
                inputs = meaning.inputs(node)
                if not any(value is UNKNOWN for value in inputs.values()) and identity(node.type, inputs) in self._trouble.drew:
                    self._differs(graph, "kept although it drew", link=Link(number, "output"))

    def _spoil_results(self, graph: Graph, result: Result, delivered: Mapping[Link, Any], random: Random) -> None:
        """Change what the run returned, as its caller may, and ask again."""
        from tests.fuzz.values import bits

        for link in random.sample(list(delivered), min(SPOILED_VALUES, len(delivered))):
            before = delivered[link]
            with contextlib.suppress(CacheError):
                value = result[_name(graph, link)]
                if not has_model(value):
                    spoil(value, random)
                    self.report.counts["compared"] += 1
                    again = plain(result[_name(graph, link)])
                    if bits(again) != bits(before):
                        self._differs(graph, "result", link=link, found=again, expected=before)

    def _check_switches(self, group: int) -> None:
        import torch

        found = torch.get_default_dtype(), torch.backends.mkldnn.enabled, torch.get_float32_matmul_precision()
        if found != (torch.float32, True, "highest"):
            self.report.differences.append({"kind": "switches", "group": group, "found": str(found)})
            torch.set_default_dtype(torch.float32)
            torch.backends.mkldnn.enabled = True
            torch.set_float32_matmul_precision("highest")

    def _differs(self, graph: Graph, kind: str, *, link: Link | None = None, **details: Any) -> None:
        node = graph.nodes[link.node] if link is not None else None
        self.report.differences.append(
            {
                "kind": kind,
                "group": graph.seed // GROUP,
                "seed": graph.seed,
                "trimmed": self._trimmed,
                "node": None if node is None else f"{graph.names[link.node]} ({node.type}) {dict(node.inputs)}",  # type: ignore[union-attr]
                **{name: repr(value)[:600] for name, value in details.items()},
            }
        )

    # --- what happens meanwhile

    def _actions(self, engine: Engine, random: Random) -> list[Callable[[Random], object]]:
        actions: list[Callable[[Random], object]] = []
        if random.random() < 0.6:
            actions.append(self.surroundings.change_file)
        if random.random() < 0.6:
            actions.append(self.surroundings.change_value)
        if random.random() < 0.1:
            actions.append(lambda random: engine.cancel())
        store = engine.cache.store
        if self._trimmed and store is not None:
            actions.append(lambda random: _lose_file(store.directory, random))
            if random.random() < 0.3:
                actions.append(lambda random: store.upkeep.gc(limit=random.choice([0, 100_000, 200_000])))
            if random.random() < 0.1:
                actions.append(lambda random: store.upkeep.clear())
        return actions


def _name(graph: Graph, link: Link) -> str:
    return f"{graph.names[link.node]}.{link.port}"


def _read(result: Result, name: str) -> Any:
    """The plain value of an output. Raises CacheError if it is a model that a node which leaked it changed meanwhile."""
    value = result[name]
    copied = plain(value)
    if has_model(value):
        _ = result[name]
    return copied


def _is_model(graph: Graph, link: Link) -> bool:
    return graph.nodes[link.node].returns[link.port] == "model"


def _outcome(call: Callable[[], Result]) -> Callable[[], Result]:
    """Call at once; returns a function that returns or raises the same."""
    try:
        result = call()
    except Exception as caught:
        error = caught

        def fail() -> Result:
            raise error

        return fail
    return lambda: result


def _lose_file(directory: Path, random: Random) -> None:
    """Remove a file of a cache, or damage it, as a failing disk would."""
    folder = directory / random.choice(["records", "blobs", "aliases"]) / f"{random.randrange(256):02x}"
    with contextlib.suppress(FileNotFoundError):
        paths = sorted(folder.iterdir())
        if not paths:
            return
        path = random.choice(paths)
        if random.random() < 0.7:
            path.unlink()
        else:
            data = bytearray(path.read_bytes())
            if data:
                data[random.randrange(len(data))] ^= 1 << random.randrange(8)
            other = directory / f"damaged-{os.getpid()}"
            other.write_bytes(data)
            other.replace(path)


@contextlib.contextmanager
def _outer_switches(random: Random) -> Any:
    """Now and then, switches of torch that the caller of the engine has set."""
    if random.random() >= 0.08:
        yield
        return
    import torch

    torch.set_default_dtype(torch.float64)
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision("highest")


def serve(connection: Connection, setup: Setup) -> None:
    """Run the tasks that come through the connection, and send a report of each group, until the connection is closed."""
    from tests.fuzz.preload import PLUGINS

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    if setup.mutant is not None:
        MUTANTS[setup.mutant]()
    if setup.writes is not None:
        end_at_write(setup.caches, setup.writes)
    folder = setup.folder / f"process-{os.getpid()}"
    stacks = (setup.folder / f"stacks-{os.getpid()}.txt").open("w")
    faulthandler.enable(stacks)
    worker = Worker(PLUGINS, folder)
    try:
        while True:
            try:
                task: Task = connection.recv()
            except (EOFError, OSError):  # the driver has ended
                break
            worker.use(task.cache, trimmed=task.trimmed)
            for group in task.groups:
                worker.report = Report()
                faulthandler.dump_traceback_later(STALL_SECONDS, file=stacks)
                worker.group(group)
                faulthandler.cancel_dump_traceback_later()
                with contextlib.suppress(OSError):
                    connection.send(worker.report)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
