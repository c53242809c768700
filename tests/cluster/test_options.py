"""What can be said of Ray workers before Ray starts."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from nodegraph import Engine, RayWorkers
from nodegraph.errors import SettingsError
from nodegraph.run.workers.ray.cluster import import_ray


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
    with pytest.raises(SettingsError, match=r"pip install 'nodegraph\[ray\]'"):
        import_ray()


def test_old_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(__version__="2.53.0"))
    with pytest.raises(SettingsError, match=r"Ray 2\.53\.0 has known security holes"):
        import_ray()
