"""The overhead of the engine, compared with Hamilton and its cache, joblib.Memory and dask: the same work, in one run, as a table.

The nodes do nothing, so the figures are the cost of keys, planning, scheduling and finding cached results. Each figure is the best
of a few repetitions, as wall-clock time and as processor time of the whole process. Processor time depends less on other work of
the machine.

    python benchmarks/engine.py [--quick]
    python benchmarks/engine.py --before FOLDER     # only what a node costs, here and in another clone, in turns

`engine.md` explains the rows and how to install the other libraries. Those that are not installed are left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from nodegraph import Engine, Workflow
from nodegraph.plugins.manager import Plugins, load_plugins
from nodegraph.run.plan import make_plan

NODES = Path(__file__).parent / "engine_nodes"
PEERS = ("nodegraph", "hamilton", "joblib", "dask")
MEBIBYTES = 64
POINTS = 1_000
REPEATS = 3
ROUNDS = 5


@dataclass(frozen=True)
class Cost:
    """Seconds of wall-clock time and of processor time."""

    wall: float
    cpu: float


@dataclass
class Table:
    """Figures by row and library. A text instead of a figure says why it is missing."""

    rows: dict[str, dict[str, Cost | str]] = field(default_factory=dict)
    per: dict[str, int] = field(default_factory=dict)  # the number of nodes that the figures of a row are divided by

    def add(self, row: str, who: str, measured: Callable[[], Cost], per: int = 1) -> None:
        """Measure one cell. If a library cannot do it, the cell holds the name of its exception."""
        self.per[row] = per
        try:
            found: Cost | str = measured()
        except Exception as error:
            found = type(error).__name__
        self.rows.setdefault(row, {})[who] = found
        print(f"  {row}: {who}: {_cell(found, per)}", file=sys.stderr, flush=True)

    def markdown(self, who: list[str]) -> str:
        """The table in Markdown, each cell as wall-clock time / processor time."""
        lines = [f"| | {' | '.join(who)} |", "| --- |" + " --- |" * len(who)]
        for row, cells in self.rows.items():
            lines.append(f"| {row} | {' | '.join(_cell(cells.get(name, '-'), self.per[row]) for name in who)} |")
        return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="use up to 1,000 nodes instead of 10,000")
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="compare what a node costs with the clone in FOLDER")
    parser.add_argument("--per-node", action="store_true", help="print only what a node costs, as JSON")
    arguments = parser.parse_args()
    if arguments.per_node:
        print(json.dumps(per_node()))
        return
    if arguments.before is not None:
        compare(arguments.before)
        return
    warnings.simplefilter("ignore")
    sys.setrecursionlimit(20_000)  # for the other libraries; this engine needs no more than the default of 1,000
    counts = (10, 100, 1_000) if arguments.quick else (10, 100, 1_000, 10_000)
    table = Table()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        ours(table, load_plugins([NODES]), folder / "nodegraph", counts)
        for name, measure in (("hamilton", hamiltons), ("joblib", joblibs), ("dask", dasks)):
            if importlib.util.find_spec(name):
                measure(table, folder / name, counts)
        who = [name for name in PEERS if any(name in cells for cells in table.rows.values())]
        print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}\n")
        print(table.markdown(who), flush=True)  # before the folder is removed, which takes a while


# --- nodegraph


def ours(table: Table, plugins: Plugins, folder: Path, counts: tuple[int, ...]) -> None:
    """Measure every case with this engine."""
    shapes = {"chain": chain, "wide": wide}
    for shape, make in shapes.items():
        workflow = make(1_000)
        engine = Engine(None, plugins=plugins)
        table.add(f"check, {shape}, per node", "nodegraph", lambda e=engine, w=workflow: best(lambda: e.check(w)), 1_000)
        table.add(f"keys and plan, {shape}, per node", "nodegraph", lambda e=engine, w=workflow: planning(e, w), 1_000)
        table.add(f"schedule, {shape}, per node", "nodegraph", lambda w=workflow: scheduling(w, plugins), 1_000)
    small = tensors(300)
    table.add("schedule, small tensors, per node", "nodegraph", lambda: scheduling(small, plugins), 300)
    for count in counts:
        for shape, make in shapes.items():
            for tier, cache_folder in (("memory", None), ("disk", folder / f"{shape}{count}")):
                engine, workflow = Engine(cache_folder, plugins=plugins), make(count)
                engine.run(workflow)
                row = f"cached rerun, {count:,} nodes, {shape}, {tier}"
                table.add(row, "nodegraph", lambda e=engine, w=workflow: best(lambda: e.run(w)))
    points = swept()
    for tier, cache_folder in (("memory", None), ("disk", folder / "sweep")):
        row = f"sweep of {POINTS:,} points, {tier}, per point"
        table.add(row, "nodegraph", lambda f=cache_folder: sweeping(points, plugins, f), POINTS)
    items = 1_000 if max(counts) < 10_000 else 10_000
    for name, mapped in (("written out", written_out(items)), ("each", each(items)), ("each, a node's list", each_of_node(items))):
        row = f"first run of {items:,} items, {name}, per item"
        table.add(row, "nodegraph", lambda w=mapped: best(lambda: Engine(None, plugins=plugins).run(w)), items)
    for name, nested in (("nest of 100 levels", nest(100)), ("the same 101 nodes in place", nest(0))):
        table.add(f"check, {name}", "nodegraph", lambda w=nested: best(lambda: Engine(None, plugins=plugins).check(w)))
    large = Workflow("large")
    large.output("tensor", large.add("Tensor", mebibytes=MEBIBYTES))
    engine = Engine(folder / "large", plugins=plugins)
    result = engine.run(large)
    handle = "tensor"
    report, value = result.nodes["tensor"], result[handle]
    table.add(f"store {MEBIBYTES} MiB", "nodegraph", lambda: storing(engine, report.key or "", value))
    table.add(f"read {MEBIBYTES} MiB", "nodegraph", lambda: best(lambda: float(engine.run(large)[handle].samples.sum())))
    commands(table, folder)


def chain(count: int) -> Workflow:
    """A workflow in which each node feeds the next; the last one is the output."""
    workflow = Workflow("chain")
    last = workflow.add("Start", name="n0")
    for i in range(1, count):
        last = workflow.add("Step", name=f"n{i}", number=last)
    workflow.output("last", last)
    return workflow


def tensors(count: int) -> Workflow:
    """A chain of numeric nodes, which pass a small tensor on."""
    workflow = Workflow("tensors")
    last = workflow.add("Small", name="n0")
    for i in range(1, count):
        last = workflow.add("Shift", name=f"n{i}", latent=last, amount=float(i))
    workflow.output("last", last)
    return workflow


def wide(count: int) -> Workflow:
    """A workflow in which the first node feeds all others, which are all outputs."""
    workflow = Workflow("wide")
    first = workflow.add("Start", name="n0")
    for i in range(1, count):
        workflow.output(f"o{i}", workflow.add("Step", name=f"n{i}", number=first, amount=i))
    return workflow


def swept() -> Workflow:
    """A workflow of two nodes, of which one depends on a param."""
    workflow = Workflow("swept")
    workflow.output("last", workflow.add("Step", number=workflow.add("Start"), amount=workflow.param("amount", 0)))
    return workflow


def sweeping(workflow: Workflow, plugins: Plugins, folder: Path | None) -> Cost:
    """The cost of a first sweep in new folders: each value is checked, and each point is a run with its keys, plan and record."""
    from nodegraph import sweep  # clones of earlier versions, for `--before`, have none

    costs = []
    for repetition in range(REPEATS):
        engine = Engine(None if folder is None else folder / str(repetition), plugins=plugins)
        costs.append(measured(lambda e=engine: sweep(workflow, {"amount": range(POINTS)}, engine=e)))
    return Cost(min(cost.wall for cost in costs), min(cost.cpu for cost in costs))


def written_out(count: int) -> Workflow:
    """A node for each number below `count`, all of which are outputs."""
    workflow = Workflow("items")
    for i in range(count):
        workflow.output(f"o{i}", workflow.add("Step", name=f"n{i}", number=i, amount=2))
    return workflow


def each(count: int) -> Workflow:
    """The same with `each` over a list that is known."""
    workflow = Workflow("items")
    workflow.output("o", workflow.add("Step", name="n", amount=2, each={"number": list(range(count))}))
    return workflow


def each_of_node(count: int) -> Workflow:
    """The same with `each` over a list that a node makes."""
    workflow = Workflow("items")
    numbers = workflow.add("Numbers", name="numbers", count=count)
    workflow.output("o", workflow.add("Step", name="n", amount=2, each={"number": numbers}))
    return workflow


def nest(levels: int) -> Workflow:
    """Workflows that use each other `levels` deep, each with a node that adds to what it receives; or these nodes in place."""
    if not levels:
        return chain(101)
    inner = {"params": {"x": 0}, "nodes": {"n": {"use": "Step", "number": "$params.x"}}, "outputs": {"o": {"from": "$n"}}}
    documents = {f"w{levels}": inner}
    for level in range(levels - 1, 0, -1):
        nodes = {"n": {"use": "Step", "number": "$params.x"}, "next": {"use": f"#w{level + 1}", "x": "$n"}}
        documents[f"w{level}"] = {"params": {"x": 0}, "nodes": nodes, "outputs": {"o": {"from": "$next"}}}
    nodes = {"n": {"use": "Start"}, "next": {"use": "#w1", "x": "$n"}}
    return Workflow.parse(json.dumps({"nodegraph": 1, "nodes": nodes, "outputs": {"o": {"from": "$next"}}, "workflows": documents}))


def planning(engine: Engine, workflow: Workflow) -> Cost:
    """The cost of keys and plan for a checked graph."""
    graph = engine.check(workflow)
    return best(lambda: make_plan(graph, engine._keys(graph), engine.cache))


def scheduling(workflow: Workflow, plugins: Plugins) -> Cost:
    """The cost of a first run, minus check, keys and plan. Each is the best of its repetitions."""
    check = best(lambda: Engine(None, plugins=plugins).check(workflow))
    plan = planning(Engine(None, plugins=plugins), workflow)
    run = best(lambda: Engine(None, plugins=plugins).run(workflow))
    return Cost(run.wall - check.wall - plan.wall, run.cpu - check.cpu - plan.cpu)


def per_node() -> dict[str, list[float]]:
    """Seconds of wall-clock and processor time for each node of a first run, by kind of node."""
    plugins = load_plugins([NODES])
    kinds = {"plain node, chain": (chain(1_000), 1_000), "plain node, wide": (wide(1_000), 1_000)}
    kinds["numeric node, small tensor"] = (tensors(300), 300)
    costs = {kind: (scheduling(workflow, plugins), count) for kind, (workflow, count) in kinds.items()}
    return {kind: [cost.wall / count, cost.cpu / count] for kind, (cost, count) in costs.items()}


def compare(before: Path) -> None:
    """Print what a node costs in the clone `before` and in this one: the best of a few new processes that take turns."""
    found: dict[str, dict[str, list[Cost]]] = {}
    for _ in range(ROUNDS):
        for name, folder in (("before", before.resolve()), ("now", Path(__file__).resolve().parents[1])):
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(folder / "nodes")])}
            command = [sys.executable, __file__, "--per-node"]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment, cwd=folder).stdout
            for kind, (wall, cpu) in json.loads(output).items():
                found.setdefault(kind, {}).setdefault(name, []).append(Cost(wall, cpu))
    print("| a first run in memory, minus check, keys and plan | before | now | more processor time |\n| --- | --- | --- | --- |")
    for kind, costs in found.items():
        cpu = {name: min(cost.cpu for cost in each) for name, each in costs.items()}
        cells = [f"{_time(min(cost.wall for cost in each))} / {_time(cpu[name])}" for name, each in costs.items()]
        print(f"| {kind} | {' | '.join(cells)} | {(cpu['now'] - cpu['before']) * 1e6:+.1f} us |")


def storing(engine: Engine, key: str, value: Any) -> Cost:
    """The cost of the digest, the file and the record of one value."""
    cache = engine.cache
    made = cache.lookup(key, ["output"])
    assert made is not None

    def put() -> None:
        snapshots, _ = cache.take({"output": value}, {"output": cache.codec(value)}, store=True)
        cache.put(key, snapshots, {"output": snapshots["output"].digest or ""}, made.computation)

    return best(put)


def commands(table: Table, folder: Path) -> None:
    """Measure new processes: Python alone, `--help`, and a run of ten cached nodes."""
    document = folder / "ten.yaml"
    document.write_text(chain(10).dump(), encoding="utf-8")
    run = ("-m", "nodegraph", "run", str(document), "--plugin-dir", str(NODES), "--cache-dir", str(folder / "cli"), "-q")
    run = (*run, "--out", str(folder / "out"))
    process(*run)
    table.add("new process: python -c pass", "nodegraph", lambda: repeated(lambda: process("-c", "pass")))
    table.add("new process: nodegraph --help", "nodegraph", lambda: repeated(lambda: process("-m", "nodegraph", "--help")))
    table.add("new process: nodegraph run, 10 nodes cached", "nodegraph", lambda: repeated(lambda: process(*run)))


# --- the others


def hamiltons(table: Table, folder: Path, counts: tuple[int, ...]) -> None:
    """Measure Hamilton: functions of a module, linked by the names of their parameters."""
    import logging

    from hamilton import driver
    from hamilton.execution import executors

    logging.disable(logging.WARNING)

    def built(module: ModuleType, cache_folder: Path | None = None) -> Any:
        builder = driver.Builder().with_modules(module)
        return (builder.with_cache(path=cache_folder) if cache_folder is not None else builder).build()

    for shape in ("chain", "wide"):
        module = hamilton_module(folder, shape, 1_000)
        wanted = [f"n{i}" for i in range(1, 1_000)] if shape == "wide" else ["n999"]
        table.add(f"check, {shape}, per node", "hamilton", lambda m=module: best(lambda: built(m)), 1_000)
        ready = built(module)
        table.add(f"schedule, {shape}, per node", "hamilton", lambda r=ready, w=wanted: best(lambda: r.execute(w)), 1_000)
        for count in (count for count in counts if count <= 1_000):  # with more, filling the cache takes minutes
            row = f"cached rerun, {count:,} nodes, {shape}, disk"
            wanted = [f"n{i}" for i in range(1, count)] if shape == "wide" else [f"n{count - 1}"]
            cached = built(hamilton_module(folder, shape, count), folder / f"cache-{shape}{count}")
            table.add(row, "hamilton", lambda c=cached, w=wanted: best(lambda: c.execute(w), warm=1))
    mapped = module_of(folder, "mapped", HAMILTON_POINTS)
    one_thread = executors.SynchronousLocalTaskExecutor()
    builder = driver.Builder().with_modules(mapped).enable_dynamic_execution(allow_experimental_mode=True)
    dynamic = builder.with_local_executor(one_thread).with_remote_executor(one_thread).build()
    row = f"sweep of {POINTS:,} points, memory, per point"
    table.add(row, "hamilton", lambda: best(lambda: dynamic.execute(["total"], inputs={"count": POINTS})), POINTS)
    numbers = f"numpy.random.default_rng(0).standard_normal({MEBIBYTES << 17})"
    module = module_of(folder, "large", f"import numpy\ndef large() -> numpy.ndarray:\n    return {numbers}\n")
    cached = built(module, folder / "cache-large")
    table.add(f"read {MEBIBYTES} MiB", "hamilton", lambda: best(lambda: cached.execute(["large"])["large"].sum(), warm=1))


HAMILTON_POINTS = """
from hamilton.htypes import Collect, Parallelizable

def point(count: int) -> Parallelizable[int]:
    yield from range(count)

def stepped(point: int) -> int:
    return point + 1

def total(stepped: Collect[int]) -> int:
    return sum(stepped)
"""
"""The same work for Hamilton: a function that is called for each point, and one that collects the results."""


def hamilton_module(folder: Path, shape: str, count: int) -> ModuleType:
    """A module with `count` functions. It is a file because Hamilton's keys contain the source of a function."""
    fed_by = (lambda i: i - 1) if shape == "chain" else (lambda i: 0)
    lines = ["def n0() -> int:\n    return 0\n"]
    lines += [f"def n{i}(n{fed_by(i)}: int) -> int:\n    return n{fed_by(i)} + {i}\n" for i in range(1, count)]
    return module_of(folder, f"{shape}{count}", "\n".join(lines))


def module_of(folder: Path, name: str, source: str) -> ModuleType:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def step(number: int, amount: int = 1) -> int:
    """The work of a node for joblib and dask."""
    return number + amount


def joblibs(table: Table, folder: Path, counts: tuple[int, ...]) -> None:
    """Measure joblib.Memory: one function that is called many times. Each call is looked up on disk by its arguments."""
    import joblib
    import numpy

    remembered = joblib.Memory(folder, verbose=0).cache(step)

    def called(count: int, shape: str) -> None:
        number = 0
        for i in range(1, count):
            found = remembered(number, i)
            number = found if shape == "chain" else 0

    def parallel() -> None:
        joblib.Parallel(n_jobs=2, backend="threading")(joblib.delayed(step)(0, i) for i in range(1_000))

    table.add("schedule, wide, per node", "joblib", lambda: best(parallel), 1_000)
    for shape in ("chain", "wide"):
        for count in counts:
            row = f"cached rerun, {count:,} nodes, {shape}, disk"
            table.add(row, "joblib", lambda c=count, s=shape: best(lambda: called(c, s), warm=1))
    large = numpy.random.default_rng(0).standard_normal((MEBIBYTES << 20) // 8)
    mapped = joblib.Memory(folder / "large", verbose=0, mmap_mode="r")
    seeds: Iterator[int] = iter(range(1_000))
    table.add(
        f"store {MEBIBYTES} MiB", "joblib", lambda: best(lambda: mapped.cache(identity, ignore=["value"])(next(seeds), large))
    )
    table.add(f"read {MEBIBYTES} MiB", "joblib", lambda: best(lambda: mapped.cache(identity, ignore=["value"])(0, large).sum()))


def identity(seed: int, value: Any) -> Any:
    """Returns `value`, so that computing the result costs nothing."""
    return value


def dasks(table: Table, folder: Path, counts: tuple[int, ...]) -> None:
    """Measure dask: a graph of delayed calls, run in threads. It keeps no results on disk."""
    import dask

    delayed = dask.delayed(step, pure=True)  # pure: the key of a call is made from its arguments, as in this engine

    def built(shape: str) -> Any:
        calls = [delayed(0, 0)]
        for i in range(1, 1_000):
            calls.append(delayed(calls[-1] if shape == "chain" else calls[0], i))
        return calls[-1:] if shape == "chain" else calls

    for shape in ("chain", "wide"):
        table.add(f"keys and plan, {shape}, per node", "dask", lambda s=shape: best(lambda: built(s)), 1_000)
        calls = built(shape)
        table.add(
            f"schedule, {shape}, per node", "dask", lambda c=calls: best(lambda: dask.compute(*c, scheduler="threads")), 1_000
        )

    def points() -> None:
        first = delayed(0, 0)
        dask.compute(*(delayed(first, i) for i in range(POINTS)), scheduler="threads")

    table.add(f"sweep of {POINTS:,} points, memory, per point", "dask", lambda: best(points), POINTS)


# --- measuring


def measured(work: Callable[[], Any]) -> Cost:
    """The cost of one call of `work`, including child processes that have ended."""
    wall, cpu = time.perf_counter(), _processor()
    work()
    return Cost(time.perf_counter() - wall, _processor() - cpu)


def best(work: Callable[[], Any], warm: int = 0) -> Cost:
    """The lowest cost of a few calls of `work`, after `warm` calls that are not measured."""
    for _ in range(warm):
        work()
    costs = [measured(work) for _ in range(REPEATS)]
    return Cost(min(cost.wall for cost in costs), min(cost.cpu for cost in costs))


def repeated(work: Callable[[], Any]) -> Cost:
    return best(work, warm=1)


def process(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


def _processor() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _cell(found: Cost | str, per: int) -> str:
    if isinstance(found, str):
        return found
    return f"{_time(found.wall / per)} / {_time(found.cpu / per)}"


def _time(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * scale >= 1 or unit == "us":
            return f"{seconds * scale:.3g} {unit}"
    raise AssertionError


if __name__ == "__main__":
    main()
