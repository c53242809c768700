"""The environment variables and the current directory: what nodes change is undone, what the program changes is kept."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from nodegraph import Engine, Workflow
from nodegraph.plugin_api import CpuBackend
from nodegraph.run.events import Event, NodeFinished
from nodegraph.run.node.process_state import ProcessWatch

needs_libc = pytest.mark.skipif(sys.platform == "win32", reason="the C library has another name here")


def watch() -> ProcessWatch:
    return ProcessWatch(CpuBackend(), False, "some")


def set_item() -> None:
    os.environ["SURROUNDING"] = "changed"


def set_bytes() -> None:
    os.environb[b"SURROUNDING"] = b"changed"


def delete() -> None:
    del os.environ["SURROUNDING"]


def add_another() -> None:
    os.environ.setdefault("SURROUNDING_TOO", "new")


def merge() -> None:
    os.environ |= {"SURROUNDING": "changed"}


def replace() -> None:
    os.environ = {"SURROUNDING": "changed"}  # type: ignore[assignment] # noqa: B003


def change_directory() -> None:
    os.chdir("/")


def open_and_change() -> None:
    descriptor = os.open("/", os.O_RDONLY)
    os.fchdir(descriptor)
    os.close(descriptor)


CHANGES = (set_item, set_bytes, delete, add_another, merge, replace, change_directory, open_and_change)
on_posix = pytest.mark.skipif(os.name != "posix", reason="some of these changes are of POSIX")


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "environ", os.environ)
    monkeypatch.setenv("SURROUNDING", "before")
    monkeypatch.chdir(tmp_path)


def found() -> tuple[str | None, str | None, str]:
    return os.environ.get("SURROUNDING"), os.environ.get("SURROUNDING_TOO"), str(Path.cwd())


@on_posix
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_whatever_a_node_changes_is_undone(change: Callable[[], None]) -> None:
    before = found()
    for _ in range(2):
        with watch() as watched:
            change()
        assert len(watched.restored) == 1
        assert found() == before
    with watch() as watched:
        pass
    assert watched.restored == ()


@on_posix
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_the_program_changes_between_nodes_is_kept(change: Callable[[], None]) -> None:
    with watch():
        pass
    change()
    changed = found()
    for then in (lambda: None, lambda: os.environ.update(SURROUNDING="by the node")):
        with watch():
            then()
        assert found() == changed


@needs_libc
def test_directory_that_c_code_changes_in_a_node_is_restored(tmp_path: Path) -> None:
    with watch() as watched:
        assert ctypes.CDLL(None).chdir(b"/") == 0
    assert (watched.restored, Path.cwd()) == (("the current directory",), tmp_path)


@needs_libc
def test_directory_that_c_code_changes_between_runs_is_kept(make_engine: Callable[..., Engine]) -> None:
    engine, workflow = make_engine(), Workflow("w")
    workflow.output("out", workflow.add("Say", text="a"))
    engine.run(workflow)
    assert ctypes.CDLL(None).chdir(b"/") == 0
    assert engine.run(workflow, force=["say"]).notices == ()
    assert Path.cwd() == Path("/")


def test_what_a_listener_changes_between_nodes_is_kept(make_engine: Callable[..., Engine]) -> None:
    def change(event: Event) -> None:
        if isinstance(event, NodeFinished):
            os.environ["SURROUNDING"] = event.node

    workflow = Workflow("w")
    first = workflow.add("Say", name="first", text="a")
    workflow.output("out", workflow.add("Say", name="second", text=first))
    assert make_engine(on_event=change).run(workflow).notices == ()
    assert os.environ["SURROUNDING"] == "second"


def test_change_by_another_thread_is_not_taken_for_an_earlier_one() -> None:
    with watch():
        pass
    thread = threading.Thread(target=set_item)
    thread.start()
    thread.join()
    with watch() as watched:
        pass
    assert (watched.restored, found()[0]) == ((), "changed")
