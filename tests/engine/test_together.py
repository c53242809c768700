"""Engines in several processes share a cache: each result is computed once, and a killed process does no harm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nodegraph import Engine, Workflow
from nodegraph.cache.store.store import Store
from tests.support.other_process import end, kill, wait_for

NODES = """
import os, time
from pathlib import Path
from nodegraph import hookimpl, node

def note(text):
    with open("computed", "a") as file:
        file.write(text + "\\n")

@node("First")
def first(text: str) -> str:
    note("first")
    time.sleep(0.2)
    return text.upper()

@node("Second")
def second(text: str) -> str:
    note("second")
    if os.environ.get("STUCK"):
        print("stuck", flush=True)
        time.sleep(600)
    return text * 2

@hookimpl
def register_nodes(register):
    register(first)
    register(second)
"""

RUN = """
import json, sys
from nodegraph import Engine, Workflow
warnings = []
engine = Engine(cache_dir="cache", plugin_dirs=["plugins"], on_event=lambda event: None)
workflow = Workflow("w")
first = workflow.add("First", name="first", text="ab")
workflow.output("out", workflow.add("Second", name="second", text=first))
print("ready", flush=True)
sys.stdin.readline()
result = engine.run(workflow)
print(json.dumps({"ran": result.ran, "out": result["out"], "notices": [notice.message for notice in result.notices]}))
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts processes that run the workflow when they receive a line."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "nodes.py").write_text(NODES)
    started: list[subprocess.Popen[str]] = []

    def start(**environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", RUN],
            cwd=tmp_path,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        wait_for(process, "ready")
        return process

    yield start
    for process in started:
        if process.poll() is None:
            kill(process)


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.mark.parametrize("count", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_processes_compute_each_shared_node_once(start: Callable[..., subprocess.Popen[str]], tmp_path: Path, count: int) -> None:
    processes = [start() for _ in range(count)]
    for process in processes:
        go(process)
    reports: list[Any] = [json.loads(end(process)) for process in processes]
    assert (tmp_path / "computed").read_text().splitlines() == ["first", "second"]
    assert sorted(name for report in reports for name in report["ran"]) == ["first", "second"]
    assert {report["out"] for report in reports} == {"ABAB"}
    notices = [notice for report in reports for notice in report["notices"]]
    assert all(notice.startswith("waiting for process ") for notice in notices)  # which comes after a second


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_waiting_process_takes_over_from_a_killed_one(start: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    stuck, waiting = start(STUCK="1"), start()
    go(stuck)
    wait_for(stuck, "stuck")
    go(waiting)
    kill(stuck)
    report = json.loads(end(waiting))
    assert (report["ran"], report["out"]) == (["second"], "ABAB")
    assert all(notice.startswith("waiting for process ") for notice in report["notices"])  # which comes after a second
    assert (tmp_path / "computed").read_text().splitlines() == ["first", "second", "second"]


# --- results that another process finishes between the cache lookup and the lock


def sum_of_three() -> Workflow:
    workflow = Workflow("sum")
    number = workflow.add("Number", name="number", value=3.0)
    workflow.output("sum", workflow.add("Plus", name="plus", a=number))
    return workflow


@pytest.fixture
def overtaken(make_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch) -> Engine:
    """An engine that another one overtakes: it finishes the same run before this one has its first lock."""
    engine = make_engine()
    assert engine.cache.store is not None
    lock, others = engine.cache.store.lock, iter([make_engine()])

    @contextmanager
    def late(key: str, waiting: Callable[[], None], long_wait: Callable[[Path], None]) -> Iterator[bool]:
        for other in others:
            other.run(sum_of_three())
        with lock(key, waiting, long_wait) as waited:
            yield waited

    monkeypatch.setattr(engine.cache.store, "lock", late)
    return engine


def test_result_finished_by_another_process_is_used(overtaken: Engine) -> None:
    result = overtaken.run(sum_of_three())
    assert (result.ran, result["sum"]) == ((), 4.0)


def test_forced_node_is_computed_again(overtaken: Engine) -> None:
    assert overtaken.run(sum_of_three(), force=["plus"]).ran == ("plus",)


# --- uses


def uses(store: Store | None) -> dict[str, int]:
    assert store is not None
    return {entry.node: entry.uses for entry in store.upkeep.entries()}


def test_only_results_taken_from_the_cache_count_as_used(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine()
    engine.run(sum_of_three())
    assert uses(engine.cache.store) == {"number": 0, "plus": 0}
    engine.run(sum_of_three(), force=["number"])  # compared with what is there, and not used
    assert uses(engine.cache.store) == {"number": 0, "plus": 0}
    engine.explain(engine.plan(sum_of_three()))  # a plan that is not run
    engine.run(sum_of_three(), force=["number"])
    assert uses(engine.cache.store) == {"number": 0, "plus": 0}
    engine.run(sum_of_three())
    assert uses(engine.cache.store) == {"number": 0, "plus": 1}
