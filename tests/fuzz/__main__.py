"""Run many fuzzed graphs, in several goes: `python -m tests.fuzz --graphs 1000000 --state FOLDER`.

Ctrl-C or SIGTERM stops it; the same command goes on where it stopped. FOLDER/state.json holds the figures and every difference.
`--first N` begins with graph N: earlier ones were run elsewhere.
`--group N` runs one group of a difference in this process, with a new cache. `--mutants` shows that faults are found.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from pathlib import Path

from tests.fuzz.driver import KILL_SHARE, WORKERS, Driver, State, find_mutant, groups_of, stopped_by_signals
from tests.fuzz.mutants import MUTANTS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--graphs", type=int, default=1_000_000, help="run the graphs before this number")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="begin with graph N, if FOLDER has no figures yet")
    parser.add_argument("--state", type=Path, default=Path("fuzz-state"), help="a folder for the figures")
    parser.add_argument("--caches", type=Path, help="a folder for the caches, which may be in memory; default: that of --state")
    parser.add_argument("--workers", type=int, default=WORKERS, help="processes at a time")
    parser.add_argument("--kill-share", type=float, default=KILL_SHARE, help="the share of tasks after which a worker is killed")
    parser.add_argument("--group", type=int, help="run only this group, in this process")
    parser.add_argument("--mutants", nargs="*", metavar="NAME", help="put these faults into the engine, all if no name follows")
    options = parser.parse_args()
    if options.group is not None:
        return run_one(options.group)
    if options.mutants is not None:
        return sum([not find(name) for name in options.mutants or MUTANTS])
    path = options.state / "state.json"
    state = State.read(path, first=groups_of(options.first))
    driver = Driver(state, options.caches or options.state, workers=options.workers, kill_share=options.kill_share)

    def save() -> None:
        state.write(path)
        print(state.summary(), flush=True)

    with stopped_by_signals(driver):
        driver.run(groups_of(options.graphs), save=save)
    save()
    return 1 if state.differences else 0


def find(mutant: str) -> bool:
    """Run graphs with a fault in the engine until it is found; whether it was, within the graphs of CI."""
    with tempfile.TemporaryDirectory() as folder:
        found = find_mutant(mutant, Path(folder))
    first = found.differences[0] if found.differences else {"kind": "NOT FOUND"}
    print(f"{mutant}: {first['kind']} after {found.counts['graphs']} graphs, {found.seconds:.0f} s", flush=True)
    return bool(found.differences)


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
