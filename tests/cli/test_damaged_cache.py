"""Damaged files in a cache directory are a miss, and `verify` names them. Files of other programs stay."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

import nodegraph
from nodegraph.cache.file_digests import FileDigests
from nodegraph.cache.store.store import Store
from nodegraph.files import parse_json

DEEP = b"[" * 100_000 + b"]" * 100_000
SMALL_FILES = ("records", "aliases", "exports", "runs", "numerics.json", "journal.jsonl", "verified.jsonl", "files.jsonl")


@pytest.fixture
def cache(cli, greeting) -> Path:
    """A cache directory in which one run, two exports and every memo are stored."""
    greeting.rename(cli.folder / "workflow.yaml")
    assert cli("run", "workflow.yaml").exit_code == 0
    folder = cli.folder / "cache"
    key = "ab" * 32
    store = Store(folder)
    store.put_exported(key, ".png", [b"first", b"second"])
    for name in ("numerics.json", "verified.jsonl", "files.jsonl", "journal.jsonl"):
        path = folder / name
        if not path.exists():
            path.write_text("{}" if path.suffix == ".json" else "[1, 2]\n")
    return folder


def files_of(cache: Path, name: str) -> list[Path]:
    path = cache / name
    return [path] if path.is_file() else sorted(found for found in path.rglob("*") if found.is_file())


def test_deep_json_is_a_value_error():
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json(DEEP)


@pytest.mark.parametrize("name", SMALL_FILES)
def test_deep_json_is_a_miss_for_every_command(cli, cache, nodes_of, name):
    """Only a damaged record has the result in it: without the other files, it is found by other ways, or they are made again."""
    damaged = files_of(cache, name)
    assert damaged
    for path in damaged:
        path.write_bytes(DEEP + b"\n")
    ran = cli("run", "workflow.yaml", "--json")
    assert ran.exit_code == 0, ran.stderr
    assert nodes_of(ran) == dict.fromkeys(("word", "twice"), "ran") if name == "records" else {"word": "pruned", "twice": "cached"}
    assert nodes_of(cli("run", "workflow.yaml", "--json"))["twice"] == "cached"
    for path in damaged:
        path.write_bytes(DEEP + b"\n")
    for words in (("run", "workflow.yaml"), ("explain", "workflow.yaml"), ("cache", "ls"), ("cache", "info"), ("runs", "ls")):
        ran = cli(*words)
        assert ran.exit_code == 0, ran.stderr
        assert "unexpected" not in ran.stderr


@pytest.mark.parametrize("content", [DEEP + b"\n", b"\xff\xfe not text\n", b'{"a": 1\n'], ids=["deep", "bytes", "cut"])
@pytest.mark.parametrize("name", SMALL_FILES)
def test_verify_names_damaged_files(cli, cache, name, content):
    path = files_of(cache, name)[0]
    path.write_bytes(content)
    relative = path.relative_to(cache).as_posix()
    ran = cli("cache", "verify")
    assert ran.exit_code == 1
    assert f"damaged  {relative}" in ran.stdout.splitlines()
    assert cli("cache", "verify").exit_code == 0  # it was moved aside
    assert (cache / "quarantine" / path.name).read_bytes() == content


def test_record_of_another_format_is_stale_not_damaged(cli, cache):
    record = files_of(cache, "records")[0]
    record.write_bytes(record.read_bytes().replace(b'"format":1', b'"format":0'))
    ran = cli("cache", "verify")
    assert ran.exit_code == 0
    assert "1 result of another version of nodegraph" in ran.stdout
    os.utime(record, (0, 0))
    assert cli("cache", "gc").exit_code == 0
    assert not record.exists()


def test_only_a_folder_with_our_tag_is_a_cache(cli, tmp_path):
    hub = tmp_path / "models--x"
    blob = hub / "blobs" / ("cd" * 32)
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"weights")
    (hub / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n# of another program\n")
    for words in (("clear", "--yes"), ("verify",), ("gc",)):
        ran = cli("cache", *words, "--cache-dir", str(hub))
        assert ran.exit_code == 2, words
        assert "is not a cache of nodegraph" in ran.stderr
    assert blob.read_bytes() == b"weights"


def test_clear_removes_only_files_of_our_names(cli, cache):
    foreign = [
        cache / "blobs" / "notes.txt",
        cache / "blobs" / ("cd" * 32),  # as other programs name their blobs
        cache / "blobs" / "ab" / "picture.png",
        cache / "records" / "ab" / "list.json",
        cache / "tmp" / "draft.txt",
        cache / "mine.sqlite",
    ]
    for path in foreign:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    assert cli("cache", "clear", "--yes").exit_code == 0
    assert [path for path in foreign if not path.exists()] == []
    assert not list((cache / "aliases").rglob("*"))
    assert Store(cache).upkeep.info().records == 0


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_cache_is_private_whatever_the_umask(cli, greeting, tmp_path):
    greeting.rename(tmp_path / "workflow.yaml")
    cache = tmp_path / "new" / "cache"
    before = os.umask(0)
    try:
        ran = cli("run", "workflow.yaml", "--cache-dir", cache)
        assert cli("run", "workflow.yaml", "--cache-dir", cache).exit_code == 0
        Store(cache).put_exported("ab" * 32, ".png", [b"first"])
        Store(cache).put_file(lambda path: path.write_bytes(bytes(100)), ".bin")
        assert cli("cache", "ls", "--cache-dir", cache).exit_code == 0
        FileDigests(cache / "files.jsonl", granularity_ns=0).sha256(tmp_path / "workflow.yaml")
    finally:
        os.umask(before)
    assert ran.exit_code == 0
    assert "every user" not in ran.stderr
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [cache.parent, cache, *cache.rglob("*")]}
    names = {path.name for path in modes}
    assert {"CACHEDIR.TAG", "index.sqlite", "files.jsonl", "blobs", "records", "runs", "aliases"} <= names
    assert {path: oct(mode) for path, mode in modes.items() if path.is_dir() and mode != 0o700} == {}
    assert {path: oct(mode) for path, mode in modes.items() if mode & 0o022} == {}


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_cache_that_a_group_shares_stays_shared(cli, greeting, tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o770)
    greeting.rename(tmp_path / "workflow.yaml")
    before = os.umask(0o002)
    try:
        assert cli("run", "workflow.yaml", "--cache-dir", cache).exit_code == 0
        FileDigests(cache / "files.jsonl", granularity_ns=0).sha256(tmp_path / "workflow.yaml")
    finally:
        os.umask(before)
    assert {path for path in cache.rglob("*") if path.is_dir() and stat.S_IMODE(path.stat().st_mode) != 0o770} == set()
    assert stat.S_IMODE((cache / "files.jsonl").stat().st_mode) == 0o660


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_cache_that_anyone_may_write_to_is_a_warning(cli, cache):
    cache.chmod(0o777)
    ran = cli("run", "workflow.yaml")
    assert ran.exit_code == 0
    assert ran.stderr.count("every user of this machine can write to the cache directory") == 1
    cache.chmod(0o755)
    assert "every user" not in cli("run", "workflow.yaml").stderr


def test_progress_is_reported_and_can_stop_the_work(tmp_path):
    store = Store(tmp_path / "cache")
    for i in range(20):
        store.put_bytes(bytes([i]) * 100, ".bin")
    seen: list[tuple[str, int, int | None]] = []
    store.upkeep.verify(lambda *action: seen.append(action))
    assert [action for action in seen if action[2]] == [("checked", i, 20) for i in range(1, 21)]

    def stop(action: str, done: int, total: int | None) -> None:
        if done == 5 and total:
            raise KeyboardInterrupt

    for work in (store.upkeep.verify, store.upkeep.clear):
        with pytest.raises(KeyboardInterrupt):
            work(stop)
    assert threading.active_count() < 10
    assert store.upkeep.info().blobs == 16  # four were removed before the work stopped
    assert nodegraph.Engine(tmp_path / "cache").cache.clear().blobs == 16
