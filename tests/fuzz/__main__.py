"""Run many fuzzed graphs, in several goes: `python -m tests.fuzz --graphs 1000000 --state FOLDER`.

Ctrl-C or SIGTERM stops it; the same command goes on where it stopped. FOLDER/state.json holds the figures and every difference.
`--group N` runs one group of a difference in this process, with a new cache.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from pathlib import Path

from tests.fuzz.driver import Driver, State, groups_of, stopped_by_signals


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--graphs", type=int, default=1_000_000, help="how many graphs there are in all")
    parser.add_argument("--state", type=Path, default=Path("fuzz-state"), help="a folder for the figures and the caches")
    parser.add_argument("--workers", type=int, default=2, help="processes at a time")
    parser.add_argument("--kill-seconds", type=float, default=3.0, help="the mean time between two kills")
    parser.add_argument("--group", type=int, help="run only this group, in this process")
    options = parser.parse_args()
    if options.group is not None:
        return run_one(options.group)
    path = options.state / "state.json"
    state = State.read(path)
    driver = Driver(state, options.state, workers=options.workers, kill_seconds=options.kill_seconds)

    def save() -> None:
        state.write(path)
        print(state.summary(), flush=True)

    with stopped_by_signals(driver):
        driver.run(groups_of(options.graphs), save=save)
    save()
    return 1 if state.differences else 0


def run_one(group: int) -> int:
    """Run one group and print its differences."""
    from tests.fuzz.preload import PLUGINS
    from tests.fuzz.worker import Worker

    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(PLUGINS, Path(folder) / "files")
        worker.use(Path(folder) / "cache", trimmed=False)
        worker.group(group)
    print(json.dumps(worker.report.differences, indent=1))
    print(dict(worker.report.counts))
    return 1 if worker.report.differences else 0


if __name__ == "__main__":
    sys.exit(main())
