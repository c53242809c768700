"""`nodegraph cache --remote`: looking at a shared store, checking it, removing from it, and copying to and from it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from nodegraph.cache.store.remote import names
from nodegraph.cache.store.remote.care import collect_contents
from nodegraph.cache.store.remote.objects import Objects
from nodegraph.cache.store.remote.seals import Seal
from tests.support.cli import GREETING, Cli
from tests.support.slow import slow_except

DAY = 86400


class Machine:
    """The command line of a machine, with a cache folder of its own and a shared store in a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.cli, self.shared, self.name = Cli(folder), folder / "shared", name
        self.shared.mkdir(exist_ok=True)
        self.file = self.cli.write(GREETING)
        self.env = {"NODEGRAPH_CACHE_DIR": str(folder / name), "NODEGRAPH_CACHE_REMOTE": f"file://{self.shared}"}

    def __call__(self, *args: str | Path, status: int = 0) -> Any:
        """The JSON that a command prints that ends with this status."""
        ran = self.cli(*args, "--json", env=self.env)
        assert ran.exit_code == status, ran.stderr
        return ran.json

    def fails(self, *args: str | Path, status: int) -> str:
        """What a command says on stderr that ends with this status."""
        ran = self.cli(*args, env=self.env)
        assert ran.exit_code == status, ran.stderr
        return " ".join(ran.stderr.split())

    def run(self, word: str = "hey", *args: str) -> set[str]:
        """The statuses of the nodes of a run."""
        ran = self("run", self.file, "--set", f"word={word}", "--out", self.cli.folder / "out", *args)
        return {node["status"] for node in ran["nodes"].values()}


@pytest.fixture
def first(tmp_path: Path) -> Machine:
    return Machine(tmp_path, "first")


@pytest.fixture
def second(tmp_path: Path) -> Machine:
    return Machine(tmp_path, "second")


def age(folder: Path, seconds: float) -> None:
    """Make every object in a folder this old."""
    then = time.time() - seconds
    for path in folder.rglob("*"):
        os.utime(path, (then, then))


@pytest.mark.slow
def test_machines_share_by_flag_environment_and_none(first: Machine, second: Machine) -> None:
    assert first.run() == {"ran"}
    assert "ran" not in second.run()
    second.env["NODEGRAPH_CACHE_REMOTE"] = "none"
    assert second.run("other") == {"ran"}
    assert second.run("other", "--cache-remote", f"file://{first.shared}") & {"cached"}
    assert "NODEGRAPH_CACHE_REMOTE" not in os.environ


def test_ls_and_info_show_what_is_in_the_store(first: Machine, second: Machine) -> None:
    first.run()
    listed = second("cache", "ls", "--remote")
    assert sorted(entry["node"] for entry in listed) == ["twice", "word"]
    assert second("cache", "info", "--remote") == {
        "store": f"file://{first.shared}",
        "access": "write",
        "signed": "no",
        "results": 2,
        "files": 2,
        "bytes": sum(path.stat().st_size for path in (first.shared / "blobs").rglob("*.json")),
    }
    shown = second.cli("cache", "ls", "--remote", f"file://{first.shared}", "--sort", "size").stdout
    assert [line.split()[2] for line in shown.splitlines()] == ["greeting/twice", "greeting/word"]


def test_push_and_pull_copy_all_results(first: Machine, second: Machine) -> None:
    first.run("hey", "--cache-remote", "none")
    pushed = first.cli("cache", "push", env=first.env)
    assert pushed.stdout.split() == ["copied", "2", "there", "0"]
    assert first("cache", "push", "--remote", f"file://{first.shared}") == {"copied": 0, "there": 2}
    assert second("cache", "pull") == {"copied": 2, "there": 0}
    assert second("cache", "verify")["missing"] == []
    second.env["NODEGRAPH_CACHE_REMOTE"] = "none"
    assert "ran" not in second.run()


@pytest.mark.slow
def test_pull_stops_at_the_limit_of_the_cache(first: Machine, second: Machine) -> None:
    first.run()
    second.env["NODEGRAPH_CACHE_SIZE"] = "1"
    ran = second.cli("cache", "pull", env=second.env)
    assert ran.stdout.split() == ["copied", "0", "there", "0"]
    assert "reached its limit" in ran.stderr


def test_verify_finds_and_removes_what_is_damaged(first: Machine, second: Machine) -> None:
    first.run()
    blob = next((first.shared / "blobs").rglob("*.json"))
    record = next((first.shared / "records").rglob("*.json"))
    blob.write_bytes(b"damaged")
    record.write_bytes(record.read_bytes()[:-1])
    found = second("cache", "verify", "--remote", status=1)
    assert found["wrong"] == [blob.name]
    assert found["damaged"] == [record.relative_to(first.shared).as_posix()]
    assert not blob.exists()
    assert not record.exists()
    assert second("cache", "verify", "--remote", status=0)["wrong"] == []
    assert second.run() & {"ran"}
    assert len(second("cache", "ls", "--remote")) == 2


@pytest.mark.slow
def test_verify_of_a_store_that_is_only_read_removes_nothing(first: Machine, second: Machine) -> None:
    first.run()
    blob = next((first.shared / "blobs").rglob("*.json"))
    blob.write_bytes(b"damaged")
    second.env["NODEGRAPH_CACHE_REMOTE_ACCESS"] = "read"
    for _ in range(2):
        assert second("cache", "verify", "--remote", status=1)["wrong"] == [blob.name]
    assert "only read" in second.fails("cache", "gc", "--remote", status=2)
    assert "only read" in second.fails("cache", "push", status=2)


def test_gc_spares_what_is_younger_than_a_day(first: Machine) -> None:
    first.run("old")
    (first.shared / "blobs/ab").mkdir(exist_ok=True)
    stray = first.shared / names.blob("ab" + "0" * 62)
    stray.write_bytes(b"nothing refers to it")
    (first.shared / "keep.txt").write_text("of another program")
    assert first("cache", "gc", "--remote", "--older-than", "1s", "--size", "0")["results"] == 0
    assert stray.exists()
    age(first.shared, 2 * DAY)
    first.run("new")
    removed = first("cache", "gc", "--remote")
    assert (removed["results"], removed["files"]) == (0, 1)
    assert not stray.exists()
    removed = first("cache", "gc", "--remote", "--size", "0")
    assert (removed["results"], removed["files"]) == (2, 2)
    assert sorted(entry["workflow"] for entry in first("cache", "ls", "--remote")) == ["greeting", "greeting"]
    assert (first.shared / "keep.txt").exists()
    assert first("cache", "verify", "--remote")["missing"] == []


@pytest.mark.slow
def test_gc_removes_by_age_and_what_crashed_processes_left(first: Machine) -> None:
    first.run()
    for name in (names.claim("a" * 64), names.lease("b" * 32)):
        Objects(f"file://{first.shared}").put(name, b"{}")
    age(first.shared, 40 * DAY)
    assert first("cache", "gc", "--remote", "--older-than", "50d")["results"] == 0
    kinds = {path.relative_to(first.shared).parts[0] for path in first.shared.rglob("*") if path.is_file()}
    assert kinds == {"blobs", "records", names.MARK}
    assert first("cache", "gc", "--remote", "--older-than", "30d")["results"] == 2
    assert [path.name for path in first.shared.rglob("*") if path.is_file()] == [names.MARK]


@pytest.mark.slow
def test_gc_keeps_blobs_that_only_results_with_another_key_need(first: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODEGRAPH_CACHE_REMOTE_KEY", "0123456789abcdef")
    first.run()
    monkeypatch.delenv("NODEGRAPH_CACHE_REMOTE_KEY")
    age(first.shared, 2 * DAY)
    assert first("cache", "gc", "--remote")["files"] == 0
    ran = first.cli("cache", "ls", "--remote", env=first.env)
    assert "not listed: 2" in ran.stderr


def test_gc_refuses_what_is_no_store_of_nodegraph(first: Machine) -> None:
    first.run()
    (first.shared / names.MARK).unlink()
    age(first.shared, 2 * DAY)
    assert "nothing was removed" in first.fails("cache", "gc", "--remote", "--size", "0", status=1)
    assert len(first("cache", "ls", "--remote")) == 2


def test_exported_files_go_with_the_last_result_that_needs_them(tmp_path: Path) -> None:
    objects, seal = Objects(f"memory:///{tmp_path.name}"), Seal(None)
    digest, png = "d" * 64, "e" * 64 + ".bin"
    objects.put(names.MARK, names.MARK_CONTENT)
    objects.put(names.blob(png), b"exported")
    name = names.export("", digest, ".bin")
    objects.put(name, seal.close(name, json.dumps({"format": 1, "blobs": [png]}).encode()))
    name = names.record("", "a" * 64)
    objects.put(name, seal.close(name, json.dumps({"outputs": {"output": {"digest": digest, "blob": "f" * 64}}}).encode()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nodegraph.cache.store.remote.care.SPARED_SECONDS", -1.0)
        assert collect_contents(objects).blobs == ()
        objects.put(names.blob("f" * 64), b"value")
        removed = collect_contents(objects, limit=0)
    assert removed.keys == ("a" * 64,)
    assert set(removed.blobs) == {png, "f" * 64}
    assert [info.name for info in objects.list()] == [names.MARK]


@pytest.mark.parametrize("command", slow_except(["info"], ["ls", "info", "gc", "verify", "push", "pull"]))
def test_store_that_is_away_is_an_error_with_advice(first: Machine, command: str) -> None:
    away = f"file://{first.shared}/unmounted"
    message = first.fails("cache", command, "--remote", away, status=1)
    assert f"the shared store {away} cannot be used" in message
    assert "Check the address" in message


def test_no_store_is_set(first: Machine) -> None:
    first.env["NODEGRAPH_CACHE_REMOTE"] = "none"
    assert "no shared store is set" in first.fails("cache", "info", "--remote", status=2)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("bucket/prefix", "expected the address of a shared store"),
        ("s3://name:secret@bucket/x", "come from the environment"),
        ("https://example.com", "expected the address"),
        ("s3://bucket?x=1", "expected the address"),
        ("file://relative", "expected the address"),
    ],
)
def test_address_that_cannot_be_used(first: Machine, url: str, message: str) -> None:
    output = first.fails("run", first.file, "--cache-remote", url, status=2)
    assert message in output
    assert "secret" not in output
    assert "--cache-remote" in output
