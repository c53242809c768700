"""`nodegraph lock`, `nodegraph verify` and `nodegraph run --locked`."""

from __future__ import annotations

import json


def test_lock_verify_and_run_locked(cli, greeting):
    assert cli("run", greeting, "--locked").exit_code == 2
    ran = cli("lock", greeting)
    assert (ran.exit_code, ran.stdout) == (0, "greeting.lock.yaml\n")
    assert not (cli.folder / "out").exists()
    ran = cli("verify", greeting)
    assert (ran.exit_code, ran.stdout) == (0, "nothing changed, and the outputs are the same\n")
    assert cli("run", greeting, "--locked").exit_code == 0


def test_verify_says_what_changed(cli, greeting):
    cli("lock", greeting, "-q")
    greeting.write_text(greeting.read_text().replace("word: hey", "word: ho").replace("default: hey", "default: ho"))
    ran = cli("verify", greeting)
    assert ran.exit_code == 1
    assert ran.stdout.splitlines()[0] == "input 'word.value' was hey and is ho"
    assert ran.stdout.splitlines()[-1] == "the outputs differ: result"
    found = cli("verify", greeting, "--json")
    assert found.exit_code == 1
    assert (found.json["same"], [change["name"] for change in found.json["changes"]]) == (False, ["word.value"])
    assert [change["name"] for change in found.json["outputs"]] == ["result"]
    ran = cli("run", greeting, "--locked", "--json")
    assert ran.exit_code == 2
    assert ran.json["problems"][0]["code"] == "E403"
    assert "input 'word.value' was hey and is ho" in ran.stderr
    assert not (cli.folder / "out").exists()


def test_a_damaged_lock_file_is_one_message(cli, greeting):
    (cli.folder / "greeting.lock.yaml").write_text("{")
    for words in (("verify", greeting), ("run", greeting, "--locked")):
        ran = cli(*words)
        assert ran.exit_code == 2
        assert "[E402]" in ran.stderr
        assert "Traceback" not in ran.stderr
    assert cli("run", greeting).exit_code == 0  # which does not need it
    assert cli("lock", greeting).exit_code == 0  # replaces it
    assert json.loads(cli("verify", greeting, "--json").stdout)["same"] is True


def test_standard_input_has_no_lock_file(cli):
    text = "nodegraph: 1\nnodes: {word: {use: Text}}\noutputs: {word: {from: $word}}\n"
    ran = cli("lock", "-", stdin=text)
    assert ran.exit_code == 2
    assert "was not read from a file" in ran.stderr


def test_an_example_has_its_lock_file_in_the_current_folder(cli, monkeypatch):
    monkeypatch.setattr("nodegraph.reproduce.lock._digests", lambda result, engine: [])
    monkeypatch.setattr("nodegraph.engine.Engine.run", lambda engine, workflow, **options: _checked(engine, workflow))
    ran = cli("lock", "txt2img", "-q")
    assert (ran.exit_code, ran.stdout) == (0, "txt2img.lock.yaml\n")
    assert "builtin:tiny" in (cli.folder / "txt2img.lock.yaml").read_text()


def _checked(engine, workflow):
    class Checked:
        graph = engine.check(workflow)

    return Checked()


def test_sweep_locked(cli, greeting):
    assert cli("sweep", greeting, "--over", "twice.times=1..2", "--locked").exit_code == 2
    cli("lock", greeting, "-q")
    ran = cli("sweep", greeting, "--over", "twice.times=1..2", "--locked", "-q")
    assert (ran.exit_code, len(ran.stdout.splitlines())) == (0, 2), ran.stderr
    ran = cli("sweep", greeting, "--over", "twice.times=1..2", "--set", "word=ho", "--locked", "--out", "other")
    assert ran.exit_code == 2
    assert "input 'word.value' was hey and is ho" in ran.stderr
    assert not (cli.folder / "other").exists()
