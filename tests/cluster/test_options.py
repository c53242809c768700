"""What can be said of Ray workers before Ray starts."""

from __future__ import annotations

import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from nodegraph import Engine, RayWorkers
from nodegraph.errors import SettingsError
from nodegraph.run.handle import MAX_BACKGROUND_RUNS
from nodegraph.run.tasks.task import CancelFlag
from nodegraph.run.workers.ray.cluster import has_labels, import_ray
from nodegraph.sweeps.ahead import RunsAhead


def test_workers_need_a_cache_folder():
    with pytest.raises(SettingsError, match="a cache folder"):
        Engine(None, workers=RayWorkers())


def test_workers_belong_to_one_engine(tmp_path):
    workers = RayWorkers()
    with Engine(tmp_path / "a", workers=workers), pytest.raises(ValueError, match="another engine"):
        Engine(tmp_path / "b", workers=workers)


@pytest.mark.parametrize(("options", "message"), [({"workers": 0}, "1 or more"), ({"gpus_per_worker": -1}, "0 or more")])
def test_wrong_numbers(options: Any, message: str):
    with pytest.raises(SettingsError, match=message):
        RayWorkers(**options)


def test_without_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    for use in (import_ray, RayWorkers):
        with pytest.raises(SettingsError, match=r"pip install 'nodegraph\[ray\]'"):
            use()


def test_old_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(__version__="2.53.0"))
    with pytest.raises(SettingsError, match=r"Ray 2\.53\.0 has known security holes"):
        import_ray()


@pytest.mark.parametrize(
    ("condition", "fits"),
    [("A100", True), ("H100", False), ("in(H100, A100)", True), ("in(H100)", False), ("!A100", False), ("!in(H100, L4)", True)],
)
def test_labels(condition: str, fits: bool):
    assert has_labels({"card": "A100", "zone": "b"}, {"card": condition, "zone": "b"}) is fits
    assert not has_labels({"card": "A100"}, {"card": condition, "zone": "b"})


def test_a_machine_without_a_label_is_another_one():
    assert has_labels({}, {"card": "!A100"})
    assert not has_labels({}, {"card": "A100"})


def test_runs_ahead_are_enough_for_all_workers(tmp_path):
    """Each has one unit that runs and one that waits, also if these are more runs than usually go on at once."""
    workers, go_on, begun = RayWorkers(workers=2 * MAX_BACKGROUND_RUNS), threading.Event(), threading.Semaphore(0)
    with Engine(tmp_path, workers=workers) as engine:
        assert engine.parallel == 4 * MAX_BACKGROUND_RUNS

        def work(overlapped: Any) -> None:
            begun.release()
            go_on.wait()

        for _ in range(engine.parallel):
            engine._runs.start(CancelFlag(), work)
        for _ in range(engine.parallel):
            assert begun.acquire(timeout=60)
        go_on.set()


def test_a_sweep_begins_more_runs_when_there_are_more_workers():
    slots, begun = [2], []
    ahead = RunsAhead(((x, [f"value {x}"]) for x in range(20)), lambda number, values: begun.append(number), lambda: slots[0])
    ahead.advance()
    assert begun == [0, 1, 2]  # the point itself, and two after it
    slots[0] = 6
    ahead.advance()
    assert begun == [*range(8)]
