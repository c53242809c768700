"""Composed workflows, presets and resolved values on the command line."""

from __future__ import annotations

import pytest

INNER = """
nodegraph: 1
params: {text: hello, times: {default: 2, min: 1}}
nodes: {again: {use: Repeat, text: $params.text, times: $params.times}}
outputs: {text: {from: $again}}
"""
MAIN = """
nodegraph: 1
params: {words: {type: "list[text]", default: [a, b]}}
nodes:
  many: {use: ./inner.yaml, each: {text: $params.words}}
  end: {use: Repeat, text: x}
outputs: {o: {from: $many}, end: {from: $end}}
sweep: {over: {words: [[a], [b]]}}
"""


@pytest.fixture
def main(cli):
    cli.write(INNER, "inner.yaml")
    cli.write(MAIN, "main.yaml")
    return "main.yaml"


def test_commands_know_composed_nodes(cli, main):
    assert cli("check", main).stdout == "main.yaml: 3 nodes, 3 outputs, no mistakes\n"
    explained = cli("explain", main, "--json", "--target", "many").json
    assert list(explained) == ["many[0]/again", "many[1]/again", "end"]
    ran = cli("run", main, "--json", "--set", "many/again.times=1")
    assert set(ran.json["nodes"]) == {"many[0]/again", "many[1]/again", "end"}
    assert ran.json["outputs"]["o"] == ["out/main-o-0.json", "out/main-o-1.json"]
    assert [notice["message"] for notice in ran.json["notices"]] == [
        "the section 'sweep' is ignored: a run computes the workflow once"
    ]
    shown = cli("show", main, "--json").json
    assert shown["outputs"]["o"] == {"from": ["$many[0]/again.output", "$many[1]/again.output"], "save": None}
    assert shown["nodes"]["many[1]/again"] == {
        "use": "Repeat",
        "inputs": {"text": "$params.many[1].text", "times": "$params.many[1].times"},
    }
    assert "many[1]/again" in cli("show", main).stdout
    assert "many[1]/again" in cli("show", main, "--format", "mermaid").stdout


def test_presets_hold_what_set_takes(cli, main):
    (cli.folder / "presets").mkdir()
    cli.write("words: [q]\nmany.times: 3\nend.text: y\n", "presets/one.yaml")
    cli.write("end.times: 1\n", "presets/two.yaml")
    ran = cli("run", main, "-f", "presets/one.yaml", "-f", "presets/two.yaml", "--set", "end.text=z", "--json").json
    paths = [*ran["outputs"]["o"], *ran["outputs"]["end"]]
    assert [(cli.folder / path).read_text().strip() for path in paths] == ['"qqq"', '"z"']


def test_mistakes_in_presets_have_their_line(cli, main):
    cli.write("\nwodrs: [q]\nmany.times: 0\nend.txet: y\nend.times: $end\n", "preset.yaml")
    failed = cli("check", main, "-f", "preset.yaml")
    assert failed.stderr == ("preset.yaml:5:12 [E110] 'end.times' refers to $end. Expected a value. '$$end' is the text '$end'.\n")
    cli.write("\nwodrs: [q]\nmany.times: 0\nend.txet: y\n", "preset.yaml")
    failed = cli("check", main, "-f", "preset.yaml")
    assert failed.stderr.splitlines() == [
        "preset.yaml:2:1 [E120] 'wodrs': the workflow has no such param or node input. Did you mean 'words'?",
        "preset.yaml:3:1 [E111] 'many.times', which is param 'times' in inner.yaml:3:40: expected a value of at least 1, found 0.",
        "preset.yaml:4:1 [E120] 'end.txet': Repeat has no input 'txet'. Did you mean 'text'?",
    ]
    assert "[E100] there is no preset nothing.yaml. Check the path." in cli("check", main, "-f", "nothing.yaml").stderr


def test_resolved_values_have_their_origin(cli, main):
    cli.write("end.times: 5\n", "preset.yaml")
    shown = cli("show", main, "--resolved", "--set", "many.times=3", "-f", "preset.yaml", "--json").json
    assert shown["params"] == {"words": {"value": ["a", "b"], "origin": "main.yaml:3:47"}}
    assert shown["nodes"]["many[1]/again"] == {
        "use": "Repeat",
        "origin": "inner.yaml:4:9",
        "inputs": {
            "text": {"value": "b", "origin": "main.yaml:3:47"},
            "times": {"value": 3, "origin": "--set many.times"},
        },
    }
    assert shown["nodes"]["end"]["inputs"] == {
        "text": {"value": "x", "origin": "main.yaml:6:28"},
        "times": {"value": 5, "origin": "preset.yaml:1:1"},
    }
    text = cli("show", main, "--resolved").stdout
    assert [line.split() for line in text.splitlines()][-3:] == [
        ["end", "Repeat", "main.yaml:6:3"],
        ["text", "x", "main.yaml:6:28"],
        ["times", "2", "default"],
    ]
    assert cli("show", main, "--resolved", "--format", "mermaid").exit_code == 2


def test_resolved_files_are_as_they_were_written(cli):
    (cli.folder / "note.txt").write_text("hello")
    reading = "params: {path: {type: path, default: note.txt}}\nnodes: {a: {use: Read, path: $params.path}}\noutputs: {o: $a}"
    shown = cli("show", cli.write(f"nodegraph: 1\n{reading}", "reading.yaml"), "--resolved", "--json").json
    assert shown["nodes"]["a"]["inputs"]["path"] == {"value": "note.txt", "origin": "reading.yaml:2:38"}
