"""`nodegraph explain`, `nodegraph runs` and `nodegraph schema`, and `run --keep-going`."""

from __future__ import annotations

import json

from tests.support.cli import GREETING, Cli

BRANCHES = """
nodegraph: 1
nodes:
  text: {use: Text, value: hey}
  slow: {use: Slow, text: $text}
  missing: {use: Fail, text: $text}
outputs:
  slow: $slow
  missing: $missing
"""

QUITTER = """
import sys
from nodegraph import hookimpl, node

@node("Quit")
def quit(i: int) -> str:
    if i == 0:
        sys.exit(0)
    raise KeyboardInterrupt if i == 1 else GeneratorExit

@hookimpl
def register_nodes(register):
    register(quit)
"""


def test_explain_shows_what_would_run_and_why(cli: Cli) -> None:
    file = cli.write(GREETING)
    first = cli("explain", file)
    assert first.exit_code == 0
    assert first.stdout.splitlines() == [
        "word   would run  it has not run before in this workflow",
        "twice  would run  text: 'word' may return another value",
    ]
    cli("run", file)
    assert cli("explain", file).stdout.splitlines() == ["word   is not needed", "twice  is cached"]
    changed = cli("explain", file, "--set", "word=ho", "--json")
    assert json.loads(changed.stdout) == {
        "word": {"action": "run", "reason": "value: 'hey' -> 'ho'"},
        "twice": {"action": "run", "reason": "text: 'word' may return another value"},
    }


def test_explain_runs_and_stores_nothing(cli: Cli) -> None:
    file = cli.write(GREETING)
    cli("explain", file)
    assert not (cli.folder / "out").exists()
    assert cli("runs", "ls", "--json").json == []


def test_runs_lists_and_shows_records(cli: Cli) -> None:
    file = cli.write(GREETING)
    cli("run", file)
    cli("run", file, "--set", "word=ho")
    latest, first = cli("runs", "ls", "--json").json
    assert (latest["workflow"], latest["params"], first["params"]) == ("greeting", {"word": "ho"}, {"word": "hey"})
    rows = cli("runs", "ls").stdout.splitlines()
    assert [row.split()[0] for row in rows] == [latest["run"], first["run"]]
    assert "2 ran" in rows[0]
    shown = cli("runs", "show", "last").stdout
    assert shown.startswith(f"{latest['run']}: greeting, done, ")
    assert "  word  ho" in shown
    assert "peak memory  " in shown
    assert cli("runs", "show", first["run"], "--json").json["params"] == {"word": "hey"}


def test_runs_show_of_an_unknown_run_is_an_error(cli: Cli) -> None:
    ran = cli("runs", "show", "2020")
    assert ran.exit_code == 2
    assert "There is no run '2020'. 'nodegraph runs ls' lists them." in ran.stderr


def test_schema_has_every_node_type(cli: Cli) -> None:
    schema = cli("schema").json
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    types = schema["definitions"]["nodes"]["additionalProperties"]["properties"]["use"]["else"]["enum"]
    assert {"Repeat", "Sampler"} <= set(types)


def test_keep_going_finishes_the_other_branches(cli: Cli) -> None:
    file = cli.write(BRANCHES, "branches.yaml")
    ran = cli("run", file, "--keep-going", "--json")
    assert ran.exit_code == 1
    assert {name: node["status"] for name, node in ran.json["nodes"].items()} == {
        "text": "ran",
        "slow": "ran",
        "missing": "failed",
    }
    assert list(ran.json["outputs"]) == ["slow"]
    assert "no good: hey" in ran.json["nodes"]["missing"]["error"]


def test_keep_going_reports_each_failure(cli: Cli) -> None:
    file = cli.write(BRANCHES.replace("{use: Slow, text: $text}", "{use: Fail, text: another}"), "branches.yaml")
    ran = cli("run", file, "--keep-going")
    assert ran.exit_code == 1
    assert ran.stdout == ""
    lines = ran.stderr.splitlines()
    assert [sum(f"no good: {text}" in line for line in lines) for text in ("hey", "another")] == [1, 1]
    shown = cli("runs", "show", "last").stdout
    assert "no good: hey" in shown
    assert "no good: another" in shown


def test_system_exit_in_a_node_fails_only_that_node(cli: Cli) -> None:
    (cli.folder / "mine").mkdir()
    (cli.folder / "mine" / "quitter.py").write_text(QUITTER)
    nodes = "\n".join(f"  q{i}: {{use: Quit, i: {i}}}" for i in range(3))
    file = cli.write(f"nodegraph: 1\nnodes:\n{nodes}\noutputs: {{a: $q0, b: $q1, c: $q2}}\n", "quit.yaml")
    ran = cli.other_process("run", file, "--plugin-dir", "mine", "--keep-going", "--json")
    assert ran.exit_code == 1
    assert {node["status"] for node in ran.json["nodes"].values()} == {"failed"}
    assert "SystemExit: 0" in ran.json["nodes"]["q0"]["error"]
    assert "KeyboardInterrupt" in ran.json["nodes"]["q1"]["error"]
    assert "mistake in plugin 'quitter'" in ran.stderr
    assert "Traceback" not in ran.stderr
