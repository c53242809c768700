"""A folder with the shipped workflows, and the command line in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from PIL import Image, ImageDraw

from nodegraph.cli import main

WORKFLOWS = Path(__file__).parents[2] / "workflows"


SIZE = (43, 37)  # no multiples of the autoencoder's factor


class Ran:
    """How a command ended."""

    def __init__(self, status: int, stdout: str, stderr: str) -> None:
        self.status, self.stdout, self.stderr = status, stdout, stderr

    @property
    def nodes(self) -> dict[str, Any]:
        """The entry of each node in the output of `--json`, by name."""
        assert self.status == 0, self.stderr
        nodes: dict[str, Any] = json.loads(self.stdout)["nodes"]
        return nodes

    def named(self, status: str) -> set[str]:
        return {name for name, node in self.nodes.items() if node["status"] == status}

    def path(self, folder: Path) -> Path:
        """The only file that was written."""
        assert self.status == 0, self.stderr
        ((path,),) = json.loads(self.stdout)["outputs"].values()
        return folder / path


class Workspace:
    """A folder with the workflows in it, and the command line as a user runs it there."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.model = folder, model
        shutil.copytree(WORKFLOWS, folder / "workflows", ignore=shutil.ignore_patterns("examples"))
        self.examples = folder / "workflows" / "examples"
        self.examples.mkdir()
        scene = Image.effect_mandelbrot(SIZE, (-2, -1, 1, 1), 30).convert("RGB")
        scene.save(self.examples / "scene.png")
        scene.save(self.examples / "castle.png")
        mask = Image.new("L", SIZE)
        ImageDraw.Draw(mask).rectangle((14, 12, 21, 19), fill=255)
        mask.save(self.examples / "mask.png")

    def words(self, name: str, *settings: str, options: Sequence[str | Path] = (), steps: int = 2) -> list[str]:
        """The words behind `nodegraph`; `settings` are such as "seed=1"."""
        settings = (f"model={self.model}", f"sampled.steps={steps}", *settings)
        sets = [word for setting in settings for word in ("--set", setting)]
        return ["run", f"workflows/{name}.yaml", *sets, "--cache-dir", "cache", "--json", *map(str, options)]

    def __call__(self, name: str, *settings: str, options: Sequence[str | Path] = (), steps: int = 2) -> Ran:
        """Run a workflow in this process."""
        words = self.words(name, *settings, options=options, steps=steps)
        result = CliRunner().invoke(main, words, prog_name="nodegraph")
        return Ran(result.exit_code, result.stdout, result.stderr)

    def other_process(self, *words: str, code: str | None = None) -> Ran:
        """Run `nodegraph` with these words, or else `code`, in another process."""
        command = [sys.executable, *(("-m", "nodegraph", *words) if code is None else ("-c", code))]
        ran = subprocess.run(command, cwd=self.folder, env=os.environ, capture_output=True, text=True, timeout=400, check=False)
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    def left(self) -> list[str]:
        """The files that runs left behind, other than in the cache."""
        return sorted(path.name for path in self.folder.glob("out/**/*") if path.is_file())
