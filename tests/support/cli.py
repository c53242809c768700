"""The command line, as a user in one folder uses it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from nodegraph.cli import main
from tests.support.plugin_folders import STUB_PLUGINS

GREETING = """
nodegraph: 1
description: Say it twice
params:
  word: {default: hey, help: the word to repeat}
nodes:
  word: {use: Text, value: $params.word}
  twice: {use: Repeat, text: $word}
outputs:
  result: {from: $twice}
"""


@dataclass(frozen=True)
class Ran:
    """How a process of the command line ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


class Cli:
    """The command line, as a user in `folder` uses it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {"NODEGRAPH_PLUGIN_DIR": str(STUB_PLUGINS), "NODEGRAPH_CACHE_DIR": str(folder / "cache"), "COLUMNS": "120"}

    def __call__(self, *args: str | Path, env: Mapping[str, str | None] = {}, stdin: str | None = None) -> Ran:
        """Run in this process."""
        env = {**self.env, **env}
        result: Result = CliRunner().invoke(main, [str(arg) for arg in args], input=stdin, env=env, prog_name="nodegraph")
        return Ran(result.exit_code, result.stdout, result.stderr)

    def process(self, *args: str | Path, **options: Any) -> subprocess.Popen[str]:
        """Start another process."""
        command = [sys.executable, "-m", "nodegraph", *map(str, args)]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": self.folder, **options}
        return subprocess.Popen(command, env={**os.environ, **self.env}, **options)

    def other_process(self, *args: str | Path) -> Ran:
        """Run in another process and wait for its end."""
        with self.process(*args) as process:
            stdout, stderr = process.communicate(timeout=300)
        return Ran(process.returncode, stdout, stderr)

    def write(self, text: str, name: str = "greeting.yaml") -> Path:
        """A workflow file in the folder."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path
