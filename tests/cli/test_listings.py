"""Listings: nodes, registries, plugins and the graph of a workflow."""

from __future__ import annotations

import pytest

from nodegraph_diffusion.sampling import SAMPLERS
from nodegraph_diffusion.schedules import SCHEDULES

SHAPES = """
nodegraph: 1
description: All sorts
params: {word: 'a "quoted" <word>'}
nodes:
  end: {use: Text, value: $params.word}
  halves: {use: Split, text: $end}
  again: {use: Repeat, text: $halves.left, times: 3}
outputs:
  again: {from: $again, save: "{word}.json"}
  right: {from: $halves.right}
"""

PATIENT = """
from nodegraph import Run, hookimpl, node

@node("Patient", timeout=1.5, retries=3)
def patient(run: Run = Run()) -> int:
    return 1

@node("Once", retries=1)
def once() -> int:
    return 1

@hookimpl
def register_nodes(register):
    register(patient)
    register(once)
"""


def test_help_lists_commands_and_registries(cli):
    lines = cli("--help").stdout.splitlines()
    listed = lines[lines.index("Commands:") + 1 :]
    commands = [line.split()[0] for line in listed[: listed.index("")]]
    assert commands[:6] == ["run", "sweep", "watch", "check", "explain", "show"]
    assert {"lock", "verify", "diff", "nodes", "cache", "runs", "init", "config", "doctor", "stubs"} < set(commands)
    assert {"loaded", "widgets"} <= set(commands)


def test_plugin_cannot_replace_a_command(cli):
    ran = cli("--help")
    assert "adds a command 'run', which 'nodegraph' has" in ran.stderr


def test_nodes_are_listed_with_their_plugin(cli):
    rows = [line.split() for line in cli("nodes").stdout.splitlines()]
    assert ["Repeat", "Repeat", "a", "text.", "stub_pack"] in rows
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)


def test_node_page_shows_inputs_and_outputs(cli):
    text = cli("nodes", "Repeat").stdout
    assert "Large, version 1, not kept: runs whenever a node needs its result\n" in cli("nodes", "Large").stdout
    assert cli("nodes", "Large", "--json").json["keep"] is False
    assert "Repeat, version 1" in text
    assert "Repeat a text." in text
    assert any(line.split() == ["text", "text", "required"] for line in text.splitlines())
    assert "default 2; 0 to 9" in text
    assert "stub" in text


def test_node_page_shows_choices_and_all_outputs(cli):
    assert "default hello; what it says" in cli("nodes", "Text").stdout
    assert "one of 'nodegraph widgets'" in cli("nodes", "Shape").stdout
    assert [line.split()[0] for line in cli("nodes", "Split").stdout.splitlines() if line.startswith("  ")] == [
        "text",
        "at",
        "left",
        "right",
    ]


def test_node_page_shows_timeout_and_retries(cli):
    (cli.folder / "mine").mkdir()
    (cli.folder / "mine" / "patient.py").write_text(PATIENT)
    first = cli("nodes", "Patient", "--plugin-dir", "mine").stdout.splitlines()[0]
    assert first == "Patient, version 1, timeout 1.5 s, 3 retries"
    assert cli("nodes", "Once", "--plugin-dir", "mine").stdout.splitlines()[0] == "Once, version 1, 1 retry"
    patient = cli("nodes", "Patient", "--plugin-dir", "mine", "--json").json
    assert (patient["timeout"], patient["retries"]) == (1.5, 3)
    text = cli("nodes", "Text", "--json").json
    assert (text["timeout"], text["retries"]) == (None, 0)
    assert cli("nodes", "Text").stdout.splitlines()[0] == "Text, version 2"


def test_each_registry_has_a_listing(cli):
    assert cli("widgets").stdout.split() == ["gear", "A", "wheel", "with", "teeth.", "stub_pack"]
    described = cli("widgets", "gear").stdout
    assert "A wheel with teeth." in described
    assert "teeth  int  default 12" in described


def test_plugins_are_listed_with_their_source(cli):
    row = next(line for line in cli("plugins").stdout.splitlines() if line.startswith("stub_pack"))
    assert row.endswith("stub_pack")
    assert " ms " in row


def test_check_confirms_a_valid_workflow(cli, greeting):
    ran = cli("check", greeting)
    assert ran.exit_code == 0
    assert ran.stdout == f"{greeting}: 2 nodes, 1 output, no mistakes\n"
    assert not (cli.folder / "out").exists()


def test_check_takes_settings(cli, greeting):
    assert "  word = ho\n" in cli("check", greeting, "--set", "word=ho", "-v").stdout


def test_show_prints_text(cli):
    assert cli("show", cli.write(SHAPES, "shapes.yaml")).stdout == (
        "shapes: All sorts\n"
        "\nparams\n"
        '  word  "a \\"quoted\\" <word>"\n'
        "\nnodes\n"
        "  end     Text    value: $params.word\n"
        "  halves  Split   text: $end\n"
        "  again   Repeat  text: $halves.left, times: 3\n"
        "\noutputs\n"
        "  again  $again         -> {word}.json\n"
        "  right  $halves.right\n"
    )


def test_show_prints_mermaid(cli):
    assert cli("show", cli.write(SHAPES), "--format", "mermaid").stdout.splitlines() == [
        "flowchart TD",
        '    n0["end<br/><i>Text</i>"]',
        '    n1["halves<br/><i>Split</i>"]',
        '    n2["again<br/><i>Repeat</i>"]',
        '    n0 -- "text" --> n1',
        '    n1 -- "text" --> n2',
        '    n2 --> o0(["again"])',
        '    n1 --> o1(["right"])',
    ]


def test_samplers_are_listed_with_their_plugin(cli):
    samplers = {line.split()[0]: line.split()[-1] for line in cli("samplers").stdout.splitlines()}
    assert {name for name, plugin in samplers.items() if plugin == "nodegraph_nodes"} == set(SAMPLERS)
    schedules = [line.split() for line in cli("schedules").stdout.splitlines()]
    assert [words[0] for words in schedules if words[-1] == "nodegraph_nodes"] == sorted(SCHEDULES)
    assert "rho  float  default 7.0" in cli("schedules", "karras").stdout


def test_sampler_page_shows_its_declaration(cli):
    output = cli("samplers", "DPM++ 2M").stdout  # by the name that other programs have for it
    assert output.startswith("dpmpp_2m\n")
    for text in ("stochastic: ", "evaluations per step: ", "order: ", "arXiv:2211.01095", "also known as: "):
        assert text in output
    assert "order:                 2, measured " in output
    assert "eta  float  default 0.0" in cli("samplers", "ddim").stdout


def test_guidance_is_listed_with_its_options(cli):
    listed = cli("guidance").stdout.splitlines()
    assert {line.split()[-1] for line in listed} == {"nodegraph_nodes"}
    assert "rescale" in {line.split()[0] for line in listed}
    assert "default 0.7" in cli("guidance", "rescale").stdout


def test_schedule_of_a_plugin_folder_is_listed(cli):
    (cli.folder / "mine").mkdir()
    (cli.folder / "mine" / "even.py").write_text(
        "from nodegraph import hookimpl\n\n"
        "def schedule_even(schedule, steps, *, least: float = 0.1):\n    '''Evenly spaced noise levels, then 0.'''\n\n"
        "@hookimpl\ndef register_schedules(register):\n    register('even', schedule_even)\n"
    )
    listed = cli("schedules", "--plugin-dir", "mine").stdout
    assert ["even", "Evenly", "spaced", "noise", "levels,", "then", "0.", "even"] in map(str.split, listed.splitlines())
    assert "least  float  default 0.1" in cli("schedules", "even", "--plugin-dir", "mine").stdout


OVERSIGHTS = """
nodegraph: 1
params:
  word: hey
  spare: 1
  size: 2
nodes:
  end: {use: Text, value: "$params.word and $params.word"}
  same: {use: Text, value: $$params.word}
  alone: {use: Text, value: x}
outputs:
  a: {from: $end, save: "{size}"}
  A: {from: $same, save: "other"}
"""


def test_check_warns_about_oversights(cli):
    ran = cli("check", cli.write(OVERSIGHTS, "w.yaml"))
    assert ran.exit_code == 0
    assert ran.stdout.endswith("w.yaml: 3 nodes, 2 outputs, no mistakes\n")
    assert ran.stderr.splitlines() == [
        "warning: w.yaml:4:9 param 'word' is not used. Refer to it with '$params.word', or remove it.",
        "warning: w.yaml:5:10 param 'spare' is not used. Refer to it with '$params.spare', or remove it.",
        (
            "warning: w.yaml:8:27 'value' of node 'end' has '$params.word' inside text, where it stays as it is; a param is a "
            "whole value."
        ),
        "warning: w.yaml:10:3 node 'alone' is not used: no output depends on it. Add an output, or remove the node.",
        "warning: w.yaml:13:13 outputs 'a' and 'A' differ only in case. Rename one.",
    ]
    assert "has no outputs" in cli("check", cli.write("nodegraph: 1\nnodes: {w: {use: Text}}\n")).stderr


def test_check_prints_json(cli, greeting):
    assert cli("check", greeting, "--json").json == {
        "file": str(greeting),
        "problems": [],
        "warnings": [],
        "nodes": 2,
        "outputs": 1,
        "params": {"word": "hey"},
        "not_fetched": [],
        "notes": [],
    }
    (warning, *_) = cli("check", cli.write(OVERSIGHTS, "w.yaml"), "--json").json["warnings"]
    assert (warning["file"], warning["line"], warning["column"]) == ("w.yaml", 4, 9)
    ran = cli("check", cli.write("nodegraph: 1\nnodes: {w: {use: Txt}}\n"), "--json")
    assert ran.exit_code == 2
    assert ran.json["problems"] == [
        {
            "code": "E103",
            "message": "there is no node type 'Txt' (node 'w')",
            "file": "greeting.yaml",
            "line": 2,
            "column": 18,
            "hint": "Did you mean 'Text'?",
        }
    ]
    assert "[E103]" in ran.stderr


def test_show_prints_json(cli):
    assert cli("show", cli.write(SHAPES, "shapes.yaml"), "--json", "--set", "word=x").json == {
        "workflow": "shapes",
        "description": "All sorts",
        "params": {"word": "x"},
        "nodes": {
            "end": {"use": "Text", "inputs": {"value": "$params.word"}},
            "halves": {"use": "Split", "inputs": {"text": "$end"}},
            "again": {"use": "Repeat", "inputs": {"text": "$halves.left", "times": 3}},
        },
        "outputs": {
            "again": {"from": "$again.output", "save": "{word}.json"},
            "right": {"from": "$halves.right", "save": None},
        },
        "not_fetched": [],
    }


def test_listings_print_json(cli):
    nodes = {node["name"]: node for node in cli("nodes", "--json").json}
    assert nodes["Repeat"] == cli("nodes", "Repeat", "--json").json
    assert nodes["Repeat"]["inputs"][0] == {"name": "text", "type": "text", "required": True}
    assert {"name": "times", "type": "int", "required": False, "default": 2, "min": 0, "max": 9} in nodes["Repeat"]["inputs"]
    assert nodes["Repeat"]["from"]["plugin"] == "stub_pack"
    samplers = {sampler["name"]: sampler for sampler in cli("samplers", "--json").json}
    assert set(samplers) >= set(SAMPLERS)
    assert samplers["euler_ancestral"] == cli("samplers", "Euler A", "--json").json
    assert "Euler a" in samplers["euler_ancestral"]["aliases"]
    assert samplers["ddim"]["options"] == [
        {"name": "eta", "type": "float", "required": False, "default": 0.0, "min": 0.0, "max": 1.0}
    ]
    assert [plugin["error"] for plugin in cli("plugins", "--json").json if plugin["name"] == "stub_pack"] == [None]
    (model,) = cli("models", "--json").json
    assert (model["model"], model["kind"], model["bytes"] > 1e6) == ("builtin:tiny", "sd1", True)
    assert cli("nodes", "Sampplr", "--json").exit_code == 2


def test_names_for_two_registries_are_split(cli):
    expected = "Did you mean the sampler 'dpmpp_2m' and the schedule 'karras'?"
    assert expected in cli("samplers", "DPM++ 2M Karras").stderr
    assert "Did you mean 'dpmpp_2m'?" in cli("samplers", "ddpm_2m").stderr


def test_workflows_are_read_from_standard_input(cli, greeting):
    text = greeting.read_text()
    assert cli("check", "-", stdin=text).stdout == "<stdin>: 2 nodes, 1 output, no mistakes\n"
    assert cli("show", "-", stdin=text).stdout == cli("show", greeting).stdout.replace("greeting: ", "workflow: ", 1)
    assert cli("explain", "-", "--json", stdin=text).json.keys() == {"word", "twice"}
    ran = cli("run", "-", stdin=text)
    assert (ran.exit_code, ran.stdout) == (0, "out/workflow-result.json\n")
    assert cli("check", "-", stdin="nodes: 5").stderr.startswith("<stdin>:1:1 [E101]")


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("show", "wrong.yaml"), "E103", "there is no node type 'Txt' (node 'w')"),
        (("explain", "wrong.yaml"), "E103", "there is no node type 'Txt' (node 'w')"),
        (("run", "wrong.yaml"), "E103", "there is no node type 'Txt' (node 'w')"),
        (("run", "greeting.yaml", "--device", "cpuu"), "E305", "device 'cpuu'"),
        (("run", "greeting.yaml", "--set", "word"), None, "Invalid value for '--set': expected name=value"),
        (("run",), None, "Missing argument 'FILE'."),
        (("nodes", "Txt"), None, "There is no node type 'Txt'. Did you mean 'Text'?"),
        (("samplers", "eulr"), None, "There is no sampler 'eulr'. Did you mean 'euler'?"),
        (("examples", "txt2imgs"), None, "There is no example 'txt2imgs'. Did you mean 'txt2img'?"),
        (("models", "nothing"), "E113", "nothing"),
        (("runs", "show", "gone"), None, "There is no run 'gone'."),
        (("check", "greeting.yaml", "--plugin-dir", "gone"), "E304", "gone cannot be read"),
        (("cache", "gc", "--size", "much"), "E401", "much"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_errors_are_json_too(cli, greeting, args, code, message):
    cli.write("nodegraph: 1\nnodes: {w: {use: Txt}}\noutputs: {r: {from: $w}}\n", "wrong.yaml")
    ran = cli(*args, "--json")
    assert ran.exit_code != 0
    (problem,) = ran.json["problems"]
    assert problem.keys() == {"code", "message", "file", "line", "column", "hint"}
    assert problem["code"] == code
    assert message in problem["message"]
    assert message in ran.stderr  # for people, as without --json


def test_command_that_prints_json_about_a_failure_prints_no_other(cli):
    workflow = cli.write("nodegraph: 1\nnodes: {f: {use: Fail, text: x}}\noutputs: {r: {from: $f}}\n")
    ran = cli("run", workflow, "--json")
    assert (ran.exit_code, ran.json["status"]) == (1, "failed")
