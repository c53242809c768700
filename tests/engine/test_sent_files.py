"""Files that are sent to workers, as another machine receives them."""

from __future__ import annotations

import hashlib
import pickle
import shutil
import threading
import types
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from nodegraph import DeviceError, Engine, Workflow
from nodegraph.cache.file_digests import FileDigests
from nodegraph.cache.store.remote.objects import Objects
from nodegraph.cache.store.remote.sent_files import SentFiles
from nodegraph.errors import CacheError
from nodegraph.files import file_states
from nodegraph.run.tasks.maker import TaskMaker
from nodegraph.run.tasks.task import NodeTask
from nodegraph.run.workers.ray.unit_files import UnitFiles
from tests.support.copying_workers import with_model

TINY = Path(__file__).parents[2] / "nodes/nodegraph_diffusion/tiny"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    (tmp_path / "store").mkdir()
    return Objects(f"file://{tmp_path / 'store'}")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(bytes(range(256)) * 36_000)  # two parts
    return path


def test_a_file_arrives_once_through_the_store(tmp_path, objects, weights):
    here, there = SentFiles(tmp_path / "here", objects), SentFiles(tmp_path / "there", objects)
    assert there.receive(digest(weights)) is None
    assert here.send(weights, digest(weights))
    assert not here.send(weights, digest(weights))
    arrived = there.receive(digest(weights))
    assert arrived is not None
    assert arrived.read_bytes() == weights.read_bytes()
    objects.delete([found.name for found in objects.list()])
    assert there.receive(digest(weights)) == arrived
    assert not (tmp_path / "here").exists()


def test_a_file_arrives_through_a_shared_folder(tmp_path, weights):
    folder = SentFiles(tmp_path / "cache", None)
    assert folder.send(weights, digest(weights))
    assert not folder.send(weights, digest(weights))
    assert folder.receive(digest(weights)) is not None
    with pytest.raises(CacheError, match="was changed or damaged while it was sent"):
        folder.send(weights, "0" * 64)
    assert not folder.has("0" * 64)
    assert not any((tmp_path / "cache/tmp").iterdir())


def test_a_file_that_changes_while_it_is_sent_is_not_kept(tmp_path, objects, weights):
    with pytest.raises(CacheError, match="was changed or damaged while it was sent"):
        SentFiles(tmp_path / "here", objects).send(weights, "0" * 64)
    assert list(objects.list()) == []


def test_a_file_that_arrives_damaged_is_refused(tmp_path, objects, weights):
    SentFiles(tmp_path / "here", objects).send(weights, digest(weights))
    (found,) = objects.list()
    objects.put(found.name, b"other")
    there = SentFiles(tmp_path / "there", objects)
    with pytest.raises(CacheError, match="'nodegraph cache verify --remote' checks the store"):
        there.receive(digest(weights))
    assert not there.has(digest(weights))


def test_workers_of_a_machine_fetch_a_file_once(tmp_path, objects, weights, monkeypatch):
    SentFiles(tmp_path / "here", objects).send(weights, digest(weights))
    there, downloads = SentFiles(tmp_path / "there", objects), []
    download = objects.download
    monkeypatch.setattr(objects, "download", lambda *args: downloads.append(args) or download(*args))
    threads = [threading.Thread(target=there.placed, args=({PurePosixPath("a/b"): digest(weights)},)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(downloads) == 1
    folder = there.placed({PurePosixPath("a/b"): digest(weights)})
    assert folder is not None
    assert digest(folder / "a/b") == digest(weights)
    assert there.placed({PurePosixPath("a"): "0" * 64}) is None


# --- the tasks of a worker


def tasks_of(engine: Engine, workflow: Workflow, target: object) -> list[NodeTask]:
    plan = engine.plan(workflow, targets=[target])
    maker = TaskMaker(plan, engine.cache, shares_memory=False)
    return [maker.task(name) for name in plan.names("run")]


@pytest.fixture
def there(engine: Engine, tmp_path: Path) -> UnitFiles:
    """Another machine, which shares the cache folder."""
    return UnitFiles(engine.plugins, FileDigests(None), SentFiles(tmp_path / "cache", None))


def test_tasks_stay_as_they_are_where_the_files_are_the_same(engine, stubs, tmp_path, there):
    workflow, (use,) = with_model(tmp_path, 1)
    tasks = tasks_of(engine, workflow, use)
    assert there.on_this_machine(tasks) is tasks


def test_files_with_other_times_are_found_by_their_content(engine, stubs, tmp_path, there):
    workflow, (use,) = with_model(tmp_path, 1)
    tasks = tasks_of(engine, workflow, use)
    (tmp_path / "weights").unlink()
    (tmp_path / "weights").write_text("w")
    found = there.on_this_machine(tasks)
    assert [task.files for task in found] == [task.files for task in tasks]
    assert found[1].opened == file_states([tmp_path / "weights"]) != tasks[1].opened
    assert [task.key for task in found] == [task.key for task in tasks]


def test_files_that_were_sent_are_used_where_they_arrived(engine, stubs, tmp_path, there):
    workflow, (use,) = with_model(tmp_path, 1)
    tasks, path = tasks_of(engine, workflow, use), tmp_path / "weights"
    assert there.lacking({path: digest(path)}) == {}
    SentFiles(tmp_path / "cache", None).send(path, digest(path))
    wanted = {path: digest(path)}
    path.write_text("another file")
    assert there.lacking(wanted) == {}
    load, used = there.on_this_machine(pickle.loads(pickle.dumps(tasks)))
    arrived = load.inputs["path"].value
    assert arrived != path
    assert arrived.name == "weights"
    assert arrived.read_text() == "w"
    assert load.files == {arrived: wanted[path]}
    assert used.opened == file_states([arrived])


def test_files_that_are_missing_or_others_are_refused(engine, stubs, tmp_path, there):
    workflow, (use,) = with_model(tmp_path, 1)
    tasks, path = tasks_of(engine, workflow, use), tmp_path / "weights"
    wanted = {path: digest(path)}
    path.write_text("another file")
    assert there.lacking(wanted)[path].startswith("there is another file")
    with pytest.raises(DeviceError, match=r"lacks .*weights: there is another file .*--ship-models"):
        there.on_this_machine(tasks)
    path.unlink()
    assert there.lacking(wanted) == {path: "there is no such file"}


@pytest.mark.parametrize("address", ["model", "sub/model", "."])
def test_a_folder_with_a_model_is_placed_as_a_whole(
    make_engine: Callable[..., Engine], stubs: types.ModuleType, tmp_path: Path, address: str
) -> None:
    """Also if the workflow names it relative to another folder."""
    folder = tmp_path / "models" / address
    shutil.copytree(TINY, folder)
    engine = Engine(tmp_path / "cache", device="cpu")
    workflow = Workflow("w", base=tmp_path / "models")
    loaded = workflow.add("LoadModel", name="load", model=address)
    (task,) = tasks_of(engine, workflow, loaded.unet)
    sent = SentFiles(tmp_path / "cache", None)
    for path, digested in task.files.items():
        sent.send(path, digested)
    shutil.rmtree(folder)
    (found,) = UnitFiles(engine.plugins, FileDigests(None), sent).on_this_machine([task])
    assert sorted(found.files.values()) == sorted(task.files.values())
    assert found.files.keys().isdisjoint(task.files)
    assert all(path.is_relative_to(tmp_path / "cache") and path.is_file() for path in found.files)
    assert found.inputs["model"].files.keys() == task.inputs["model"].files.keys()
