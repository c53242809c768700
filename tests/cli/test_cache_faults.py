"""Runs whose cache directory fails: they finish without it, with one note."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys

import pytest

READS = """
nodegraph: 1
nodes:
  note: {use: Read, path: note.txt}
  twice: {use: Repeat, text: $note}
  more: {use: Repeat, text: $twice, times: 3}
outputs:
  result: {from: $more}
"""
SMALL_DISK = 256 << 10


@pytest.fixture
def reads(cli):
    (cli.folder / "note.txt").write_text("hey")
    return cli.write(READS, "reads.yaml")


@pytest.fixture
def disk(cli):
    """A small separate disk for the cache."""
    disk_folder = cli.folder / "disk"
    disk_folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", str(disk_folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a tmpfs can be mounted by root on Linux only")
    cli.env["NODEGRAPH_CACHE_DIR"] = str(disk_folder / "cache")
    yield disk_folder
    subprocess.run(["umount", "-l", str(disk_folder)], check=True)


def remount(disk, how):
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


def fill(disk):
    """Write until the disk is full."""
    with (disk / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError, match="No space left"):
        sum(filler.write(bytes(4096)) for _ in itertools.count())


def uncached(cli, workflow, message):
    """Run and check: everything is computed and written, with one note about the cache."""
    ran = cli("run", workflow, "--json")
    assert ran.exit_code == 0, ran.stderr
    assert {node["status"] for node in ran.json["nodes"].values()} == {"ran"}
    assert json.loads((cli.folder / ran.json["outputs"]["result"][0]).read_text()) == "hey" * 6
    notes = [line for line in ran.stderr.splitlines() if line.startswith("note:")]
    assert len(notes) == 1, ran.stderr
    assert message in notes[0]
    assert "Traceback" not in ran.stderr
    return ran


def test_run_works_without_a_cache_directory(cli, reads):
    (cli.folder / "cache").write_text("a file")
    uncached(cli, reads, "Not a directory")


def test_run_works_with_a_read_only_cache(cli, reads, disk):
    remount(disk, "ro")
    uncached(cli, reads, "Read-only")
    remount(disk, "rw")


def test_read_only_cache_is_used_without_a_note(cli, reads, disk, nodes_of):
    cli("run", reads)
    remount(disk, "ro")
    ran = cli("run", reads, "--json")
    assert nodes_of(ran) == {"note": "pruned", "twice": "pruned", "more": "cached"}
    assert "note:" not in ran.stderr
    assert [entry["node"] for entry in cli("cache", "ls", "--json").json] != []
    remount(disk, "rw")


def test_run_works_on_a_full_disk(cli, reads, disk):
    fill(disk)
    uncached(cli, reads, "No space left")
    (disk / "filler").unlink()
    assert {node["status"] for node in cli("run", reads, "--json").json["nodes"].values()} == {"ran"}
    assert "cached" in {node["status"] for node in cli("run", reads, "--json").json["nodes"].values()}


def test_run_works_without_file_locks(cli, reads):
    (cli.folder / "cache").mkdir()
    (cli.folder / "cache" / "CACHEDIR.TAG").write_text("")
    (cli.folder / "cache" / "locks").write_text("a file, where the folder of locks is to be")
    uncached(cli, reads, str(cli.folder / "cache"))
    assert cli("cache", "info", "--json").json["results"] == 0


def test_removed_cache_directory_is_created_again(cli, reads, nodes_of):
    for _ in range(2):
        ran = cli("run", reads, "--json")
        assert set(nodes_of(ran).values()) == {"ran"}
        assert "note:" not in ran.stderr
        subprocess.run(["rm", "-r", cli.folder / "cache"], check=True)


# --- the commands


def test_gc_uses_the_cache_size_as_limit(cli, reads, monkeypatch):
    for source in ("environment", "file"):
        cli("run", reads)
        assert cli("cache", "gc", "--json").json["results"] == 0
        if source == "file":
            monkeypatch.setattr("nodegraph.settings.files.user_file", lambda: cli.folder / "config.toml")
            (cli.folder / "config.toml").write_text("[cache]\nsize = 0\n")
        removed = cli("cache", "gc", "--json", env={"NODEGRAPH_CACHE_SIZE": "0"} if source == "environment" else {}).json
        assert (removed["results"], removed["left"]) == (3, 0)
        assert cli("cache", "ls", "--json").json == []


def test_ls_shows_ages(cli, reads):
    cli("run", reads)
    entries = cli("cache", "ls", "--json").json
    assert len({entry["key"] for entry in entries}) == 3
    assert all(set(entry) == {"key", "type", "workflow", "node", "size", "created", "used", "uses"} for entry in entries)
    assert all(line.count(" ago") == 1 for line in cli("cache", "ls").stdout.splitlines())


@pytest.mark.parametrize("command", ["ls", "info", "verify", "gc", "clear"])
def test_cache_commands_work_on_an_empty_cache(cli, reads, command):
    for state in ("nothing", "an empty folder", "results"):
        if state == "an empty folder":
            (cli.folder / "cache").mkdir()
        if state == "results":
            assert list((cli.folder / "cache").iterdir()) == []  # the folder may belong to another program
            cli("run", reads)
        shown = cli("cache", command)
        assert (shown.exit_code, shown.stderr) == (0, "")
        ran = cli("cache", command, "--json")
        assert (ran.exit_code, ran.stderr) == (0, "")
        assert isinstance(ran.json, list if command == "ls" else dict)


def test_failed_run_leaves_a_valid_cache(cli):
    failing = cli.write("nodegraph: 1\nnodes: {bad: {use: Fail, text: a}}\noutputs: {bad: {from: $bad}}\n")
    assert cli("run", failing).exit_code == 1
    for command in ("verify", "gc", "clear"):
        assert cli("cache", command).exit_code == 0


def test_deleted_index_loses_only_use_counts(cli, reads, nodes_of):
    for _ in range(2):
        cli("run", reads)
    before = cli("cache", "ls", "--json").json
    for file in (cli.folder / "cache").glob("index.sqlite*"):
        file.unlink()
    assert set(nodes_of(cli("run", reads, "--json")).values()) == {"pruned", "cached"}
    after = cli("cache", "ls", "--json").json
    assert [{**entry, "uses": 0, "used": 0} for entry in after] == [{**entry, "uses": 0, "used": 0} for entry in before]


def test_flipped_bit_is_reported_and_recomputed(cli, reads, nodes_of):
    cli("run", reads)
    cache = cli.folder / "cache"
    blob = next(path for path in (cache / "blobs").rglob("*.json") if path.read_text() == f'"{"hey" * 6}"')
    data = blob.read_bytes()
    blob.write_bytes(data[:3] + bytes([data[3] ^ 1]) + data[4:])
    ran = cli("run", reads, "--json")
    assert nodes_of(ran) == {"note": "pruned", "twice": "cached", "more": "ran"}
    assert ran.stderr.count(f"the cache file {blob} was changed") == 1
    assert [path.name for path in (cache / "quarantine").iterdir()] == [blob.name]
    assert blob.read_bytes() == data
    assert cli("cache", "verify").exit_code == 0
