"""The command line in a separate process: imports, interrupts and closed pipes."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest

from tests.support.imported_modules import imported_by

BEGIN = '''
import sys, time
from nodegraph import Run, hookimpl, node

@node("Step")
def step(text: str, branch: int = 0, run: Run = Run()) -> str:
    """Says that it began, and takes steps until it is cancelled."""
    sys.stderr.write("began\\n")
    while True:
        run.step(1, 2)
        time.sleep(0.01)

@node("Stick")
def stick(text: str, branch: int = 0) -> str:
    """Says that it began, and takes no step."""
    sys.stderr.write("began\\n")
    time.sleep(600)
    return text

@hookimpl
def register_nodes(register):
    register(step)
    register(stick)
'''

PATIENT = """
nodegraph: 1
nodes:
  first: {use: Text, value: kept}
  long: {use: Step, text: $first}
  last: {use: Repeat, text: $long}
outputs: {last: {from: $last}}
"""

STUCK = PATIENT.replace("Step", "Stick")


def branches(use: str, count: int) -> str:
    """A workflow of nodes that can run at the same time."""
    nodes = "".join(f"  b{i}: {{use: {use}, text: $first, branch: {i}}}\n" for i in range(count))
    outputs = ", ".join(f"o{i}: {{from: $b{i}}}" for i in range(count))
    return f"nodegraph: 1\nnodes:\n  first: {{use: Text}}\n{nodes}outputs: {{{outputs}}}\n"


posix = pytest.mark.skipif(os.name == "nt", reason="signals and terminals of POSIX")


def test_help_and_listings_import_nothing_heavy(cli):
    helps = (["--help"], ["--version"], ["run", "--help"], ["cache", "info"])
    assert imported_by(cli, *helps, ["nodes"], ["nodes", "Text"], ["widgets"], ["plugins"]) == {}


def test_graph_needs_only_networkx(cli, greeting):
    found = imported_by(cli, ["check", greeting], ["show", greeting])
    assert set().union(*found.values()) <= {"networkx"}, found


def test_cached_run_imports_no_torch_and_no_rich(cli, greeting):
    cli("run", greeting)
    found = imported_by(cli, ["run", greeting])
    assert set().union(*found.values()) <= {"networkx"}, found


def test_module_runs_as_the_command(cli):
    ran = cli.other_process("--help")
    assert ran.exit_code == 0
    assert ran.stdout.startswith("Usage: nodegraph ")


@posix
def test_closed_pipe_is_not_reported_as_an_error(cli):
    reading, writing = os.pipe()
    os.close(reading)
    with cli.process("nodes", stdout=writing) as process:
        os.close(writing)
        _, stderr = process.communicate(timeout=300)
    assert "Traceback" not in stderr
    assert "Exception" not in stderr
    assert "Broken" not in stderr


def begin(cli, workflow, *args, count=1):
    """A process that runs the workflow, in which `count` nodes of the plugin above have begun."""
    (cli.folder / "mine").mkdir()
    (cli.folder / "mine" / "begin.py").write_text(BEGIN)
    process = cli.process("run", cli.write(workflow), "--plugin-dir", "mine", *args)
    output = ""
    for line in process.stderr:
        output += line
        if output.count("began\n") == count:
            return process
    raise AssertionError(output)


@posix
def test_ctrl_c_stops_at_a_step_and_keeps_results(cli):
    process = begin(cli, PATIENT)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "stopping at the next step" in stderr
    assert "Traceback" not in stderr
    assert stdout == ""
    assert not list(cli.folder.glob("out/*"))
    assert "Text" in cli("cache", "ls").stdout


@posix
def test_ctrl_c_with_json_reports_what_ran(cli, nodes_of):
    process = begin(cli, PATIENT, "--json")
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=300)
    assert process.returncode == 130
    assert '"status": "cancelled"' in stdout
    assert '"first": {"status": "ran"' in stdout


@posix
def test_ctrl_c_between_nodes_stops_the_run(cli, nodes_of):
    lines = "".join(f"  n{i}: {{use: Slow, text: $n{i - 1}, steps: 1, pause: {0.1 + i / 1e5}}}\n" for i in range(1, 300))
    file = cli.write(f"nodegraph: 1\nnodes:\n  n0: {{use: Text}}\n{lines}outputs: {{last: {{from: $n299}}}}\n", "chain.yaml")
    process = cli.process("run", file, "--json")
    for line in process.stderr:
        if "n3 " in line:
            break
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    summary = json.loads(stdout)
    ran = [name for name, node in summary["nodes"].items() if node["status"] == "ran"]
    assert ran == [f"n{i}" for i in range(len(ran))]
    assert 4 <= len(ran) < 300
    assert (summary["status"], summary["outputs"]) == ("cancelled", {})
    again = cli("run", file, "--json", "--target", ran[-1])
    assert nodes_of(again)[ran[-1]] == "cached"
    assert set(nodes_of(again).values()) == {"cached", "pruned"}


@posix
def test_ctrl_c_stops_parallel_branches(cli):
    process = begin(cli, branches("Step", 4), "--json", count=3)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 130
    assert json.loads(stdout)["nodes"].keys() == {"first"}
    assert "Traceback" not in stderr
    record = cli("runs", "show", "last", "--json").json
    assert record["status"] == "cancelled"
    assert {node["status"] for name, node in record["nodes"].items() if name != "first"} == {"skipped"}


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let processes that a test starts receive Ctrl-C, which background jobs of a shell ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@posix
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("command", ["run", "nodes"])
def test_ctrl_c_during_the_import_of_a_plugin_exits_with_130(cli, command):
    (cli.folder / "slow").mkdir()
    (cli.folder / "slow" / "sleepy.py").write_text("import time\nprint('here', flush=True)\ntime.sleep(600)\n")
    process = cli.process(command, *([cli.write(PATIENT)] if command == "run" else []), "--plugin-dir", "slow")
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Traceback" not in stderr


@posix
def test_sigterm_stops_as_ctrl_c_does(cli):
    process = begin(cli, PATIENT, "--json")
    process.terminate()
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 143
    assert json.loads(stdout)["nodes"]["first"]["status"] == "ran"
    assert "Traceback" not in stderr
    assert "Text" in cli("cache", "ls").stdout
    assert cli("runs", "show", "last", "--json").json["status"] == "cancelled"


@posix
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("module", ["click", "nodegraph.engine"])
def test_ctrl_c_during_imports_is_no_traceback(cli, module):
    """An import hook stops at the module, so that the signal comes in the middle of the imports."""
    (cli.folder / "hook").mkdir()
    (cli.folder / "hook" / "sitecustomize.py").write_text(
        "import sys, time\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        "            print('here', flush=True)\n"
        "            time.sleep(600)\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    cli.env["PYTHONPATH"] = str(cli.folder / "hook")
    process = cli.process("run", cli.write(PATIENT))
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 130
    assert stderr.strip() == "Interrupted"


@posix
def test_second_ctrl_c_stops_at_once(cli):
    process = begin(cli, STUCK)
    process.send_signal(signal.SIGINT)
    assert "stopping at the next step" in process.stderr.readline()
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert not list(cli.folder.glob("out/*"))
    assert cli("cache", "verify").exit_code == 0
    assert "Text" in cli("cache", "ls").stdout  # what was finished


@posix
def test_second_ctrl_c_stops_threads_at_once(cli):
    process = begin(cli, branches("Stick", 3), count=3)
    process.send_signal(signal.SIGINT)
    assert "stopping at the next step" in process.stderr.readline()
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 130
    assert stderr == ""
