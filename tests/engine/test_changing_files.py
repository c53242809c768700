"""Input files that are edited, touched or moved during a run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from nodegraph import Engine, Workflow
from nodegraph.run.events import RunStarted


def test_file_changed_during_the_run_stores_nothing(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "file"
    workflow = Workflow("w")
    edited = workflow.add("Edit", name="edited", path=str(path), text="after")
    below = workflow.add("Text", name="below", value=edited)
    path.write_text("before")
    result = engine.run(workflow, targets=[below])
    assert result[below] == "before"
    assert "changed during the run" in result.notices[0].message
    assert result.nodes["edited"].key is None
    assert [record.node for record in engine.cache.entries()] == ["below"]  # its key covers the value that it received
    path.write_text("before")
    plan = engine.plan(workflow, targets=[below])
    assert plan.actions == {"edited": "run", "below": "run"}
    path.write_text("after")
    assert engine.run(workflow, targets=[below])[below] == "after"


def test_file_changed_and_restored_stores_nothing(make_engine: Callable[..., Engine], tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    age(path)
    engine = make_engine()
    workflow = Workflow("w")
    seen = workflow.add("EditAndRestore", name="seen", path=str(path), text="two")
    result = engine.run(workflow, targets=[seen])
    assert (result[seen], path.read_text()) == ("two", "one")
    assert "changed during the run" in result.notices[0].message
    assert list(engine.cache.entries()) == []
    assert make_engine().plan(workflow, targets=[seen]).actions == {"seen": "run"}


def test_outputs_of_a_run_may_come_from_both_states_of_a_file(make_engine: Callable[..., Engine], tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("ONE")
    workflow = Workflow("w")
    read = workflow.add("Contents", name="read", path=str(path))
    below = workflow.add("Fold", name="below", text=read)
    engine = make_engine()
    engine.cache.quarantine(engine.run(workflow, targets=[below]).nodes["read"].content or "")
    editing = make_engine(on_event=lambda event: path.write_text("TWO") if isinstance(event, RunStarted) else None)
    result = editing.run(workflow, targets=[below, read])
    assert (result[below], result[read]) == ("one", "TWO")
    assert "Other results of this run may come from the file as it was before" in result.notices[0].message
    result = engine.run(workflow, targets=[below, read])
    assert (result[below], result[read]) == ("two", "TWO")


def age(path: Path) -> None:
    """Set a file's times to those of an old file, and wait until a change will show in its ctime."""
    os.utime(path, (0, 0))
    probe = path.with_name("probe")
    while probe.write_text("tick") and probe.stat().st_ctime_ns <= path.stat().st_ctime_ns:
        pass


def test_open_files_are_reopened_after_a_change(engine: Engine, tmp_path: Path) -> None:
    def load(path: Path) -> tuple[str, ...]:
        workflow = Workflow("w")
        loaded = workflow.add("Load", name="loaded", path=str(path))
        return engine.run(workflow, targets=[loaded.model, loaded.size]).ran

    path = tmp_path / "weights"
    path.write_text("one")
    assert load(path) == ("loaded",)
    assert load(path) == ()
    os.utime(path, (1, 1))
    assert load(path) == ("loaded",)
    path.rename(tmp_path / "renamed")
    assert load(tmp_path / "renamed") == ("loaded",)
    assert load(tmp_path / "renamed") == ()


@pytest.mark.parametrize("directory", [True, False])
def test_moved_files_are_a_hit(make_engine: Callable[..., Engine], tmp_path: Path, directory: bool) -> None:
    engine = make_engine() if directory else make_engine(cache_dir=None)
    path = tmp_path / "file"
    path.write_text("one")
    for change in (lambda: None, lambda: os.utime(path, (1, 1)), lambda: path.rename(tmp_path / "renamed")):
        change()
        current = path if path.exists() else tmp_path / "renamed"
        workflow = Workflow("w")
        read = workflow.add("Contents", name="read", path=str(current))
        size = workflow.add("Load", name="loaded", path=str(current)).size
        result = engine.run(workflow, targets=[read, size])
    assert result.ran == ()


def test_checked_graph_is_built_again_only_if_a_file_has_changed(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    age(path)
    workflow = Workflow("w")
    workflow.output("text", workflow.add("Contents", path=str(path)))
    graph = engine.check(workflow)
    result = engine.run(workflow, graph=graph)
    assert (result["text"], result.graph is graph) == ("one", True)
    path.write_text("two")
    result = engine.run(workflow, graph=graph)
    assert (result["text"], result.graph is graph) == ("two", False)
    drawn = Workflow("drawn")
    drawn.output("seed", drawn.add("Draw", seed=drawn.param("seed", "random")))
    graph = engine.check(drawn)
    assert engine.run(drawn, graph=graph).graph is not graph  # each run draws its own
