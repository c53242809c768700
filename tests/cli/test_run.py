"""`nodegraph run`: printed lines, written files, cached results and exit statuses."""

from __future__ import annotations

import json
import re

import pytest

SEVERAL = """
nodegraph: 1
nodes:
  word: {use: Text, value: abcdef}
  halves: {use: Split, text: $word}
  twice: {use: Repeat, text: $halves.left}
outputs:
  left: {from: $twice, save: "left-{workflow}.json"}
  right: {from: $halves.right}
"""

BROKEN = """
nodegraph: 1
nodes:
  word: {use: Text, value: abc}
  twice: {use: Repeat, text: $word}
  bad: {use: Fail, text: $twice}
outputs:
  bad: {from: $bad}
"""


def test_single_output_prints_its_path(cli, greeting):
    ran = cli("run", greeting)
    assert ran.exit_code == 0, ran.stderr
    (path,) = ran.stdout.splitlines()
    assert (cli.folder / path).read_text(encoding="utf-8") == '"heyhey"\n'
    assert path.replace("\\", "/") == "out/greeting-result.json"


def test_several_outputs_print_their_names(cli):
    ran = cli("run", cli.write(SEVERAL, "several.yaml"), "--out", "there")
    assert ran.exit_code == 0, ran.stderr
    written = dict(line.split("\t") for line in ran.stdout.splitlines())
    assert {name: path.replace("\\", "/") for name, path in written.items()} == {
        "left": "there/left-several.json",
        "right": "there/several-right.json",
    }
    assert json.loads((cli.folder / written["left"]).read_text()) == "abcabc"
    assert json.loads((cli.folder / written["right"]).read_text()) == "def"


def test_json_output_has_the_documented_form(cli, greeting):
    ran = cli("run", greeting, "--json")
    assert set(ran.json) == {"run", "status", "seconds", "outputs", "nodes"}
    assert ran.json["status"] == "done"
    (path,) = ran.json["outputs"]["result"]
    assert (cli.folder / path).exists()
    assert set(ran.json["nodes"]) == {"word", "twice"}
    for node in ran.json["nodes"].values():
        assert set(node) == {"status", "seconds", "key"}
        assert node["status"] == "ran"
        assert re.fullmatch("[0-9a-f]{64}", node["key"])


def test_second_run_computes_nothing(cli, greeting, nodes_of):
    first = cli("run", greeting, "--json", "--out", "one")
    second = cli.other_process("run", greeting, "--json", "--out", "two")
    assert nodes_of(second) == {"word": "pruned", "twice": "cached"}
    assert {n["key"] for n in first.json["nodes"].values()} == {n["key"] for n in second.json["nodes"].values()}
    one, two = (cli.folder / ran.json["outputs"]["result"][0] for ran in (first, second))
    assert one.read_bytes() == two.read_bytes()


def test_set_reruns_only_dependent_nodes(cli, nodes_of):
    workflow = cli.write(
        """
nodegraph: 1
params: {word: hey}
nodes:
  other: {use: Slow, text: still}
  word: {use: Text, value: $params.word}
  twice: {use: Repeat, text: $word}
outputs: {result: {from: $twice}, other: {from: $other}}
"""
    )
    cli("run", workflow)
    changed = cli("run", workflow, "--set", "word=ho", "--json")
    assert nodes_of(changed) == {"other": "cached", "word": "ran", "twice": "ran"}
    input_changed = cli("run", workflow, "--set", "twice.times=3", "--json")
    assert nodes_of(input_changed) == {"other": "cached", "word": "cached", "twice": "ran"}
    (path,) = input_changed.json["outputs"]["result"]
    assert json.loads((cli.folder / path).read_text()) == "heyheyhey"


def test_set_takes_text_literally(cli, greeting):
    (path,) = cli("run", greeting, "--set", "word=a=b: 1e3, no", "--json").json["outputs"]["result"]
    assert json.loads((cli.folder / path).read_text()) == "a=b: 1e3, noa=b: 1e3, no"


def test_target_replaces_the_outputs(cli, nodes_of):
    ran = cli("run", cli.write(SEVERAL), "--target", "halves.right", "--json")
    assert ran.exit_code == 0, ran.stderr
    assert nodes_of(ran)["twice"] == "pruned"
    assert nodes_of(ran)["halves"] == "ran"
    assert list(ran.json["outputs"]) == ["halves.right"]


def test_force_reruns_a_node(cli, greeting, nodes_of):
    cli("run", greeting)
    assert nodes_of(cli("run", greeting, "--force", "twice", "--json")) == {"word": "cached", "twice": "ran"}


def test_other_output_is_kept_unless_told_to_overwrite(cli, greeting):
    (first,) = cli("run", greeting).stdout.splitlines()
    before = (cli.folder / first).read_bytes()
    (second,) = cli("run", greeting, "--set", "word.value=bye").stdout.splitlines()
    assert second == first.replace(".json", "-2.json")
    assert (cli.folder / first).read_bytes() == before
    assert cli("run", greeting, "--set", "word.value=bye", "--overwrite").stdout.splitlines() == [first]
    assert (cli.folder / first).read_bytes() == (cli.folder / second).read_bytes() != before


def test_no_cache_does_not_touch_the_cache(cli, greeting, nodes_of):
    for _ in range(2):
        ran = cli("run", greeting, "--no-cache", "--json")
        assert nodes_of(ran) == {"word": "ran", "twice": "ran"}
    assert not (cli.folder / "cache").exists()


def test_cache_dir_wins_over_the_environment(cli, greeting):
    assert cli("run", greeting, "--cache-dir", "mine").exit_code == 0
    assert (cli.folder / "mine").is_dir()
    assert not (cli.folder / "cache").exists()


def test_failed_node_exits_with_1_and_keeps_results(cli, nodes_of):
    workflow = cli.write(BROKEN)
    ran = cli("run", workflow, "--json")
    assert ran.exit_code == 1
    assert ran.json["status"] == "failed"
    assert nodes_of(ran)["bad"] == "failed"
    assert "node 'bad'" in ran.stderr
    assert "no good: abcabc" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert ran.json["outputs"] == {} or not ran.json["outputs"]["bad"]
    again = cli("run", workflow, "--json")
    assert nodes_of(again) == {"word": "pruned", "twice": "cached", "bad": "failed"}


def test_verbose_adds_the_traceback_and_the_keys(cli):
    ran = cli("run", cli.write(BROKEN), "-v")
    assert ran.exit_code == 1
    assert "Traceback" in ran.stderr
    assert "command_line.py" in ran.stderr
    assert re.search(r"twice +done in \d+\.\d\d s +[0-9a-f]{16}", ran.stderr)


def test_quiet_run_prints_no_messages(cli, greeting):
    ran = cli("run", greeting, "-q")
    assert ran.stderr == ""
    assert ran.stdout


def test_random_seed_changes_and_is_reported(cli):
    workflow = cli.write("nodegraph: 1\nnodes: {n: {use: Draw, seed: random}}\noutputs: {n: {from: $n}}\n")
    first, second = (cli("run", workflow, "--json").json for _ in range(2))
    assert first["nodes"]["n"]["key"] != second["nodes"]["n"]["key"]
    again = cli("run", workflow, "--json", "--set", f"n.seed={first['seeds']['n.seed']}").json
    assert "seeds" not in again
    assert again["nodes"]["n"] == {**first["nodes"]["n"], "status": "cached", "seconds": again["nodes"]["n"]["seconds"]}


def test_drawn_seed_is_shown(cli):
    workflow = cli.write(
        "nodegraph: 1\nparams: {seed: random}\nnodes: {n: {use: Draw, seed: $params.seed}, m: {use: Draw, seed: random}}\n"
        "outputs: {n: {from: $n}, m: {from: $m}}\n"
    )
    ran = cli("run", workflow)
    shown = dict(re.findall(r"^(\S+) is (\d+), drawn at random$", ran.stderr, re.MULTILINE))
    assert set(shown) == {"seed", "m.seed"}
    record = cli("runs", "show", "last", "--json").json
    assert str(record["params"]["seed"]) == shown["seed"]
    assert shown["m.seed"] in record["document"]
    assert "drawn" not in cli("run", workflow, "--set", "seed=1", "--set", "m.seed=2").stderr


def test_paths_in_set_are_relative_to_the_current_folder(cli):
    (cli.folder / "flows").mkdir()
    (cli.folder / "here.txt").write_text("near")
    (cli.folder / "flows" / "here.txt").write_text("beside the workflow")
    workflow = cli.write("nodegraph: 1\nnodes: {r: {use: Read, path: here.txt}}\noutputs: {r: {from: $r}}\n", "flows/read.yaml")

    def read_text(*args):
        ran = cli("run", workflow, "--json", *args)
        assert ran.exit_code == 0, ran.stderr
        return json.loads((cli.folder / ran.json["outputs"]["r"][0]).read_text())

    assert read_text() == "beside the workflow"
    assert read_text("--set", "r.path=here.txt") == "near"


def test_files_are_keyed_by_content(cli, nodes_of):
    note = cli.folder / "note.txt"
    note.write_text("one")
    workflow = cli.write("nodegraph: 1\nnodes: {r: {use: Read, path: note.txt}}\noutputs: {r: {from: $r}}\n")
    cli("run", workflow)
    note.rename(cli.folder / "moved.txt")
    assert nodes_of(cli("run", workflow, "--set", "r.path=moved.txt", "--json")) == {"r": "cached"}
    note.write_text("two")
    assert nodes_of(cli("run", workflow, "--json")) == {"r": "ran"}


def test_edited_plugin_runs_again(cli, greeting, nodes_of):
    folder = cli.folder / "plugins"
    folder.mkdir()
    plugin = folder / "mine.py"
    code = "from nodegraph import hookimpl, node\n\n@node('Mine')\ndef mine() -> str:\n    return 'one'\n\n"
    plugin.write_text(code + "@hookimpl\ndef register_nodes(register):\n    register(mine)\n")
    workflow = cli.write("nodegraph: 1\nnodes: {m: {use: Mine}}\noutputs: {m: {from: $m}}\n")
    run = ("run", workflow, "--plugin-dir", folder, "--json")
    assert nodes_of(cli(*run)) == {"m": "ran"}
    assert nodes_of(cli(*run)) == {"m": "cached"}
    plugin.write_text(plugin.read_text().replace("'one'", "'two'"))
    assert nodes_of(cli.other_process(*run)) == {"m": "ran"}


@pytest.mark.parametrize("args", [["--version"], ["--help"], ["run", "--help"]])
def test_help_and_version_exit_with_0(cli, args):
    assert cli(*args).exit_code == 0


MEMORY = """
from nodegraph import hookimpl, node

state = {"calls": 0}


@node("Hungry")
def hungry() -> str:
    state["calls"] += 1
    if state["calls"] == 1:
        raise MemoryError("no room left")
    return "fed"


@hookimpl
def register_nodes(register):
    register(hungry)
"""


def test_node_out_of_memory_is_retried_once(cli):
    (cli.folder / "mine").mkdir()
    (cli.folder / "mine" / "hungry.py").write_text(MEMORY)
    workflow = cli.write("nodegraph: 1\nnodes: {h: {use: Hungry}}\noutputs: {h: {from: $h}}\n")
    ran = cli("run", workflow, "--plugin-dir", "mine")
    assert ran.exit_code == 0, ran.stderr
    assert "memory" in ran.stderr


MOVING = """
import os, threading, time
from nodegraph import hookimpl, node

STARTED = threading.Event()

@node("Moves")
def moves(folder: str) -> str:
    assert STARTED.wait(60)
    os.chdir(folder)
    return folder

@node("WaitsFor")
def waits_for(path: str) -> str:
    STARTED.set()
    for _ in range(1200):
        if os.path.exists(path):
            return path
        time.sleep(0.05)
    raise TimeoutError(path)

@hookimpl
def register_nodes(register):
    register(moves)
    register(waits_for)
"""


def test_relative_folders_are_those_where_the_command_began(cli):
    """One node changes the current directory, and its result is stored and written while the other one keeps the change alive."""
    (cli.folder / "plugins").mkdir()
    (cli.folder / "plugins" / "moving.py").write_text(MOVING)
    (cli.folder / "elsewhere").mkdir()
    moves = f"moved: {{use: Moves, folder: {cli.folder / 'elsewhere'}}}"
    waits = f"waited: {{use: WaitsFor, path: {cli.folder / 'out' / 'w-moved.json'}}}"
    workflow = f"nodegraph: 1\nnodes:\n  {moves}\n  {waits}\noutputs:\n  moved: $moved\n  waited: $waited\n"
    cli.write(workflow, "w.yaml")
    ran = cli("run", "w.yaml", "--cache-dir", "own cache", "--out", "out", "--plugin-dir", "plugins")
    assert ran.exit_code == 0, ran.stderr
    assert "the current directory of the process" in ran.stderr
    assert sorted(path.name for path in (cli.folder / "out").iterdir()) == ["w-moved.json", "w-waited.json"]
    assert cli("cache", "info", "--cache-dir", "own cache", "--json").json["results"] == 2
    assert list((cli.folder / "elsewhere").iterdir()) == []
