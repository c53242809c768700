"""Unfinished work of a node: `Run.work_folder` and inputs that are marked `Continues`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import pytest

from nodegraph import Cancelled, Continues, Engine, NodeError, Run, Workflow, node
from nodegraph.cache.store.locks import LockHeldError, Locks
from nodegraph.cache.store.store import Store
from nodegraph.cache.store.work import UNUSED_SECONDS, lock_name
from nodegraph.node_types.signature import SignatureError, spec_of
from nodegraph.run.events import Event, NodeProgress, Notice

PLUGIN = """
import importlib, os, random, signal
from typing import Annotated
from nodegraph import Continues, Run, hookimpl, node

DONE = []  # the steps that this process did

@node("Count")
def count(steps: Annotated[int, Continues()], start: int = 0, stop_at: int = -1, end: str = "", run: Run = Run()) -> list[int]:
    with run.work_folder() as folder:
        file = folder / "numbers"
        numbers = [int(word) for word in file.read_text().split()] if file.exists() else []
        if len(numbers) > steps:
            numbers = []
        while len(numbers) < steps:
            if end == "random":
                random.random()
            if end == "helper":
                start = importlib.import_module("helper").START
            numbers.append(start + len(numbers))
            DONE.append(numbers[-1])
            partial = folder / "partial"
            partial.write_text(" ".join(map(str, numbers)))
            partial.replace(file)
            if len(numbers) == int(os.environ.get("STOP_AT", "0")):
                os.environ["STOP_AT"] = "0"
                if "KILL" in os.environ:
                    os.kill(os.getpid(), int(os.environ["KILL"]))
                raise ValueError("stopped")
            run.step(len(numbers), steps, status=f"at {numbers[-1]}")
    return numbers

@hookimpl
def register_nodes(register):
    register(count)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the plugin."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "counting.py").write_text(PLUGIN)
    return tmp_path / "plugins"


@pytest.fixture
def count(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[int], list[int]]]:
    """Runs `Count` as a new process would; returns its numbers and those of the steps that it did now."""

    def run(steps: int, *, stop_at: int = 0, on_event: Callable[[Event], None] = lambda event: None, **inputs: object):
        options = {name: inputs.pop(name) for name in ("force", "verify") if name in inputs}
        monkeypatch.setenv("STOP_AT", str(stop_at))
        with Engine(cache_dir=tmp_path / "cache", plugin_dirs=[folder], on_event=on_event) as engine:
            workflow = Workflow()
            counted = workflow.add("Count", name="counted", steps=steps, **inputs)
            workflow.output("numbers", counted)
            done = next(module for module in engine.plugins.manager.get_plugins() if hasattr(module, "DONE")).DONE
            done.clear()
            try:
                return engine.run(workflow, **options)["numbers"], [*done]
            except NodeError:
                return [], [*done]

    return run


def test_work_that_failed_continues(count):
    assert count(5, stop_at=3) == ([], [0, 1, 2])
    assert count(5) == ([0, 1, 2, 3, 4], [3, 4])


def test_work_that_was_finished_goes_further(count):
    assert count(3) == ([0, 1, 2], [0, 1, 2])
    assert count(5) == ([0, 1, 2, 3, 4], [3, 4])
    assert count(3) == ([0, 1, 2], [])  # from the cache
    assert count(4) == ([0, 1, 2, 3], [0, 1, 2, 3])


def test_work_of_other_inputs_is_another(count):
    count(3, start=0)
    assert count(5, start=7) == ([7, 8, 9, 10, 11], [7, 8, 9, 10, 11])


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_process_that_is_killed_continues(folder, tmp_path):
    script = (
        "import sys\nfrom nodegraph import Engine, Workflow\n"
        "workflow = Workflow()\nworkflow.output('numbers', workflow.add('Count', steps=4))\n"
        "engine = Engine(cache_dir=sys.argv[1], plugin_dirs=[sys.argv[2]])\n"
        "print(engine.run(workflow)['numbers'], sys.modules.get('counting'))\n"
    )
    (tmp_path / "script.py").write_text(script)
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "cache"), str(folder)]
    killed = subprocess.run(command, env={**os.environ, "STOP_AT": "2", "KILL": "9"}, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    (work,) = Store(tmp_path / "cache").upkeep.work()
    numbers = Store(tmp_path / "cache").layout.work(work.key) / "files" / "numbers"
    assert numbers.read_text() == "0 1"
    numbers.write_text("5 6")  # which shows that the work continues
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.startswith("[5, 6, 2, 3]")


def test_forced_node_begins_anew(count):
    count(3)
    assert count(3, force=["counted"]) == ([0, 1, 2], [0, 1, 2])


def test_checked_node_computes_everything_again(count, tmp_path):
    count(3)
    (work,) = Store(tmp_path / "cache").upkeep.work()
    (Store(tmp_path / "cache").layout.work(work.key) / "files" / "numbers").write_text("7 7 7")
    assert count(3, verify=1.0) == ([0, 1, 2], [0, 1, 2])


def test_work_whose_result_is_not_kept_is_not_continued(count):
    count(3, end="random")
    assert count(4, end="random") == ([0, 1, 2, 3], [0, 1, 2, 3])


def test_work_that_used_a_changed_module_is_not_continued(count, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "helper.py").write_text("START = 0\n")
    assert count(5, end="helper", stop_at=3) == ([], [0, 1, 2])
    sys.modules.pop("helper")
    (tmp_path / "helper.py").write_text("START = 100\n")
    assert count(5, end="helper") == ([100, 101, 102, 103, 104], [100, 101, 102, 103, 104])
    sys.modules.pop("helper")


def test_what_is_changed_in_the_folder_is_not_noticed(count, tmp_path):
    count(5, stop_at=3)
    (work,) = Store(tmp_path / "cache").upkeep.work()
    (Store(tmp_path / "cache").layout.work(work.key) / "files" / "numbers").write_text("7 8")
    assert count(3) == ([7, 8, 2], [2])


def test_work_of_edited_code_is_another(count, folder):
    count(5, stop_at=3)
    (folder / "counting.py").write_text(PLUGIN.replace("start + len", "10 + len"))
    assert count(4) == ([10, 11, 12, 13], [10, 11, 12, 13])


def test_cancelled_node_continues(count):
    seen: list[NodeProgress] = []

    def cancel(event: Event) -> None:
        if isinstance(event, NodeProgress):
            seen.append(event)
            if event.step == 2:
                raise KeyboardInterrupt

    with pytest.raises((Cancelled, KeyboardInterrupt)):
        count(5, on_event=cancel)
    assert [event.status for event in seen] == ["at 0", "at 1"]
    numbers, done = count(5)
    assert numbers == [0, 1, 2, 3, 4]
    assert done == [2, 3, 4]


def test_work_is_listed_and_removed_when_it_is_old(count, tmp_path):
    count(5, stop_at=3)
    store = Store(tmp_path / "cache")
    (work,) = store.upkeep.work()
    assert (work.type, work.node, work.size) == ("Count", "counted", 5)
    note = store.layout.work(work.key) / "node.json"
    assert store.upkeep.gc().work == 0
    os.utime(note, (work.used - UNUSED_SECONDS - 60,) * 2)
    with Locks(tmp_path / "cache" / "locks").hold(lock_name(work.key)):
        assert store.upkeep.gc().work == 0  # a process uses it
    assert store.upkeep.gc().work == 1
    assert store.upkeep.work() == []


def test_clear_removes_work(count, tmp_path):
    count(5, stop_at=3)
    Store(tmp_path / "cache").upkeep.clear()
    assert not (tmp_path / "cache" / "work").exists()


def test_folder_is_locked_while_a_node_uses_it(tmp_path):
    store = Store(tmp_path / "cache")
    with store.work_folder("a" * 64) as folder:
        assert folder is not None
        with pytest.raises(LockHeldError), Locks(tmp_path / "cache" / "locks").hold_without_waiting(lock_name("a" * 64)):
            pass


def test_node_runs_without_a_folder_in_the_cache(count, tmp_path, folder, monkeypatch):
    monkeypatch.setenv("STOP_AT", "0")
    with Engine(cache_dir=None, plugin_dirs=[folder]) as engine:
        workflow = Workflow()
        workflow.output("numbers", workflow.add("Count", steps=2))
        assert engine.run(workflow)["numbers"] == [0, 1]


def test_folder_that_cannot_be_written_is_temporary(count, tmp_path):
    notes: list[Event] = []
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "work").write_text("in the way")
    assert count(2, on_event=notes.append) == ([0, 1], [0, 1])
    assert [event.message for event in notes if isinstance(event, Notice) and "cannot be written" in event.message]


def test_node_called_directly_has_a_temporary_folder():
    with Run().work_folder() as folder:
        assert folder.is_dir()
    assert not folder.exists()


def test_continues_needs_a_run():
    @node("Wrong")
    def wrong(steps: Annotated[int, Continues()]) -> int:
        return steps

    with pytest.raises(SignatureError, match="'steps' is marked Continues, but there is no parameter of type Run"):
        spec_of(wrong)
