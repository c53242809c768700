"""Caches of earlier and later versions: their results are used, or reported and removed, and are never called damaged."""

from __future__ import annotations

import json
import os
import sqlite3

import pytest

EARLIER = {
    "the first records, which name no machine": ["imports", "machine"],
    "records before modules of computed names were noted": ["imports"],
}
"""The fields that records of earlier versions do not have."""

LATER = {
    "another format": {"format": 2},
    "another format, other fields": {"format": 2, "outputs": [["output", "ab"]], "made": {"by": "x"}},
    "one more field": {"cost": 3.0},
}


@pytest.fixture
def stored(cli, greeting):
    """The folder of a cache with two results."""
    assert cli("run", greeting).exit_code == 0
    return cli.folder / "cache"


def change_records(cache, **changes):
    """Change fields of every record as another version would have written them; None removes one. Returns the files."""
    paths = sorted(cache.glob("records/*/*.json"))
    for path in paths:
        document = json.loads(path.read_bytes()) | changes
        document = {name: value for name, value in document.items() if value is not None}
        path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return paths


def make_old(*paths):
    for path in paths:
        os.utime(path, (0, 0))


@pytest.mark.parametrize("version", EARLIER)
def test_results_of_earlier_versions_are_used(cli, stored, greeting, nodes_of, version):
    change_records(stored, **dict.fromkeys(EARLIER[version]))
    assert nodes_of(cli("run", greeting, "--json")) == {"word": "pruned", "twice": "cached"}
    assert cli("cache", "verify").stdout.endswith("every file is as it was written\n")
    assert len(cli("cache", "ls").stdout.splitlines()) == 2
    assert cli("cache", "gc", "--older-than", "0s", "--json").json["results"] == 2


def test_records_without_the_code_of_their_codec_are_stale(cli, stored, greeting, nodes_of):
    paths = change_records(stored)
    for path in paths:
        path.write_text(path.read_text().replace('"codec": "json"', '"codec": "image"'))
    assert_stale(cli, stored, greeting, nodes_of, paths=paths)


@pytest.mark.parametrize("version", LATER)
def test_results_of_later_versions_are_stale(cli, stored, greeting, nodes_of, version):
    assert_stale(cli, stored, greeting, nodes_of, paths=change_records(stored, **LATER[version]))


def assert_stale(cli, stored, greeting, nodes_of, *, paths):
    """They are reported by every command, are not called damaged, are removed by `gc`, and are computed again."""
    (stored / "index.sqlite").unlink(missing_ok=True)  # another version has another index
    contents = [path.read_bytes() for path in paths]
    stale = "2 results of another version of nodegraph, which this one does not use; 'nodegraph cache gc' removes them\n"
    verified = cli("cache", "verify")
    assert (verified.exit_code, verified.stdout.endswith(stale)) == (0, True)
    listed = cli("cache", "ls")
    assert (listed.stdout, listed.stderr) == ("", f"not listed: {stale}")
    assert cli("cache", "info").stdout.endswith(f"stale      {stale}")
    assert cli("cache", "info", "--json").json["stale"] == 2
    assert [path.read_bytes() for path in paths] == contents
    make_old(*paths, *stored.glob("blobs/*/*"))
    removed = cli("cache", "gc", "--json").json
    assert (removed["files"], removed["left"]) == (2, 0)
    assert not any(path.exists() for path in paths)
    assert nodes_of(cli("run", greeting, "--json")) == {"word": "ran", "twice": "ran"}
    assert "stale" not in cli("cache", "info").stdout


def test_stale_results_are_computed_and_written_again(cli, stored, greeting, nodes_of):
    change_records(stored, format=0)
    assert nodes_of(cli("run", greeting, "--json")) == {"word": "ran", "twice": "ran"}
    assert nodes_of(cli("run", greeting, "--json")) == {"word": "pruned", "twice": "cached"}
    assert cli("cache", "verify", "--json").json["stale"] == 0


def test_list_of_exported_files_in_another_format_is_stale(cli, stored, greeting):
    digest = "ab" * 32
    path = stored / "exports" / "ab" / f"{digest}.png.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"format": 2, "files": {"a": 1}}))
    assert cli("cache", "verify", "--json").json["damaged"] == []
    assert path.exists()
    make_old(path)
    cli("cache", "gc")
    assert not path.exists()


@pytest.mark.parametrize("version", [1, 99])
def test_index_of_another_version_is_made_again(cli, stored, version):
    before = cli("cache", "ls", "--json").json
    with sqlite3.connect(stored / "index.sqlite") as index:
        index.execute("DROP TABLE entries")
        index.execute("CREATE TABLE entries (name TEXT)")
        index.execute(f"PRAGMA user_version = {version}")
    index.close()
    assert {entry["key"] for entry in cli("cache", "ls", "--json").json} == {entry["key"] for entry in before}


@pytest.mark.parametrize("number", [1, 3])
def test_run_records_of_another_version_are_left_alone(cli, stored, number):
    (path,) = stored.glob("runs/*.json")
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"format": number, "nodes": []}))
    assert cli("runs", "ls").stdout == ""
    assert cli("cache", "verify").exit_code == 0
    cli("cache", "gc")
    assert path.exists()


def test_cache_from_before_the_tag_is_marked_by_a_run(cli, stored, greeting, nodes_of):
    (stored / "CACHEDIR.TAG").unlink()
    for name in ("gc", "verify"):
        ran = cli("cache", name)
        assert ran.exit_code == 2
        assert "If an early version of nodegraph made it, run any workflow with it once, which marks it." in ran.stderr
    assert nodes_of(cli("run", greeting, "--json")) == {"word": "pruned", "twice": "cached"}
    assert cli("cache", "gc", "--older-than", "0s", "--json").json["results"] == 2
