"""NODEGRAPH_STALL prints what all threads do if a run makes no progress, and the run goes on."""

from __future__ import annotations

import threading
import types
from collections.abc import Callable

import pytest

from nodegraph import Engine, Workflow
from nodegraph.errors import SettingsError
from nodegraph.run.workers.stall import StallWatch


def waiting(stubs: types.ModuleType) -> Workflow:
    stubs.GO.clear()
    workflow = Workflow("w")
    workflow.output("out", workflow.add("WaitForGo", name="slow", text="a"))
    return workflow


def test_stalled_run_prints_stacks_and_goes_on(
    make_engine: Callable[..., Engine],
    stubs: types.ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("NODEGRAPH_STALL", "0.1")
    reported = threading.Event()
    report = StallWatch._report

    def report_and_go_on(watch: StallWatch) -> None:
        report(watch)
        reported.set()
        stubs.GO.set()

    monkeypatch.setattr(StallWatch, "_report", report_and_go_on)
    assert make_engine().run(waiting(stubs)).status == "done"
    printed = capfd.readouterr().err
    assert reported.is_set()
    first = printed.splitlines()[0]
    assert first.startswith("nodegraph: run ")
    assert "made no progress for 0 s (NODEGRAPH_STALL=0.1); running: 'slow' for 0 s. The run goes on." in first
    assert "wait_for_go" in printed  # the function of the node
    assert "Thread 0x" in printed
    assert "nodegraph-stall" not in [thread.name for thread in threading.enumerate()]


def test_run_that_makes_progress_prints_nothing(
    make_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NODEGRAPH_STALL", "60")
    workflow = Workflow("w")
    workflow.output("out", workflow.add("Number", value=1.0))
    make_engine().run(workflow)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("value", ["soon", "0", "-1", "nan", "1e9"])
def test_wrong_number_of_seconds_is_an_error(
    make_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("NODEGRAPH_STALL", value)
    workflow = Workflow("w")
    workflow.output("out", workflow.add("Number", value=1.0))
    with pytest.raises(SettingsError, match=rf"^\[E401\] NODEGRAPH_STALL cannot be used: expected .*, found '{value}'$"):
        make_engine().run(workflow)
