"""The store writes complete files, verifies their content, and failures disable the cache but not the run."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from nodegraph.cache.file_digests import hash_file
from nodegraph.cache.store.safe_io import WriterError
from nodegraph.cache.store.store import LostResultError, Record, Store, StoredValue

KEY, DIGEST = "a" * 64, "d" * 64


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, warnings: list[str]) -> Store:
    return Store(tmp_path / "cache", warn=warnings.append)


def put(store: Store, data: bytes = b"content", suffix: str = ".bin") -> str:
    stored = store.put_bytes(data, suffix)
    assert stored is not None
    return stored[0]


def record(store: Store, key: str = KEY, data: bytes = b"content") -> Record:
    made = Record(
        key=key,
        type="Type",
        workflow="workflow",
        node="node",
        created=1.5,
        seconds=0.25,
        outputs={"output": StoredValue(DIGEST, put(store, data), "json", 7)},
        notices=("a notice",),
    )
    store.put_record(made)
    return made


def leftovers(store: Store) -> list[Path]:
    return [path for path in store.directory.rglob("*") if path.is_file() and (".tmp" in path.name or path.parent.name == "tmp")]


def test_blob_is_named_by_its_content(store: Store) -> None:
    blob = put(store)
    path = store.blob(blob)
    assert path.read_bytes() == b"content"
    assert blob == hash_file(path) + ".bin"
    assert put(store) == blob
    assert not leftovers(store)


def test_record_is_restored_exactly(store: Store) -> None:
    made = record(store)
    assert store.record(KEY) == made
    assert Store(store.directory).record(KEY) == made
    assert list(store.records()) == [made]
    assert store.record("b" * 64) is None


def test_record_holds_any_text(store: Store) -> None:
    made = Record(
        key=KEY, type="Type", workflow="flüssig \udc80", node="\n", created=1.5, seconds=0.25, outputs={}, notices=("日本", '"')
    )
    store.put_record(made)
    assert store.record(KEY) == made
    assert [entry.workflow for entry in store.upkeep.entries()] == ["flüssig ?"]


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"null", b'{"format": 99}', b"\xff"])
def test_damaged_record_is_a_miss_and_rewritten(store: Store, damage: bytes) -> None:
    made = record(store)
    path = next((store.directory / "records").rglob("*.json"))
    path.write_bytes(damage)
    assert store.record(KEY) is None
    assert list(store.records()) == []
    store.put_record(made)
    assert store.record(KEY) == made


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "a" * 64 + "/x", "A" * 64])
def test_wrong_blob_names_are_refused(store: Store, name: str) -> None:
    with pytest.raises(LostResultError):
        store.blob(name)


def test_flipped_bit_is_a_miss_with_one_warning(store: Store, warnings: list[str]) -> None:
    blobs = [put(store, data) for data in (b"one", b"two")]
    for blob in blobs:
        path = store.blob(blob)
        path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
        stat = path.stat()
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000_000))
        assert not store.has(blob)
        assert not path.exists()
    assert len(warnings) == 1
    assert "was changed" in warnings[0]
    assert len(list((store.directory / "quarantine").iterdir())) == 2
    assert put(store, b"one") == blobs[0]
    assert store.has(blobs[0])


@pytest.mark.parametrize("data", [b"damaged", b"x" * 100_000], ids=["small", "large"])
def test_file_that_is_replaced_between_check_and_read_is_not_used(store: Store, data: bytes) -> None:
    blob = put(store, bytes(len(data)))
    store.blob(blob)

    def read(path: Path) -> bytes:
        other = store.directory / "damaged"
        other.write_bytes(data)
        other.replace(path)
        return path.read_bytes()

    with pytest.raises(LostResultError, match="was changed"):
        store.read_blob(blob, read)


def test_file_that_is_removed_while_it_is_read_is_lost(store: Store) -> None:
    with pytest.raises(LostResultError, match="is gone"):
        store.read_blob(put(store), lambda path: path.unlink())


def test_missing_blob_is_a_miss_without_a_warning(store: Store, warnings: list[str]) -> None:
    blob = put(store)
    store.blob(blob).unlink()
    assert not store.has(blob)
    assert not warnings


def test_interrupted_write_leaves_nothing(store: Store) -> None:
    def write(path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("killed")

    with pytest.raises(WriterError) as caught:
        store.put_file(write, ".bin")
    assert str(caught.value.__cause__) == "killed"
    assert store.upkeep.info().blobs == 0
    assert not leftovers(store)


def test_full_disk_disables_the_cache_with_one_warning(store: Store, warnings: list[str]) -> None:
    def write(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    assert store.put_file(write, ".bin") is None
    assert store.put_bytes(b"more", ".bin") is None
    assert len(warnings) == 1
    assert "No space left" in warnings[0]
    assert "--cache-dir" in warnings[0]
    assert not leftovers(store)
    store.start()  # the next run tries again
    assert store.put_bytes(b"more", ".bin") is not None


def test_unwritable_directory_disables_the_cache(tmp_path: Path, warnings: list[str]) -> None:
    (tmp_path / "blocked").touch()
    store = Store(tmp_path / "blocked" / "cache", warn=warnings.append)
    assert store.put_bytes(b"data", ".bin") is None
    store.put_exported(DIGEST, ".png", [b"data"])
    assert store.record(KEY) is None
    assert store.exported(DIGEST, ".png") is None
    assert list(store.records()) == []
    assert store.upkeep.info().blobs == 0
    assert len(warnings) == 1


def test_unreadable_record_is_a_miss_with_one_warning(store: Store, warnings: list[str]) -> None:
    record(store)
    path = next((store.directory / "records").rglob("*.json"))
    path.unlink()
    path.mkdir()  # so that reading fails, even for root
    assert store.record(KEY) is None
    assert store.record(KEY) is None
    assert len(warnings) == 1


def test_exports_are_found_by_value_digest(store: Store) -> None:
    assert store.exported(DIGEST, ".png") is None
    store.put_exported(DIGEST, ".png", [b"first", b"second"])
    assert store.exported(DIGEST, ".png") == [b"first", b"second"]
    assert store.exported(DIGEST, ".jpg") is None
    next((store.directory / "blobs").rglob("*.png")).unlink()
    assert store.exported(DIGEST, ".png") is None


def test_info_and_clear_count_results_and_bytes(store: Store) -> None:
    record(store, "a" * 64, b"12345")
    record(store, "b" * 64, b"12345")
    record(store, "c" * 64, b"1234567")
    info = store.upkeep.info()
    assert (info.records, info.blobs, info.bytes) == (3, 2, 12)
    (store.directory / "runs").mkdir()
    (store.directory / "runs" / "run.json").write_text("{}")
    (store.directory / "mine.txt").write_text("not of the cache")
    assert store.upkeep.clear() == info
    assert (store.upkeep.info().records, store.upkeep.info().blobs, store.upkeep.info().bytes) == (0, 0, 0)
    assert {path.name for path in store.directory.iterdir()} == {"runs", "mine.txt", "CACHEDIR.TAG"}
    record(store)
    assert store.record(KEY) is not None


def test_store_holds_no_pickle(store: Store) -> None:
    record(store)
    for path in store.directory.rglob("*.json*"):
        for line in path.read_text().splitlines():
            assert not line or json.loads(line)
