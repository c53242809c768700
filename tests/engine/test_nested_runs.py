"""A node that runs a workflow or loads plugins itself: no key covers their code and files, so its result is not kept."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nodegraph import Engine, Workflow
from nodegraph.run.events import Event, NodeProgress
from tests.support.slow import slow_after

OUTER = """
import _thread, asyncio, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from nodegraph import Engine, Run, Workflow, hookimpl, node
from nodegraph.plugin_api import load_plugins

FOLDER = str(Path(__file__).parent.parent / "inner")
KEPT, POOLS = [], []

def workflow(text):
    workflow = Workflow("inner")
    workflow.output("out", workflow.add("Inner", text=text))
    return workflow

def engine():
    return Engine(None, plugin_dirs=[FOLDER])

def run(text):
    return engine().run(workflow(text))["out"]

def start(text):
    return engine().start(workflow(text)).result()["out"]

def arun(text):
    return asyncio.run(engine().arun(workflow(text)))["out"]

def in_a_thread(text):
    with ThreadPoolExecutor() as pool:
        return pool.submit(run, text).result()

def in_a_thread_of_a_thread(text):
    found = []
    def start():
        inner = threading.Thread(target=lambda: found.append(run(text)))
        inner.start()
        inner.join()
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    return found[0]

def in_an_earlier_thread(text):
    POOLS.append(POOLS[0] if POOLS else ThreadPoolExecutor(1))
    return POOLS[0].submit(run, text).result()

def in_another_way(text):
    found, done = [], threading.Lock()
    done.acquire()
    def start():
        found.append(run(text))
        done.release()
    _thread.start_new_thread(start, ())
    done.acquire()
    return found[0]

def file(text):
    return engine().run(Path(FOLDER) / "inner.yaml")["out"]

def function(text):
    return load_plugins([FOLDER]).nodes.get("Inner").value.function(text)

def kept(text):
    return KEPT[0].nodes.get("Inner").value.function(text)

@node("Outer")
def outer(text: str, how: str, more: str = "") -> str:
    return globals()[how](text)

@node("Load")
def load(text: str) -> str:
    KEPT.append(load_plugins([FOLDER]))
    return text

@node("Step")
def step(run: Run, text: str) -> str:
    run.step(0, 1)
    return text

@hookimpl
def register_nodes(register):
    register(step)
    register(outer)
    register(load)
"""
INNER = """
from nodegraph import hookimpl, node

@node("Inner")
def inner(text: str) -> str:
    return f"{text} one"

@hookimpl
def register_nodes(register):
    register(inner)
"""
FILE = "nodegraph: 1\nnodes: {node: {use: Inner, text: a}}\noutputs: {out: $node}\n"


@pytest.fixture
def make_engine(tmp_path: Path) -> Callable[..., Engine]:
    for name, text in {"outer/outer.py": OUTER, "inner/inner.py": INNER, "inner/inner.yaml": FILE}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return lambda **options: Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "outer"], **options)


def one(type: str = "Outer", **inputs: str) -> Workflow:
    workflow = Workflow("one")
    workflow.output("out", workflow.add(type, name="node", text="a", **inputs))
    return workflow


HOW = ["run", "start", "arun", "file", "function", "in_a_thread", "in_a_thread_of_a_thread", "in_an_earlier_thread"]


@pytest.mark.parametrize("how", slow_after(2, HOW))
def test_node_that_runs_a_workflow_or_loads_plugins_is_used_but_not_kept(
    tmp_path: Path, make_engine: Callable[..., Engine], how: str
) -> None:
    engine = make_engine()
    if how == "in_an_earlier_thread":
        engine.run(one(how=how, more="the pool is made"))
    result = engine.run(one(how=how))
    assert result["out"] == "a one"
    assert "itself, and its key does not cover their code and files; its result is used but not kept" in result.notices[-1].message
    assert list(engine.cache.entries()) == []
    (tmp_path / "inner" / "inner.py").write_text(INNER.replace("one", "two"))
    assert make_engine().run(one(how=how))["out"] == "a two"


def test_node_whose_plugin_has_kept_other_plugins_is_used_but_not_kept(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine()
    assert engine.run(one("Load"))["out"] == "a"
    result = engine.run(one(how="kept"))
    assert result["out"] == "a one"
    assert [notice.message.partition(" itself")[0] for notice in result.notices] == [
        "a node of its plugin used an engine or plugins"
    ]
    assert list(engine.cache.entries()) == []


def test_run_of_another_thread_while_a_node_runs_costs_no_result(tmp_path: Path, make_engine: Callable[..., Engine]) -> None:
    """As in a program that shares an engine between threads."""
    others = []

    def run_another(event: Event) -> None:
        if isinstance(event, NodeProgress):
            with ThreadPoolExecutor() as pool:
                others.append(pool.submit(lambda: Engine(None, plugin_dirs=[tmp_path / "inner"]).run(one("Inner"))).result())

    engine = make_engine(on_event=run_another)
    assert engine.run(one("Step")).notices == ()
    assert others[0]["out"] == "a one"
    assert [record.type for record in engine.cache.entries()] == ["Step"]


def test_listener_that_uses_an_engine_while_a_node_runs_costs_no_result(make_engine: Callable[..., Engine]) -> None:
    """As a window that checks what is typed, and is called by the engine in the thread of the node."""
    checked = []

    def check(event: Event) -> None:
        if isinstance(event, NodeProgress):
            checked.append(engine.check(one("Step")))

    engine = make_engine(on_event=check)
    assert engine.run(one("Step")).notices == ()
    assert len(checked) == 1
    assert [record.type for record in engine.cache.entries()] == ["Step"]


def test_workflow_that_a_node_runs_in_a_thread_that_python_does_not_know_is_not_noticed(
    tmp_path: Path, make_engine: Callable[..., Engine]
) -> None:
    for number in ("one", "two"):
        (tmp_path / "inner" / "inner.py").write_text(INNER.replace("one", number))
        assert make_engine().run(one(how="in_another_way"))["out"] == "a one"
