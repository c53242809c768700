"""Progress on stderr during a run."""

from __future__ import annotations

import os
import re
import sys

import pytest

from nodegraph.cli.progress import LiveProgress, PlainProgress, progress
from nodegraph.run import events

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
    monkeypatch.setattr("nodegraph.cli.progress.time.monotonic", lambda: next(clock))
    shown = PlainProgress()
    shown(events.NodeStarted("sampled"))
    for step in range(1, 41):
        shown(events.NodeProgress("sampled", step, 40))
    lines = capsys.readouterr().err.splitlines()
    assert 3 <= len(lines) <= 10
    assert all(re.fullmatch(r"sampled  step \d+ of 40, \d+\.\d\d (it/s|s/it)", line) for line in lines)


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
        assert process.wait(timeout=60) == 0
    os.close(master)
    text = shown.decode()
    assert re.search(r"step \d of 4, \d+\.\d\d it/s", text)
    assert re.search(r"loud  done in \d+\.\d\d s", text)
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h")  # the cursor is shown again
