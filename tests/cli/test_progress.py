"""Progress on stderr during a run."""

from __future__ import annotations

import json
import os
import re
import sys
import types

import pytest

from nodegraph import Engine, Workflow
from nodegraph.cli.progress import LiveProgress, PlainProgress, progress
from nodegraph.run import events
from nodegraph.run.display.time_left import TimeLeft, duration
from nodegraph.run.record import usual_times
from tests.support.plugin_folders import STUB_PLUGINS

REMARKS = """
nodegraph: 1
nodes:
  word: {use: Remark, text: hey}
  loud: {use: Slow, text: $word, steps: 4, pause: 0.01}
outputs: {loud: {from: $loud}}
"""


def test_nodes_notices_and_the_end_have_lines(cli):
    lines = cli("run", cli.write(REMARKS)).stderr.splitlines()
    assert lines[0] == "word  note: hey is short"
    assert re.fullmatch(r"word  done in \d+\.\d\d s", lines[1])
    assert re.fullmatch(r"loud  done in \d+\.\d\d s \(\d+\.\d\d it/s\)", lines[2])
    assert re.fullmatch(r"done in \d+\.\d\d s", lines[3])


def test_notices_are_in_the_json_too(cli):
    notice = {"node": "word", "message": "hey is short"}
    ran = cli("run", cli.write(REMARKS), "--json", "-q")
    assert (ran.json["notices"], ran.stderr) == ([notice], "")
    assert cli("run", cli.folder / "greeting.yaml", "--set", "loud.steps=2", "--json", "-q").json["notices"] == [
        notice
    ]  # if it is cached


def test_cached_and_unneeded_nodes_are_shown(cli):
    workflow = cli.write(REMARKS)
    cli("run", workflow)
    again = cli("run", workflow).stderr.splitlines()
    assert again[0] == "loud  cached"
    assert len(again) == 2
    assert "not needed: word" in cli("run", workflow, "-v").stderr


def test_cached_notice_is_shown_again(cli):
    workflow = cli.write(REMARKS)
    cli("run", workflow)
    assert "word  note: hey is short" in cli("run", workflow, "--set", "loud.steps=2").stderr


def test_steps_of_a_long_node_are_shown_at_intervals(capsys, monkeypatch):
    clock = iter(float(k) for k in range(1000))
    monkeypatch.setattr("nodegraph.run.display.time_left.time.monotonic", lambda: next(clock))
    shown = PlainProgress()
    shown(events.NodeStarted("sampled"))
    for step in range(1, 41):
        shown(events.NodeProgress("sampled", step, 40))
    lines = capsys.readouterr().err.splitlines()
    assert 3 <= len(lines) <= 15
    assert all(re.fullmatch(r"sampled  step \d+ of 40, \d+\.\d\d (it/s|s/it), (\d+ min )?\d+ s left", line) for line in lines)


def plan_of(cli, workflow):
    return Engine(cli.folder / "cache", plugin_dirs=[STUB_PLUGINS]).plan(Workflow.load(workflow))


@pytest.fixture
def clock(monkeypatch):
    """The time in seconds, which tests set."""
    now = types.SimpleNamespace(seconds=0.0)
    monkeypatch.setattr("nodegraph.run.display.time_left.time.monotonic", lambda: now.seconds)
    return now


def time_left(plan, records):
    return TimeLeft(plan.names("run"), lambda: usual_times(plan, records))


def test_time_left_of_a_node_follows_from_its_steps(clock):
    left = TimeLeft()
    node = left.started("sampled")
    assert left.of_node("sampled") is None
    for step in (1, 2, 3):
        clock.seconds += 2
        node.step(step, 10)
    assert left.of_node("sampled") == left.of_run() == 14
    clock.seconds += 1
    assert left.of_node("sampled") == 13


def test_time_left_of_a_run_follows_from_earlier_runs(cli, clock):
    workflow = cli.write(REMARKS)
    cli("run", workflow)
    records = cli.folder / "cache" / "runs"
    (path,) = records.iterdir()
    record = json.loads(path.read_text())
    record["nodes"]["word"]["seconds"], record["nodes"]["loud"]["seconds"] = 3.0, 60.0
    path.write_text(json.dumps(record))
    other = REMARKS.replace("hey", "you").replace("word", "first")  # a node that is new here, of a type that ran before
    left = time_left(plan_of(cli, cli.write(other)), records)
    assert left.of_run() == 63
    left.started("first")
    clock.seconds += 2
    assert (left.of_node("first"), left.of_run()) == (1, 61)
    left.ended("first")
    node = left.started("loud")
    node.step(1, 4)
    clock.seconds += 5
    node.step(2, 4)
    assert left.of_run() == 10  # its steps say more than its earlier time


def test_time_left_without_records_and_with_damaged_ones(cli):
    plan = plan_of(cli, cli.write(REMARKS))
    assert time_left(plan, None).of_run() is None
    records = cli.folder / "runs"
    records.mkdir()
    (records / "20260101.json").write_text('{"format": 2, "workflow": "greeting", "nodes": {"word": {"status": "ran"}}}')
    (records / "20260102.json").write_text("[]")
    assert time_left(plan, records).of_run() is None


def test_lines_say_how_long_the_run_takes(cli, capsys, clock):
    workflow = cli.write(REMARKS)
    cli("run", workflow)
    shown = PlainProgress()
    plan = plan_of(cli, cli.write(REMARKS.replace("hey", "you")))
    shown.time_left = TimeLeft(plan.names("run"), lambda: {"loud": 100.0})
    for step, seconds in ((1, 0.0), (2, 15.0)):
        clock.seconds = seconds
        shown(events.NodeProgress("word", step, 4))
    assert capsys.readouterr().err == "word  step 2 of 4, 15.00 s/it, 30 s left, 2 min 10 s for the run\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3599.4, "59 min 59 s"), (12000, "3 h 20 min")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_every_notice_is_a_note(capsys):
    shown = PlainProgress()
    shown(events.Notice(None, "the cache cannot be written"))
    shown(events.Notice("word", "hey is short"))
    assert capsys.readouterr().err.splitlines() == ["note: the cache cannot be written", "word  note: hey is short"]


def test_display_suits_stderr(monkeypatch):
    assert type(progress(quiet=False, verbose=False)) is PlainProgress
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert type(progress(quiet=False, verbose=False)) is LiveProgress
    assert type(progress(quiet=True, verbose=False)) is PlainProgress


@pytest.mark.skipif(os.name == "nt", reason="a terminal of POSIX")
def test_terminal_shows_a_counter_for_a_running_node(cli):
    import pty

    workflow = cli.write(REMARKS)
    master, slave = pty.openpty()
    with cli.process("run", workflow, "--set", "loud.pause=0.2", stderr=slave) as process:
        os.close(slave)
        shown = b""
        while True:
            try:
                data = os.read(master, 65536)
            except OSError:  # how Linux reports that the other side is closed
                break
            if not data:
                break
            shown += data
        assert process.wait(timeout=300) == 0
    os.close(master)
    text = shown.decode()
    assert re.search(r"step \d of 4, \d+\.\d\d it/s", text)
    assert re.search(r"loud  done in \d+\.\d\d s", text)
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h")  # the cursor is shown again
