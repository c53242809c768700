"""The main job as a new user sees it: seconds from pressing return until the prompt is back, each time in a new process.

    python -m benchmarks.main_job [--rounds 5] [--workflow workflows/inpaint.yaml] [--profile]
    python -m benchmarks.main_job --busy [--sd15] [--rounds 5]

`first` runs the workflow with an empty cache; `second` runs it again, when everything is in the cache. All files are in the
page cache. `--profile` shows which modules take longest to import, instead of measuring the commands. `--busy` samples beside other
work instead, beside diffusers: see `benchmarks.waiting`; `--sd15` does so with the UNet of Stable Diffusion 1.5, which needs 8 GB.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks import waiting

WORKFLOW = Path("workflows/inpaint.yaml")
TARGETS = {"first": 6.0, "second": 0.6, "help": 0.2}  # seconds on two cores
LISTED_MODULES = 12  # in a profile

Commands = dict[str, list[str]]


@contextmanager
def commands(workflow: Path) -> Iterator[Commands]:
    """Yields the commands to measure, by name and in order, with a new cache that is removed at the end."""
    with tempfile.TemporaryDirectory() as folder:
        run = ["run", str(workflow), "--cache-dir", f"{folder}/cache", "--out", f"{folder}/out", "-q"]
        yield {"first": run, "second": run, "check": ["check", str(workflow)], "help": ["--help"]}


def call(arguments: list[str], *python_options: str) -> tuple[float, str]:
    """Run `nodegraph` with these arguments. Returns the seconds that it took and what it wrote to stderr."""
    command = [sys.executable, *python_options, "-m", "nodegraph", *arguments]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return seconds, done.stderr


def measure(workflow: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds of each command in each round, after one round that reads the files and compiles the modules."""
    seconds: dict[str, list[float]] = {}
    for i in range(1 + rounds):
        with commands(workflow) as named:
            for name, arguments in named.items():
                took, _ = call(arguments)
                if i:
                    seconds.setdefault(name, []).append(took)
    return seconds


def table(seconds: dict[str, list[float]]) -> str:
    """A Markdown table of the median, the fastest and the target of each command."""
    lines = ["| | median, s | fastest, s | target, s |", "| --- | ---: | ---: | ---: |"]
    for name, took in seconds.items():
        target = TARGETS.get(name, "")
        lines.append(f"| {name} | {median(took):.2f} | {min(took):.2f} | {target} |")
    return "\n".join(lines)


def profile(workflow: Path) -> str:
    """For each command, the modules whose own code takes longest to import, and the total of all imports."""
    parts = []
    with commands(workflow) as named:
        for name, arguments in named.items():
            _, stderr = call(arguments, "-X", "importtime")
            modules = sorted(_import_times(stderr), reverse=True)
            total = sum(seconds for seconds, _ in modules)
            lines = [f"{seconds * 1000:8.1f} ms  {module}" for seconds, module in modules[:LISTED_MODULES]]
            parts.append(f"{name}: {len(modules)} modules, {total:.2f} s of imports\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _import_times(stderr: str) -> Iterator[tuple[float, str]]:
    """Seconds and name of each module in the report of `-X importtime`, without the modules that it imports."""
    for line in stderr.splitlines():
        head, _, rest = line.partition("import time:")
        columns = rest.split("|")
        if not head and len(columns) == 3 and columns[0].strip().isdigit():
            yield int(columns[0]) / 1e6, columns[2].strip()


def main() -> None:
    """Measure the commands and print a table."""
    parser = argparse.ArgumentParser(description="Measure the main job in seconds.")
    parser.add_argument("--workflow", type=Path, default=WORKFLOW, help=f"the workflow to run (default: {WORKFLOW})")
    parser.add_argument("--rounds", type=int, default=5, help="how often each command is measured (default: 5)")
    parser.add_argument("--profile", action="store_true", help="show the time of imports instead")
    parser.add_argument("--busy", action="store_true", help="sample beside other work instead")
    parser.add_argument("--sd15", action="store_true", help="with --busy: with the UNet of Stable Diffusion 1.5")
    arguments = parser.parse_args()
    if arguments.busy:
        work = "sd15" if arguments.sd15 else "tiny"
        print(waiting.table(work, waiting.measure(work, arguments.rounds)))
        return
    os.environ.pop("NODEGRAPH_PLUGIN_DIR", None)  # measure what is shipped
    print(profile(arguments.workflow) if arguments.profile else table(measure(arguments.workflow, arguments.rounds)))


if __name__ == "__main__":
    main()
