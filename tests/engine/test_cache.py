"""The cache keeps results by key and port: on disk if a codec can store them, otherwise in memory."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest

from nodegraph.cache.cache import MAX_RESULTS_WITHOUT_CODEC, Cache
from nodegraph.cache.store.records import Computation
from nodegraph.cache.store.store import LostResultError, Store
from nodegraph.plugins.manager import Plugins

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
