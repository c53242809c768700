"""Whether a worker reaches what the process of the run stores."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from nodegraph import DeviceError
from nodegraph.run.workers.ray.reach import Mark, Reach, Seen
from nodegraph.settings import Remote


def moved(mark: Mark, folder: Path) -> Mark:
    """The mark as a machine sees it where the cache folder is another one."""
    return pickle.loads(pickle.dumps(mark._replace(path=folder / mark.path.name)))


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    (tmp_path / "store").mkdir()
    return Remote(url=f"file://{tmp_path / 'store'}")


def test_a_worker_that_sees_the_folder(tmp_path):
    reach = Reach(tmp_path / "cache", None)
    reach.check(Seen.at(reach.mark), "here")
    with pytest.raises(DeviceError, match=r"a worker on there does not see the cache folder .*--cache-remote"):
        reach.check(Seen.at(moved(reach.mark, tmp_path)), "there")
    reach.close()
    assert not any((tmp_path / "cache").iterdir())


def test_a_worker_that_reaches_the_shared_store(tmp_path, remote):
    reach = Reach(tmp_path / "cache", remote)
    reach.check(Seen.at(moved(reach.mark, tmp_path)), "there")
    left = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert len(left) == 1
    reach.close()
    assert not left[0].exists()


def test_a_worker_with_another_store(tmp_path, remote):
    (tmp_path / "other").mkdir()
    mark = moved(Reach(tmp_path / "cache", remote).mark, tmp_path)
    with pytest.raises(DeviceError, match="it does not find what this process has just written"):
        Reach(tmp_path / "cache", remote).check(Seen.at(mark._replace(url=f"file://{tmp_path / 'other'}")), "there")
    with pytest.raises(DeviceError, match="the worker cannot read the shared store"):
        Reach(tmp_path / "cache", remote).check(Seen.at(mark._replace(url=f"file://{tmp_path / 'missing'}")), "there")


def test_a_store_that_cannot_be_written(tmp_path, remote):
    away = Remote(url=f"file://{tmp_path / 'missing'}")
    for store, message in ((away, "cannot write to the shared store"), (Remote(url=remote.url, read_only=True), "is only read")):
        reach = Reach(tmp_path / "cache", store)
        with pytest.raises(DeviceError, match=message):
            reach.check(Seen.at(moved(reach.mark, tmp_path)), "there")
        reach.check(Seen.at(reach.mark), "here")


def test_a_cache_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DeviceError, match="which cannot be written"):
        Reach(tmp_path / "file", None)
