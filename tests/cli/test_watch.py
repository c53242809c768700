"""`nodegraph watch`: what starts a run, and what it survives."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Cli

pytestmark = pytest.mark.slow

OUTER = """
nodegraph: 1
params: {path: words.txt}
nodes:
  read: {use: Read, path: $params.path}
  twice: {use: ./inner.yaml, text: $read}
outputs: {result: {from: $twice.text, save: output}}
"""
INNER = """
nodegraph: 1
params: {text: {type: text}}
nodes: {twice: {use: Repeat, text: $params.text, times: 2}}
outputs: {text: {from: $twice}}
"""


class Watched:
    """A process that watches, and what it has written to stderr."""

    def __init__(self, cli: Cli, *args: str) -> None:
        self.process = cli.process("watch", "outer.yaml", *args)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.lines += iter(()) if self.process.stderr.closed else []
        for line in self.process.stderr:
            self.lines.append(line.rstrip())

    def wait_for(self, text: str, after: int) -> str:
        """The next line with `text` after the first `after` lines."""
        end = time.monotonic() + 240
        while time.monotonic() < end:
            found = [line for line in self.lines[after:] if text in line]
            if found:
                return found[0]
            assert self.process.poll() is None, self.lines
            time.sleep(0.05)
        raise AssertionError(f"no line with {text!r} in {self.lines[after:]}")

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=240)
        self._reader.join(timeout=60)
        return self.process.returncode


@contextlib.contextmanager
def watching(cli: Cli, *args: str) -> Iterator[Watched]:
    cli.write(OUTER, "outer.yaml")
    cli.write(INNER, "inner.yaml")
    cli.write("ab", "words.txt")
    watched = Watched(cli, *args)
    try:
        watched.wait_for("watching 3 files", 0)
        yield watched
    finally:
        watched.process.kill()
        watched.process.communicate()


def replace_file(path: Path, text: str) -> None:
    """Replace a file as many editors do: a new file is renamed to its name."""
    new = path.with_name(f"{path.name}~")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)  # noqa: PTH105 (as an editor does)


def test_each_file_of_a_workflow_starts_a_run(cli: Cli) -> None:
    with watching(cli) as watched:
        output = cli.folder / "out/output.json"
        assert json.loads(output.read_text()) == "abab"

        def changed(name: str, text: str, *, ends_with: str = "watching 3 files", by_rename: bool = False) -> list[str]:
            before = len(watched.lines)
            if by_rename:
                replace_file(cli.folder / name, text)
            else:
                (cli.folder / name).write_text(text, encoding="utf-8")
            watched.wait_for(ends_with, before)
            return watched.lines[before:]

        changed("words.txt", "xy")
        assert json.loads(output.read_text()) == "xyxy"
        lines = changed("inner.yaml", INNER.replace("times: 2", "times: 3"), by_rename=True)
        assert json.loads(output.read_text()) == "xyxyxy"
        assert any(line.startswith("1 reused, 1 ran (twice/twice) in ") for line in lines), lines
        lines = changed("outer.yaml", OUTER.replace("save: output", "save: [output"))
        assert any("[E100]" in line or "not well-formed YAML" in line for line in lines), lines
        lines = changed("outer.yaml", OUTER.replace("Read", "Raed"), by_rename=True)
        assert any("there is no node type 'Raed'" in line for line in lines), lines
        changed("outer.yaml", OUTER.replace("words.txt", "missing.txt"))
        changed("missing.txt", "found")
        assert json.loads(output.read_text()) == "foundfoundfound"
        assert [path.name for path in (cli.folder / "out").iterdir()] == ["output.json"]
        output.write_text('"edited"')
        changed("missing.txt", "z")
        assert json.loads(output.read_text()) == "edited"
        assert json.loads((cli.folder / "out/output-2.json").read_text()) == "zzz"
        assert watched.end() == 130


def test_mistakes_of_the_call(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = cli("watch", "-")
    assert (ran.exit_code, "standard input cannot be watched" in ran.stderr) == (2, True)
    monkeypatch.setitem(__import__("sys").modules, "watchfiles", None)
    ran = cli("watch", "outer.yaml")
    assert ran.exit_code == 2
    assert "pip install 'nodegraph[watch]'" in ran.stderr
