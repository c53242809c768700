"""A file that is changed and changed back while a node reads it: a run that begins afterwards gets what the file holds."""

from __future__ import annotations

import time
from pathlib import Path

from nodegraph import Engine, Result, Workflow

PLUGIN = '''
import time
from nodegraph import File, hookimpl, node


@node
def SlowRead(path: File, fails: bool = False) -> str:
    """Reads the file once `read` exists, and returns once `go` exists."""
    for name in ("read", "go"):
        path.with_name(f"has-{name}").touch()
        while not path.with_name(name).exists():
            time.sleep(0.005)
        if name == "read":
            text = path.read_text()
    if fails and text != "first":
        raise ValueError(text)
    return text


@hookimpl
def register_nodes(register):
    register(SlowRead)
'''


def wait_for(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.005)


def both_runs(tmp_path: Path, *, fails: bool) -> tuple[Result, Result]:
    """The results of a run that reads the file while it is changed, and of one that begins when it has been changed back."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "slow.py").write_text(PLUGIN)
    file = tmp_path / "file"
    file.write_text("first")
    time.sleep(0.02)
    w = Workflow("w", base=tmp_path)
    w.output("text", w.add("SlowRead", path="file", fails=fails))
    with Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"]) as engine:
        first = engine.start(w, raise_errors=False)
        wait_for(tmp_path / "has-read")
        file.write_text("other")
        (tmp_path / "read").touch()
        wait_for(tmp_path / "has-go")
        file.write_text("first")
        second = engine.start(w, raise_errors=False)
        time.sleep(0.2)  # it joins the node that runs
        (tmp_path / "go").touch()
        return first.result(60), second.result(60)


def test_a_run_that_joins_gets_what_the_file_holds(tmp_path):
    first, second = both_runs(tmp_path, fails=False)
    assert first["text"] == "other"
    assert second["text"] == "first"


def test_a_run_that_joins_does_not_fail_of_what_the_file_held(tmp_path):
    first, second = both_runs(tmp_path, fails=True)
    assert "other" in str(first.error)
    assert second.error is None
    assert second["text"] == "first"
