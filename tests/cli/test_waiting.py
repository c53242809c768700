"""A command that waits for a process that was stopped with Ctrl-Z."""

from __future__ import annotations

import json
import os
import signal
import sys

import pytest

from nodegraph.cache.store.lock_holder import find_holder

SLOW = """
nodegraph: 1
nodes:
  long: {use: Slow, text: a, steps: 600, pause: 0.01}
outputs: {long: {from: $long}}
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who holds a lock")
@pytest.mark.parametrize(
    "options", [(), *(pytest.param(words, marks=pytest.mark.slow) for words in (("-q",), ("--json",)))], ids=" ".join
)
def test_run_behind_a_stopped_run_tells_how_to_go_on(cli, options):
    cli.write(SLOW, "slow.yaml")
    with cli.process("run", "slow.yaml", "--set", "long.steps=9") as first:
        while not any(map(find_holder, cli.folder.glob("cache/locks/*.lock"))):
            assert first.poll() is None
        first.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, first.pid, os.WSTOPPED | os.WNOWAIT)
        second = cli.process("run", "slow.yaml", "--set", "long.steps=9", *options)
        line = second.stderr.readline()
        first.send_signal(signal.SIGCONT)
        out, rest = second.communicate(timeout=60)
        first.communicate(timeout=60)
    assert line.startswith(f"long  note: waiting for process {first.pid} (")
    assert "run slow.yaml --set long.steps=9), which computes this node (Slow). It is stopped: 'fg'" in line
    assert "press Ctrl-C, and run with --no-cache or another --cache-dir" in line
    if "-q" in options:
        assert rest == ""
    else:
        assert "long  cached" in rest
    if "--json" in options:
        assert json.loads(out)["status"] == "done"
    assert second.returncode == 0
