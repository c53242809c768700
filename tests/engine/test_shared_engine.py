"""One engine shared by several threads: background runs, nodes that several runs need, and no leaks."""

from __future__ import annotations

import asyncio
import gc
import threading
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nodegraph import Cancelled, Engine, NodeError, RunHandle, Workflow, WorkflowError
from nodegraph.plugins.backend import CpuBackend
from nodegraph.plugins.manager import Plugins
from nodegraph.run import handle as handle_module
from nodegraph.run.events import (
    Event,
    NodeFailed,
    NodeFinished,
    NodeProgress,
    NodeStarted,
    OutputWritten,
    RunFinished,
    RunStarted,
)
from nodegraph.run.tasks.maker import TaskMaker
from nodegraph.run.tasks.task import CancelFlag
from nodegraph.run.workers.jobs import Jobs, RunValues, Waiter
from nodegraph.run.workers.protocol import Job, Workers
from nodegraph.run.workers.threads import ThreadWorkers
from tests.support.copying_workers import with_both_workers

SECONDS = 60  # far more than anything here takes


@pytest.fixture(autouse=True)
def closed_gate(stubs: types.ModuleType, plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`Wait` nodes wait until a test sets GO, and numeric nodes need no library."""
    monkeypatch.setattr(plugins, "backend", CpuBackend())
    stubs.GO.clear()
    yield
    stubs.GO.set()


def waiting(text: str, *, name: str = "wait", workflow: str = "waiting") -> Workflow:
    """One node that waits for GO."""
    built = Workflow(workflow)
    built.output("out", built.add("Wait", name=name, text=text))
    return built


def overlapping(number: int, length: int = 5) -> Workflow:
    """For each number: a chain that all share, a chain that three neighbours share, and one separate node."""
    built = Workflow(f"w{number}")
    last: Any = None
    for i in range(length):
        last = built.add("Wait", name=f"shared{i}", text=f"shared {i}", after=last)
    for i in range(length):
        last = built.add("Wait", name=f"group{i}_of{number}", text=f"group {number // 3} {i}", after=last)
    built.output("own", built.add("Wait", name=f"own{number}", text=f"own {number}", after=last))
    built.output("group", last)
    return built


def wait_for_event(run: RunHandle, kind: type) -> Event:
    """The first event of a kind in a run."""
    return next(event for event in run.events() if isinstance(event, kind))


def nodes_in(events: list[Event]) -> set[str]:
    return {event.node for event in events if isinstance(event, NodeStarted | NodeFinished | NodeProgress)}


# --- overlapping runs


@with_both_workers
@pytest.mark.parametrize("cache_dir", [None, "cache"])
@pytest.mark.parametrize("how", ["start", "run"])
def test_eight_threads_compute_each_node_once(
    make_engine: Callable[..., Engine], stubs: types.ModuleType, tmp_path: Path, cache_dir: str | None, how: str
) -> None:
    stubs.GO.set()
    engine = make_engine(cache_dir=None if cache_dir is None else tmp_path / cache_dir)
    workflows = [overlapping(number) for number in range(8)]
    barrier = threading.Barrier(8)

    def work(workflow: Workflow) -> Any:
        barrier.wait(SECONDS)
        return engine.start(workflow).result(SECONDS) if how == "start" else engine.run(workflow)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, workflows))
    assert [result["own"] for result in results] == [f"own {number}" for number in range(8)]
    assert sorted(stubs.CALLS) == sorted(set(stubs.CALLS))
    assert len(stubs.CALLS) == 5 + 3 * 5 + 8


@with_both_workers
def test_run_has_only_its_own_events(engine: Engine, stubs: types.ModuleType) -> None:
    runs = [engine.start(overlapping(number)) for number in range(8)]
    stubs.GO.set()
    for number, run in enumerate(runs):
        result = run.result(SECONDS)
        events = list(run.events())
        assert isinstance(events[0], RunStarted)
        assert (events[0].run, events[0].workflow) == (run.run, f"w{number}")
        assert [type(event) for event in events].count(RunFinished) == 1
        assert nodes_in(events) == set(result.ran) <= set(result.graph.nodes)


@with_both_workers
def test_cancelling_one_run_leaves_the_others(engine: Engine, stubs: types.ModuleType) -> None:
    runs = [engine.start(overlapping(number)) for number in range(8)]
    for run in runs:
        wait_for_event(run, NodeStarted)
    runs[3].cancel()
    with pytest.raises(Cancelled):
        runs[3].result(SECONDS)
    assert runs[3].status == "cancelled"
    stubs.GO.set()
    for number, run in enumerate(runs):
        if number != 3:
            assert run.result(SECONDS)["own"] == f"own {number}"
    assert sorted(stubs.CALLS) == sorted(set(stubs.CALLS))
    assert "own 3" not in stubs.CALLS


# --- a node that two runs need


@with_both_workers
def test_shared_node_continues_if_one_run_is_cancelled(engine: Engine, stubs: types.ModuleType) -> None:
    first = engine.start(waiting("shared", name="one", workflow="first"))
    wait_for_event(first, NodeProgress)
    second = engine.start(waiting("shared", name="other", workflow="second"))
    wait_for_event(second, NodeProgress)
    first.cancel()
    with pytest.raises(Cancelled):
        first.result(SECONDS)  # while the node waits
    assert second.status == "running"
    stubs.GO.set()
    assert second.result(SECONDS)["out"] == "shared"
    assert stubs.CALLS == ["shared"]
    events = list(second.events())
    assert [type(event) for event in events] == [RunStarted, NodeStarted, NodeProgress, NodeFinished, RunFinished]
    assert nodes_in(events) == {"other"}
    assert nodes_in(list(first.events())) == {"one"}


@with_both_workers
def test_shared_node_stops_if_all_runs_are_cancelled(engine: Engine, stubs: types.ModuleType) -> None:
    runs = [engine.start(waiting("shared")) for _ in range(3)]
    for run in runs:
        wait_for_event(run, NodeStarted)
    engine.cancel()
    for run in runs:
        with pytest.raises(Cancelled):
            run.result(SECONDS)
    stubs.GO.set()
    assert engine.run(waiting("shared"))["out"] == "shared"


@with_both_workers
def test_run_takes_over_from_a_cancelled_run(engine: Engine, stubs: types.ModuleType) -> None:
    for _ in range(20):
        first = engine.start(waiting("shared"))
        wait_for_event(first, NodeStarted)
        first.cancel()
        second = engine.start(waiting("shared"))  # while the first stops, or after
        stubs.GO.set()
        assert second.result(SECONDS)["out"] == "shared"
        stubs.GO.clear()
        engine.cache.clear()


@with_both_workers
def test_shared_failure_has_the_node_name_of_each_run(engine: Engine, stubs: types.ModuleType) -> None:
    def failing(name: str) -> Workflow:
        built = Workflow("failing")
        gate = built.add("Wait", name="gate", text="gate")
        built.output("out", built.add("Fails", name=name, value=gate))
        return built

    runs = {name: engine.start(failing(name)) for name in ("one", "other")}
    for run in runs.values():
        wait_for_event(run, NodeStarted)
    stubs.GO.set()
    for name, run in runs.items():
        with pytest.raises(NodeError, match=f"node '{name}' .*no pixels"):
            run.result(SECONDS)
        assert run.status == "failed"
        assert [event.node for event in run.events() if isinstance(event, NodeFailed)] == [name]


def test_parallel_runs_load_a_model_once(make_engine: Callable[..., Engine], stubs: types.ModuleType, tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("w")
    engine = make_engine(cache_dir=None)

    def using(text: str) -> Workflow:
        built = Workflow(text)
        model = built.add("Load", name="model", path=tmp_path / "weights")
        built.output("out", built.add("Use", name="use", model=model.model, text=text))
        return built

    runs = [engine.start(using(str(i))) for i in range(8)]
    assert [run.result(SECONDS)["out"] for run in runs] == [f"w{i}" for i in range(8)]
    assert stubs.CALLS == ["Load"]


@with_both_workers
def test_numeric_nodes_run_one_at_a_time_across_runs(engine: Engine) -> None:
    def numeric_workflow(number: int) -> Workflow:
        built = Workflow(f"w{number}")
        for i in range(4):
            built.output(f"o{i}", built.add("Alone", name=f"n{i}", who=f"{number} {i}"))
        return built

    runs = [engine.start(numeric_workflow(number)) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        others = list(pool.map(lambda number: engine.run(numeric_workflow(number)), range(4, 8)))
    assert {result.status for result in [*others, *(run.result(SECONDS) for run in runs)]} == {"done"}


def test_workers_run_nodes_of_a_task_in_order(engine: Engine, stubs: types.ModuleType) -> None:
    plan = engine.plan(overlapping(0))
    delivered: list[tuple[str, Any]] = []
    context = engine._context(lambda event: None, CancelFlag(), lambda: False)
    values, jobs = RunValues(context.cache), Jobs()
    maker = TaskMaker(plan, context.cache, shares_memory=True)

    def deliver(name: str, outcome: Any, on_handed_out: Callable[[], None]) -> None:
        values.add(name, outcome.values)  # in the worker's thread: the next node reads them
        delivered.append((name, outcome.values["output"].open()))
        on_handed_out()

    def job(name: str) -> Job:
        waiter = Waiter(node=name, wanted=frozenset(), context=context, deliver=deliver)
        return jobs.start(maker.task(name), values, waiter)[0]

    stubs.GO.set()
    workers: Workers = ThreadWorkers()
    with workers.in_use():
        take_back = workers.submit([job("shared0"), job("shared1")], in_caller=True)
    assert delivered == [("shared0", "shared 0"), ("shared1", "shared 1")]
    assert not take_back()


# --- while a run goes on, and afterwards


@with_both_workers
def test_plan_and_explain_work_during_a_run(engine: Engine, stubs: types.ModuleType) -> None:
    built = Workflow("w")
    first = built.add("Number", name="first")
    built.output("out", built.add("Wait", name="wait", text="a", after=first))
    run = engine.start(built)
    wait_for_event(run, NodeProgress)
    plan = engine.plan(built)
    assert plan.actions == {"first": "cached", "wait": "run"}
    assert [explained.node for explained in engine.explain(plan)] == ["first", "wait"]
    assert engine.run(built, targets=["first"]).cached == ("first",)
    stubs.GO.set()
    assert run.result(SECONDS).ran == ("first", "wait")
    assert engine.plan(built).actions == {"first": "pruned", "wait": "cached"}


@with_both_workers
def test_engine_works_after_every_kind_of_failure(engine: Engine, stubs: types.ModuleType) -> None:
    failing, wrong = Workflow("failing"), Workflow("wrong")
    failing.output("out", failing.add("Fails", name="fails"))
    wrong.output("out", wrong.add("Nothing", name="wrong"))
    for _ in range(3):
        with pytest.raises(NodeError):
            engine.run(failing)
        with pytest.raises(WorkflowError):
            engine.start(wrong).result(SECONDS)
        cancelled = engine.start(waiting("never"))
        cancelled.cancel()
        with pytest.raises(Cancelled):
            cancelled.result(SECONDS)
        assert engine.start(failing, raise_errors=False).result(SECONDS).status == "failed"
    stubs.GO.set()
    assert engine.run(waiting("after"))["out"] == "after"


@pytest.mark.slow
def test_runs_leak_nothing(make_engine: Callable[..., Engine], tmp_path: Path) -> None:
    def counts() -> tuple[int, int, int]:
        gc.collect()
        descriptors = len(list(folder.iterdir())) if (folder := Path("/proc/self/fd")).exists() else 0
        return len(gc.get_objects()), threading.active_count(), descriptors

    engine = make_engine(cache_dir=tmp_path / "cache", on_event=None)
    built = Workflow("w")
    number = built.add("Number", name="number")
    for i in range(3):
        built.output(f"o{i}", built.add("Plus", name=f"plus{i}", a=number, b=float(i)))
    failing = Workflow("failing")
    failing.output("out", failing.add("Fails", name="fails"))

    def use(times: int) -> None:
        for i in range(times):
            if i % 5 == 0:
                engine.start(failing, raise_errors=False).result(SECONDS)
            elif i % 5 == 1:
                run = engine.start(built, force=["number"])
                run.cancel()
                assert run.status == "cancelled" or list(run.events())
            elif i % 5 == 2:
                engine.start(built).result(SECONDS)
            else:
                engine.run(built, force=["number"])
        for thread in threading.enumerate():
            if thread.name.startswith("nodegraph") and thread.name != "nodegraph-lease":  # that of a store of another test
                thread.join(SECONDS)

    use(50)
    objects, threads, descriptors = counts()
    use(150)
    more_objects, more_threads, more_descriptors = counts()
    assert more_objects - objects < 150  # fewer than one for each run
    assert (more_threads, more_descriptors) == (threads, descriptors)


# --- handles


def test_handle_has_only_its_public_interface(engine: Engine, stubs: types.ModuleType) -> None:
    run = engine.start(waiting("a"))
    assert {name for name in dir(run) if not name.startswith("_")} == {"run", "status", "events", "cancel", "result"}
    run.cancel()


@with_both_workers
def test_handle_reports_the_state_of_the_run(engine: Engine, stubs: types.ModuleType, tmp_path: Path) -> None:
    run = engine.start(waiting("a"), out=tmp_path / "out")
    wait_for_event(run, NodeStarted)
    assert run.status == "running"
    with pytest.raises(TimeoutError, match=f"run {run.run} has not ended"):
        run.result(0.01)
    stubs.GO.set()
    result = run.result(SECONDS)
    assert (run.status, result.run, result["out"]) == ("done", run.run, "a")
    (written,) = [event for event in run.events() if isinstance(event, OutputWritten)]
    assert written.path.exists()
    run.cancel()  # too late
    assert (run.status, run.result()) == ("done", result)


@with_both_workers
def test_run_beyond_the_limit_is_queued(engine: Engine, stubs: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handle_module, "MAX_BACKGROUND_RUNS", 1)
    first = engine.start(waiting("a"))
    wait_for_event(first, NodeStarted)
    second, third = engine.start(waiting("b")), engine.start(waiting("c"))
    third.cancel()
    assert (first.status, second.status, third.status) == ("running", "queued", "cancelled")
    stubs.GO.set()
    assert (first.result(SECONDS)["out"], second.result(SECONDS)["out"]) == ("a", "b")
    with pytest.raises(Cancelled):
        third.result(SECONDS)
    assert "c" not in stubs.CALLS


def test_workflow_can_change_after_the_run_began(engine: Engine, stubs: types.ModuleType) -> None:
    built = waiting("a")
    run = engine.start(built)
    built.add("Nothing", name="wrong")
    stubs.GO.set()
    assert run.result(SECONDS).ran == ("wait",)


def test_wrong_workflow_fails_in_the_result(engine: Engine) -> None:
    built = Workflow("wrong")
    built.output("out", built.add("Nothing", name="wrong"))
    run = engine.start(built)
    assert (run.status, list(run.events())) == ("failed", [])
    for _ in range(2):
        with pytest.raises(WorkflowError, match="Nothing"):
            run.result()


def test_events_can_be_read_at_any_time(engine: Engine, stubs: types.ModuleType) -> None:
    run = engine.start(waiting("a"))
    read: list[list[Event]] = [[], []]
    readers = [threading.Thread(target=lambda events=events: events.extend(run.events())) for events in read]
    for reader in readers:
        reader.start()
    wait_for_event(run, NodeProgress)
    stubs.GO.set()
    run.result(SECONDS)
    for reader in readers:
        reader.join(SECONDS)
    late = [type(event) for event in run.events()]
    assert late == [type(event) for event in run.events()] == [RunStarted, NodeStarted, NodeProgress, NodeFinished, RunFinished]
    for events in read:
        assert [type(event) for event in events if not isinstance(event, NodeProgress)] == [late[0], late[1], *late[3:]]
        assert isinstance(events[2], NodeProgress)


def test_progress_is_merged_for_a_slow_reader(engine: Engine) -> None:
    built = Workflow("w")
    built.output("out", built.add("Steps", name="steps", n=5_000))
    run = engine.start(built)
    reader = run.events()
    assert isinstance(next(reader), RunStarted)
    run.result(SECONDS)
    (progress,) = [event for event in reader if isinstance(event, NodeProgress)]
    assert (progress.step, progress.preview) == (5_000, None)
    assert len(run._background.log._events) == 5


# --- coroutines and closing


@with_both_workers
def test_coroutine_returns_the_result(engine: Engine, stubs: types.ModuleType) -> None:
    stubs.GO.set()

    async def both() -> list[Any]:
        return await asyncio.gather(*(engine.arun(waiting(text)) for text in "ab"))

    assert [result["out"] for result in asyncio.run(both())] == ["a", "b"]


def test_cancelling_the_task_cancels_the_run(engine: Engine, events: list[Event]) -> None:
    async def cancelled() -> None:
        task = asyncio.create_task(engine.arun(waiting("a")))
        while not any(isinstance(event, NodeStarted) for event in events):
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [event.status for event in events if isinstance(event, RunFinished)] == ["cancelled"]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(engine.arun(waiting("b")), 0.05)

    asyncio.run(cancelled())


def test_coroutine_raises_what_run_raises(engine: Engine) -> None:
    built = Workflow("failing")
    built.output("out", built.add("Fails", name="fails"))
    with pytest.raises(NodeError, match="no pixels"):
        asyncio.run(engine.arun(built))


def test_closing_the_engine_stops_runs_and_frees_models(
    make_engine: Callable[..., Engine], stubs: types.ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "weights").write_text("w")
    built = Workflow("w")
    built.output("out", built.add("Load", name="model", path=tmp_path / "weights").size)
    before = threading.active_count()
    with make_engine() as engine:
        engine.run(built)
        runs = [engine.start(waiting(text)) for text in "abc"]
        wait_for_event(runs[0], NodeStarted)
        gc.collect()
        assert any(type(thing) is stubs.Model for thing in gc.get_objects())
    assert [run.status for run in runs] == ["cancelled"] * 3
    assert threading.active_count() == before
    gc.collect()
    assert not any(type(thing) is stubs.Model for thing in gc.get_objects())
    for begin in engine.run, engine.start:
        with pytest.raises(RuntimeError, match="closed"):
            begin(built)


# --- options and the queue


@pytest.mark.parametrize("how", ["run", "start"])
def test_unknown_options_are_refused(engine: Engine, how: str) -> None:
    with pytest.raises(TypeError, match="'parms'"):
        getattr(engine, how)(waiting("a"), parms={"seed": 3})


def test_unknown_options_of_a_coroutine_are_refused(engine: Engine) -> None:
    with pytest.raises(TypeError, match="'parms'"):
        asyncio.run(engine.arun(waiting("a"), parms={"seed": 3}))


def test_cancelled_queued_run_ends_at_once(engine: Engine, stubs: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handle_module, "MAX_BACKGROUND_RUNS", 1)
    first = engine.start(waiting("a"))
    wait_for_event(first, NodeStarted)
    queued = engine.start(waiting("b"))
    queued.cancel()
    with pytest.raises(Cancelled):
        queued.result(SECONDS)
    assert (queued.status, list(queued.events())) == ("cancelled", [])
    stubs.GO.set()
    assert first.result(SECONDS)["out"] == "a"
    assert engine.start(waiting("c")).result(SECONDS)["out"] == "c"


def test_as_many_runs_go_on_as_other_processes_can_serve() -> None:
    count = handle_module.MAX_BACKGROUND_RUNS + 8
    runs, all_there = handle_module.Runs(lambda: count), threading.Barrier(count + 1)
    for _ in range(count):
        runs.start(CancelFlag(), lambda overlapped: all_there.wait(SECONDS) and None)
    all_there.wait(SECONDS)  # raises if one of them is queued
    runs.close()
