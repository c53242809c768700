"""`nodegraph runs`: overrides in `show`, and `rerun`."""

from __future__ import annotations

import json

from nodegraph import Engine, Workflow
from tests.support.plugin_folders import STUB_PLUGINS

DRAWN = """
nodegraph: 1
params:
  seed: random
  word: hey
nodes:
  one: {use: Draw, seed: $params.seed}
  twice: {use: Repeat, text: $params.word}
outputs:
  one: {from: $one}
  twice: {from: $twice}
"""


def test_show_lists_the_overrides_as_they_were_given(cli):
    cli("run", cli.write(DRAWN), "--set", "word=no", "--set", "twice.text=1.50")
    lines = cli("runs", "show", "last").stdout.splitlines()
    start = lines.index("overrides")
    assert [line.split() for line in lines[start + 1 : start + 3]] == [["word", "no"], ["twice.text", "1.50"]]
    assert cli("runs", "show", "last", "--json").json["overrides"] == {"word": "no", "twice.text": "1.50"}


def test_rerun_repeats_overrides_seeds_and_folder_without_the_file(cli, nodes_of):
    workflow = cli.write(DRAWN)
    first = cli("run", workflow, "--set", "word=bye", "--out", "there", "--json").json
    workflow.unlink()
    again = cli("runs", "rerun", "last", "--json")
    assert set(nodes_of(again).values()) == {"cached"}
    for name, (path,) in again.json["outputs"].items():
        assert cli.folder / path == cli.folder / first["outputs"][name][0]
    assert cli("runs", "show", "last", "--json").json["overrides"] == {"word": "bye"}
    forced = cli("runs", "rerun", first["run"], "--json", "--force", "one", "--out", "elsewhere")
    assert nodes_of(forced) == {"one": "ran", "twice": "cached"}
    (path,) = forced.json["outputs"]["one"]
    assert (cli.folder / path).read_text() == (cli.folder / first["outputs"]["one"][0]).read_text()


def test_rerun_finds_files_that_the_workflow_names_relative_to_itself(cli):
    (cli.folder / "below").mkdir()
    (cli.folder / "below" / "note.txt").write_text("some words")
    (cli.folder / "other.txt").write_text("other words")
    workflow = cli.write(
        "nodegraph: 1\nnodes: {read: {use: Read, path: note.txt}}\noutputs: {read: {from: $read}}\n", "below/w.yaml"
    )
    cli("run", workflow)
    (path,) = cli("runs", "rerun", "last").stdout.splitlines()
    assert json.loads((cli.folder / path).read_text()) == "some words"
    cli("run", workflow, "--set", "read.path=other.txt")
    (path,) = cli("runs", "rerun", "last").stdout.splitlines()
    assert json.loads((cli.folder / path).read_text()) == "other words"


def test_rerun_computes_the_same_target(cli, nodes_of):
    cli("run", cli.write(DRAWN), "--target", "twice")
    again = cli("runs", "rerun", "last", "--json")
    assert list(again.json["outputs"]) == ["twice"]


def test_rerun_of_a_run_that_is_not_there(cli):
    assert "There is no run 'last'" in cli("runs", "rerun", "last").stderr


def test_rerun_refuses_values_that_were_given_in_python(cli):
    engine = Engine(cli.folder / "cache", plugin_dirs=[STUB_PLUGINS])
    stubs = engine.plugins.manager.get_plugin("stub_pack")
    workflow = Workflow("wf")
    workflow.output("size", workflow.add("Grow", name="size", blob=stubs.Blob(b"x")))
    engine.run(workflow)
    ran = cli("runs", "rerun", "last")
    assert ran.exit_code == 2
    assert "'size.blob' was a value of type Blob given in Python" in ran.stderr
