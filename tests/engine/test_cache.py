"""The cache keeps results by key and port: on disk if a codec can store them, otherwise in memory."""

from __future__ import annotations

import errno
import os
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nodegraph import Engine, Workflow
from nodegraph.cache.cache import Cache
from nodegraph.cache.memory import MAX_RESULTS_WITHOUT_CODEC
from nodegraph.cache.store.records import Computation
from nodegraph.cache.store.store import LostResultError, Store
from nodegraph.plugins.manager import Plugins
from nodegraph.run.events import Notice

MADE = Computation(type="Type", workflow="workflow", node="node", seconds=0.5, notices=("a notice",))


def key(i: int) -> str:
    return f"{i:064x}"


def put(cache: Cache, at: str, values: dict[str, Any]) -> list[str]:
    snapshots, messages = cache.take(values, {port: cache.codec(value) for port, value in values.items()}, store=True)
    digests = {port: snapshot.digest or f"{at}:{port}" for port, snapshot in snapshots.items()}
    cache.put(at, snapshots, digests, MADE)
    return messages


def made(cache: Cache, at: str, ports: list[str]) -> Computation | None:
    hit = cache.lookup(at, ports)
    return hit.computation if hit is not None else None


@pytest.fixture
def cache(plugins: Plugins, tmp_path: Path) -> Cache:
    return Cache(plugins.codecs, Store(tmp_path / "cache"))


@pytest.fixture
def other_process(plugins: Plugins, tmp_path: Path) -> Cache:
    """The same directory in another process."""
    return Cache(plugins.codecs, Store(tmp_path / "cache"))


@pytest.fixture
def in_memory(plugins: Plugins) -> Cache:
    return Cache(plugins.codecs, None, memory_bytes=100)


@pytest.mark.parametrize("value", [1, 1.5, True, None, "text", [1, [2.0, "x"], None], {"a": {"b": []}}])
def test_plain_values_are_found_by_another_process(cache: Cache, other_process: Cache, value: Any) -> None:
    assert put(cache, key(1), {"output": value}) == []
    assert made(other_process, key(1), ["output"]) == MADE
    loaded = other_process.load(key(1), "output")
    assert loaded == value
    assert type(loaded) is type(value)


def test_values_with_a_codec_are_restored(cache: Cache, other_process: Cache, stubs: types.ModuleType) -> None:
    put(cache, key(1), {"output": stubs.Blob(b"a", b"b")})
    assert other_process.load(key(1), "output") == stubs.Blob(b"a", b"b")
    stored = other_process.stored(key(1), "output")
    assert stored is not None
    assert stored.codec == cache.codecs.stored_name(cache.codecs.by_name("blob"))


@pytest.mark.parametrize("wrapped", [False, True])
def test_values_without_a_codec_stay_in_memory(cache: Cache, other_process: Cache, stubs: types.ModuleType, wrapped: bool) -> None:
    model = [stubs.Model("w")] if wrapped else stubs.Model("w")
    assert put(cache, key(1), {"output": model}) == []
    loaded = cache.load(key(1), "output")
    assert (loaded[0] if wrapped else loaded) is (model[0] if wrapped else model)
    assert cache.stored(key(1), "output") is None
    assert other_process.lookup(key(1), ["output"]) is None


def test_node_is_a_hit_if_the_wanted_outputs_exist(cache: Cache, other_process: Cache, stubs: types.ModuleType) -> None:
    put(cache, key(1), {"model": stubs.Model("w"), "size": 3})
    assert made(cache, key(1), ["model", "size"]) == MADE
    assert made(other_process, key(1), ["size"]) == MADE
    assert other_process.lookup(key(1), ["model", "size"]) is None
    assert other_process.load(key(1), "size") == 3
    with pytest.raises(LostResultError):
        other_process.load(key(1), "model")


def test_number_of_results_in_memory_is_limited(cache: Cache, stubs: types.ModuleType) -> None:
    for i in range(MAX_RESULTS_WITHOUT_CODEC + 2):
        put(cache, key(i), {"output": stubs.Model("w")})
        cache.lookup(key(0), ["output"])  # used, so not the first to be removed
    found = [i for i in range(MAX_RESULTS_WITHOUT_CODEC + 2) if cache.lookup(key(i), ["output"])]
    assert found == [0, *range(3, MAX_RESULTS_WITHOUT_CODEC + 2)]


def test_memory_cache_keeps_the_latest_bytes(in_memory: Cache, stubs: types.ModuleType) -> None:
    for i in range(4):
        put(in_memory, key(i), {"output": stubs.Blob(b"x" * 40)})
    assert [i for i in range(4) if in_memory.lookup(key(i), ["output"])] == [2, 3]
    put(in_memory, key(9), {"output": stubs.Blob(b"x" * 1000)})
    assert in_memory.lookup(key(9), ["output"]) is None
    put(in_memory, key(3), {"output": 1})
    assert in_memory.load(key(3), "output") == 1
    in_memory.free()
    assert in_memory.lookup(key(3), ["output"]) is None
    assert in_memory.info() is None
    assert list(in_memory.entries()) == []


def test_failing_codec_warns_and_keeps_the_value(cache: Cache, stubs: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(self: Any, value: Any, path: Path) -> None:
        raise RuntimeError("broken codec")

    monkeypatch.setattr(stubs.BlobCodec, "save", save)
    (message,) = put(cache, key(1), {"output": stubs.Blob(b"a")})
    assert "broken codec" in message
    assert cache.load(key(1), "output") == stubs.Blob(b"a")


class LibraryError(Exception):
    """What a library raises instead of an OSError."""


def raise_full(how: str, path: Path) -> None:
    """Fail as a library does on a full disk."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if how == "text":
        raise LibraryError("Error while serializing: I/O error: No space left on device (os error 28)")
    if how == "as it is":
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), str(path))
    try:
        raise full
    except OSError as error:
        if how == "cause":
            raise LibraryError("cannot save") from error
        raise LibraryError("cannot save")  # noqa: B904 (an exception with a context)


@pytest.fixture
def full_for(stubs: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path], None]:
    """Makes the codec of blobs fail as on a full disk, for files in a folder."""
    save = stubs.BlobCodec.save

    def fill(how: str, folder: Path) -> None:
        def save_unless_full(self: Any, value: Any, path: Path) -> None:
            if path.is_relative_to(folder):
                raise_full(how, path)
            save(self, value, path)

        monkeypatch.setattr(stubs.BlobCodec, "save", save_unless_full)

    return fill


def run_of_blobs(engine: Engine) -> list[Notice]:
    """The notices of a run in which three nodes return blobs that another one reads."""
    workflow = Workflow("w")
    for i in range(3):
        workflow.output(f"out{i}", workflow.add("Next", blob=workflow.add("Bytes", text=str(i), size=10), i=i))
    result = engine.run(workflow)
    assert len(result.ran) == 6
    assert [len(result[f"out{i}"].items[0]) for i in range(3)] == [10] * 3
    return list(result.notices)


@pytest.mark.parametrize("how", ["as it is", "cause", "context", "text"])
def test_full_disk_inside_a_codec_is_one_warning(
    make_engine: Callable[..., Engine], full_for: Callable[[str, Path], None], tmp_path: Path, how: str
) -> None:
    full_for(how, tmp_path / "cache")
    engine = make_engine()
    for _ in range(2):  # in each run
        engine.cache.free()
        (notice,) = run_of_blobs(engine)
        assert notice.node is None
        assert notice.message.startswith(f"the cache directory {tmp_path / 'cache'} cannot be written: ")


def test_library_that_raises_without_a_reason_may_be_on_a_full_disk(
    make_engine: Callable[..., Engine], stubs: types.ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def save(self: Any, value: Any, path: Path) -> None:
        raise LibraryError("iostream error")

    monkeypatch.setattr(stubs.BlobCodec, "save", save)
    assert len(run_of_blobs(make_engine())) == 6  # one for each value: the codec is at fault
    monkeypatch.setattr("shutil.disk_usage", lambda folder: types.SimpleNamespace(free=4096))
    notices = run_of_blobs(make_engine(cache_dir=tmp_path / "other"))
    assert [notice.message.partition(" cannot be")[0] for notice in notices] == [
        f"the cache directory {tmp_path / 'other'}",
        "the folder for temporary files",
    ]


@pytest.mark.parametrize("how", ["as it is", "cause", "text"])
def test_full_folder_for_temporary_files_is_one_warning(
    make_engine: Callable[..., Engine],
    full_for: Callable[[str, Path], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    how: str,
) -> None:
    monkeypatch.delattr("os.memfd_create", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    full_for(how, tmp_path)
    (notice,) = run_of_blobs(make_engine(cache_dir=None))
    assert notice.node is None
    assert notice.message.startswith("the folder for temporary files cannot be written: ")
    assert "set TMPDIR" in notice.message
    assert [path.name for path in tmp_path.iterdir()] == []


def test_error_of_a_codec_does_not_disable_the_cache(
    make_engine: Callable[..., Engine], stubs: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(self: Any, value: Any, path: Path) -> None:
        raise OSError("cannot write mode F as PNG")  # as Pillow does

    monkeypatch.setattr(stubs.BlobCodec, "save", save)
    workflow = Workflow("w")
    for name, node in (("blob", workflow.add("Bytes", text="a")), ("number", workflow.add("Number", value=1.0))):
        workflow.output(name, node)
    (notice,) = make_engine().run(workflow).notices
    assert notice.message == "codec 'blob' failed to store 'output': OSError: cannot write mode F as PNG"
    assert [record.type for record in make_engine().cache.entries()] == ["Number"]


def test_unwritable_directory_keeps_values_in_memory(plugins: Plugins, tmp_path: Path, stubs: types.ModuleType) -> None:
    (tmp_path / "blocked").touch()
    warnings: list[str] = []
    cache = Cache(plugins.codecs, Store(tmp_path / "blocked" / "cache", warn=warnings.append))
    for i in range(3):
        assert put(cache, key(i), {"output": stubs.Blob(b"a")}) == []
        assert cache.load(key(i), "output") == stubs.Blob(b"a")
    assert len(warnings) == 1


def test_unreadable_value_becomes_a_miss(
    other_process: Cache, cache: Cache, stubs: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cache, key(1), {"output": stubs.Blob(b"a")})
    with monkeypatch.context() as patched:
        patched.setattr(stubs.BlobCodec, "load", lambda self, path: 1 / 0)
        with pytest.raises(LostResultError):
            other_process.load(key(1), "output")
    assert other_process.lookup(key(1), ["output"]) is None
    put(other_process, key(1), {"output": stubs.Blob(b"a")})
    assert made(other_process, key(1), ["output"]) == MADE


def test_missing_codec_is_a_miss(
    cache: Cache, other_process: Cache, stubs: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cache, key(1), {"output": stubs.Blob(b"a")})
    assert other_process.lookup(key(1), ["output"]) is not None
    monkeypatch.setattr(other_process.codecs, "by_stored_name", lambda name: None)
    assert other_process.lookup(key(1), ["output"]) is None


def test_equal_values_are_exported_once(cache: Cache, other_process: Cache, stubs: types.ModuleType) -> None:
    def files(cache: Cache, at: str) -> list[bytes]:
        stored = cache.stored(at, "output")
        assert stored is not None
        codec = cache.codec_of(stored)
        assert codec is not None
        return cache.export(codec, stored.digest, lambda: cache.load(at, "output"))

    put(cache, key(1), {"output": stubs.Blob(b"a", b"b")})
    put(cache, key(2), {"output": stubs.Blob(b"a", b"b")})
    assert files(cache, key(1)) == files(cache, key(2)) == files(other_process, key(1)) == [b"a", b"b"]
    assert (stubs.BlobCodec.exported, stubs.BlobCodec.decoded) == (1, 3)  # one for each digest, one for the files


def test_clear_empties_memory_and_disk(cache: Cache, stubs: types.ModuleType) -> None:
    put(cache, key(1), {"output": 1})
    put(cache, key(2), {"output": stubs.Model("w")})
    removed = cache.clear()
    assert removed is not None
    assert removed.records == 1
    assert cache.lookup(key(1), ["output"]) is None
    assert cache.lookup(key(2), ["output"]) is None
