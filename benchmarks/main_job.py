"""The main job as a newcomer meets it: seconds from pressing return to the prompt, each time in a process of its own.

    python -m benchmarks.main_job [--rounds 5] [--workflow workflows/inpaint.yaml] [--profile]

`first` runs the workflow with an empty cache, `second` the same again, when nothing is left to compute. Files are in
the page cache. `--profile` says which modules an import costs the time of, and does not measure the rest.
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

WORKFLOW = Path("workflows/inpaint.yaml")
TARGETS = {"first": 6.0, "second": 0.6, "help": 0.2}  # seconds on two cores
LISTED = 12  # modules that a profile names

Commands = dict[str, list[str]]


@contextmanager
def commands(workflow: Path) -> Iterator[Commands]:
    """What is measured, by name and in order, with a cache of its own that goes when it ends."""
    with tempfile.TemporaryDirectory() as folder:
        run = ["run", str(workflow), "--cache-dir", f"{folder}/cache", "--out", f"{folder}/out", "-q"]
        yield {"first": run, "second": run, "check": ["check", str(workflow)], "help": ["--help"]}


def call(arguments: list[str], *python_options: str) -> tuple[float, str]:
    """Seconds that `nodegraph` took with these arguments, and what it wrote to stderr."""
    command = [sys.executable, *python_options, "-m", "nodegraph", *arguments]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return seconds, done.stderr


def measure(workflow: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds of every command in every round; one round before them, so that files are read and byte-code written."""
    seconds: dict[str, list[float]] = {}
    for i in range(1 + rounds):
        with commands(workflow) as named:
            for name, arguments in named.items():
                took, _ = call(arguments)
                if i:
                    seconds.setdefault(name, []).append(took)
    return seconds


def table(seconds: dict[str, list[float]]) -> str:
    """Medians and the fastest in Markdown, beside what each may take."""
    lines = ["| | median, s | fastest, s | target, s |", "| --- | ---: | ---: | ---: |"]
    for name, took in seconds.items():
        target = TARGETS.get(name, "")
        lines.append(f"| {name} | {median(took):.2f} | {min(took):.2f} | {target} |")
    return "\n".join(lines)


def profile(workflow: Path) -> str:
    """For each command: the modules whose own code takes longest to import, and all that is imported."""
    parts = []
    with commands(workflow) as named:
        for name, arguments in named.items():
            _, stderr = call(arguments, "-X", "importtime")
            modules = sorted(_import_times(stderr), reverse=True)
            total = sum(seconds for seconds, _ in modules)
            lines = [f"{seconds * 1000:8.1f} ms  {module}" for seconds, module in modules[:LISTED]]
            parts.append(f"{name}: {len(modules)} modules, {total:.2f} s of imports\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _import_times(stderr: str) -> Iterator[tuple[float, str]]:
    """Seconds and name of each module in the report of `-X importtime`, without what it imports in turn."""
    for line in stderr.splitlines():
        head, _, rest = line.partition("import time:")
        columns = rest.split("|")
        if not head and len(columns) == 3 and columns[0].strip().isdigit():
            yield int(columns[0]) / 1e6, columns[2].strip()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Seconds of the main job")
    parser.add_argument("--workflow", type=Path, default=WORKFLOW)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", action="store_true", help="import times in place of seconds")
    arguments = parser.parse_args()
    os.environ.pop("NODEGRAPH_PLUGIN_DIR", None)  # measure what is shipped
    print(profile(arguments.workflow) if arguments.profile else table(measure(arguments.workflow, arguments.rounds)))


if __name__ == "__main__":
    main()
