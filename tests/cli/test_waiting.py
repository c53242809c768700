"""A command that waits for a process that was stopped with Ctrl-Z."""

from __future__ import annotations

import json
import os
import signal
import sys

import pytest

from nodegraph.cache.store.lock_holder import find_holder

PLUGIN = """
import os, time
from nodegraph import hookimpl, node

@node("Until")
def until(path: str) -> str:
    while not os.path.exists(path):
        time.sleep(0.01)
    return path

@hookimpl
def register_nodes(register):
    register(until)
"""

LONG = """
nodegraph: 1
nodes:
  long: {use: Until, path: go}
outputs: {long: {from: $long}}
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who holds a lock")
@pytest.mark.parametrize(
    "options", [(), *(pytest.param(words, marks=pytest.mark.slow) for words in (("-q",), ("--json",)))], ids=" ".join
)
def test_run_behind_a_stopped_run_tells_how_to_go_on(cli, options):
    cli.write(LONG, "long.yaml")
    (cli.folder / "mine").mkdir()
    (cli.folder / "mine" / "until.py").write_text(PLUGIN)
    with cli.process("run", "long.yaml", "--plugin-dir", "mine") as first:
        while not any(map(find_holder, cli.folder.glob("cache/locks/*.lock"))):
            assert first.poll() is None
        first.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, first.pid, os.WSTOPPED | os.WNOWAIT)
        second = cli.process("run", "long.yaml", "--plugin-dir", "mine", *options)
        line = second.stderr.readline()
        cli.write("", "go")
        first.send_signal(signal.SIGCONT)
        out, rest = second.communicate(timeout=300)
        first.communicate(timeout=300)
    assert line.startswith(f"long  note: waiting for process {first.pid} (")
    assert "run long.yaml --plugin-dir mine), which computes this node (Until). It is stopped: 'fg'" in line
    assert "press Ctrl-C, and run with --no-cache or another --cache-dir" in line
    if "-q" in options:
        assert rest == ""
    else:
        assert "long  cached" in rest
    if "--json" in options:
        assert json.loads(out)["status"] == "done"
    assert second.returncode == 0
