"""`nodegraph cache`: ls, info, verify, gc and clear."""

from __future__ import annotations

import errno
import os

import pytest


def run(cli, greeting, *args):
    return cli("run", greeting, "--json", *args).json["nodes"]


def test_ls_shows_origin_time_and_use(cli, greeting):
    for _ in range(3):
        run(cli, greeting)
    listed = cli("cache", "ls", "--json").json
    assert {(entry["type"], entry["workflow"], entry["node"], entry["uses"]) for entry in listed} == {
        ("Text", "greeting", "word", 0),
        ("Repeat", "greeting", "twice", 2),
    }
    assert all(entry["size"] > 0 and entry["created"] <= entry["used"] for entry in listed)
    shown = cli("cache", "ls", "--sort", "uses").stdout.splitlines()
    assert "greeting/twice" in shown[0]
    assert "2 uses" in shown[0]
    assert "0 uses" in shown[1]
    assert shown[1].endswith("never")
    assert all(any(line.startswith(key[:16]) for line in shown) for key in (entry["key"] for entry in listed))


def test_info_shows_directory_size_and_limit(cli, greeting):
    empty = {"directory": str(cli.folder / "cache"), "results": 0, "files": 0, "bytes": 0, "limit": 20_000_000_000}
    assert cli("cache", "info", "--json").json == empty
    run(cli, greeting)
    info = cli("cache", "info", "--json").json
    assert info["results"] == 2
    assert info["bytes"] > 0
    shown = cli("cache", "info", env={"NODEGRAPH_CACHE_SIZE": "unlimited"}).stdout
    assert "results    2" in shown
    assert "limit      unlimited" in shown


def test_clear_removes_everything(cli, greeting):
    run(cli, greeting)
    assert cli("cache", "clear", "--json").json["results"] == 2
    assert cli("cache", "info", "--json").json["results"] == 0
    assert cli("cache", "ls", "--json").json == []
    assert {node["status"] for node in run(cli, greeting).values()} == {"ran"}
    assert cli("cache", "clear").stdout.startswith("removed:\n")


@pytest.mark.parametrize("command", [("clear", "--yes"), ("gc", "--size", "0"), ("gc", "--older-than", "0s")])
def test_directory_from_which_nothing_can_be_removed_is_an_error(cli, greeting, monkeypatch, command):
    run(cli, greeting)
    unlink, refused = os.unlink, []

    def read_only(path, **options):
        """Refuse as the system does on a disk that is read-only, for root too: permissions do not hold root up."""
        if not os.fspath(path).startswith((str(cli.folder / "cache" / "blobs"), str(cli.folder / "cache" / "records"))):
            return unlink(path, **options)
        refused.append(path)
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(os, "unlink", read_only)
    ran = cli("cache", *command)
    assert refused
    assert ran.exit_code == 1
    assert f"nothing could be removed from {cli.folder / 'cache'}: make it writable" in ran.stderr
    assert "removed:" not in ran.stdout
    assert cli("cache", "info", "--json").json["results"] == 2


def test_verify_drops_a_damaged_result(cli, greeting):
    run(cli, greeting)
    sound = cli("cache", "verify")
    assert sound.exit_code == 0
    assert "every file is as it was written" in sound.stdout
    blob = next(path for path in (cli.folder / "cache" / "blobs").rglob("*.json") if path.read_text() == '"heyhey"')
    blob.write_text('"haha!!"')
    wrong = cli("cache", "verify")
    assert wrong.exit_code == 1
    assert f"wrong  {blob.name}" in wrong.stdout
    assert "Repeat  greeting/twice" in wrong.stdout
    assert cli("cache", "verify", "--json").json["wrong"] == []
    assert run(cli, greeting)["twice"]["status"] == "ran"


def test_verify_json_names_blobs_and_results(cli, greeting):
    run(cli, greeting)
    for blob in (cli.folder / "cache" / "blobs").rglob("*.json"):
        blob.unlink()
    ran = cli("cache", "verify", "--json")
    assert ran.exit_code == 1
    assert len(ran.json["missing"]) == 2
    assert {entry["node"] for entry in ran.json["lost"]} == {"word", "twice"}


def test_gc_removes_the_least_recently_used(cli, greeting):
    run(cli, greeting)
    run(cli, greeting)  # uses 'twice' only
    size = max(entry["size"] for entry in cli("cache", "ls", "--json").json)
    removed = cli("cache", "gc", "--size", str(size), "--json").json
    assert removed["results"] == 1
    assert [entry["node"] for entry in cli("cache", "ls", "--json").json] == ["twice"]
    assert cli("cache", "gc", "--older-than", "1h").stdout.startswith("removed:\nresults    0\n")
    assert cli("cache", "gc", "--older-than", "0s", "--json").json["left"] == 0


@pytest.mark.parametrize("args", [["--size", "big"], ["--older-than", "ever"], ["--older-than", "3 months"]])
def test_gc_refuses_bad_sizes_and_times(cli, greeting, args):
    run(cli, greeting)
    ran = cli("cache", "gc", *args)
    assert ran.exit_code == 2
    assert "expected" in ran.stderr
    assert cli("cache", "info", "--json").json["results"] == 2


def test_run_keeps_within_the_size_limit(cli, greeting):
    ran = cli("run", greeting, "--cache-size", "1")
    assert ran.exit_code == 0
    assert "--cache-size" in ran.stderr
    assert cli("cache", "info", "--json").json["results"] == 0
    cli("run", greeting, env={"NODEGRAPH_CACHE_SIZE": "1 MB"})
    assert cli("cache", "info", "--json").json["results"] == 2


@pytest.mark.parametrize("command", ["clear", "gc", "verify"])
def test_folder_without_a_cache_is_refused(cli, command):
    (cli.folder / "mine" / "tmp").mkdir(parents=True)
    (cli.folder / "mine" / "tmp" / "letter.txt").write_text("dear")
    ran = cli("cache", command, "--cache-dir", "mine")
    assert ran.exit_code == 2
    assert "not a cache" in ran.stderr
    assert (cli.folder / "mine" / "tmp" / "letter.txt").exists()


def test_config_file_is_used(cli, greeting, monkeypatch):
    monkeypatch.setattr("nodegraph.settings.files.user_file", lambda: cli.folder / "config.toml")
    (cli.folder / "config.toml").write_text('[cache]\ndir = "elsewhere"\nsize = "7 kB"\n')
    info = cli("cache", "info", "--json", env={"NODEGRAPH_CACHE_DIR": None}).json
    assert (info["directory"], info["limit"]) == (str(cli.folder / "elsewhere"), 7000)
    (cli.folder / "config.toml").write_text("[cache]\nsice = 7\n")
    ran = cli("cache", "info")
    assert ran.exit_code == 2
    assert "Did you mean 'size'?" in ran.stderr
