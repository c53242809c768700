"""Simulates sweeps on up to 1,000 workers, from the figures that `python -m benchmarks.scale` has measured.

    python -m benchmarks.simulation [--figures FILE] [--quick] [--picture docs/images/scale.svg]     # a minute on an idle machine

First it predicts the sweeps that were measured with one and two workers, and says by how much it is off. `docs/scale.md` explains
the rest.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.simulation.calibration import FILE, TOLERANCE, Figures, costs_of, predictions, read_figures, slowdown
from benchmarks.simulation.plots import picture
from benchmarks.simulation.scenarios import STORE, WORKERS, Found, FoundWithModels, million, models, scaling


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--figures", type=Path, default=FILE, help="what benchmarks.scale has written")
    parser.add_argument("--quick", action="store_true", help="up to 64 workers")
    parser.add_argument("--picture", type=Path, help="draw plots into this file, too")
    arguments = parser.parse_args()
    figures = read_figures(arguments.figures)
    most = 64 if arguments.quick else WORKERS[-1]
    print(validated(figures), flush=True)
    print(of_a_million(figures), flush=True)
    found = list(scaling(figures, [count for count in WORKERS if count <= most]))
    print(scaled(found), flush=True)
    several = list(models(figures))
    print(with_models(several), flush=True)
    if arguments.picture is not None:
        driver = 1 / costs_of(figures, workers=WORKERS[0], latency=0).driver
        arguments.picture.write_text(picture(found, several, driver), encoding="utf-8")


def validated(figures: Figures) -> str:
    """A table of what was measured and simulated."""
    found = predictions(figures)
    lines = [
        f"Processes took {slowdown(figures, 1):.1f} and {slowdown(figures, 2):.1f} times their processor time.",
        "",
        "| workers | seconds of a unit | units | measured, s | simulated, s | off by |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {run.workers} | {run.seconds:g} | {run.units} | {run.measured:.2f} | {run.simulated:.2f} | {run.error:+.1%} |"
        for run in found
    ]
    worst = max(abs(run.error) for run in found)
    return "\n".join([*lines, "", f"The worst is off by {worst:.1%}; {TOLERANCE:.0%} are allowed.\n"])


def scaled(results: list[Found]) -> str:
    """A table of sweeps with one model on clusters of each size."""
    lines = [
        "| units of, s | workers | units/s | of linear | workers compute | driver busy | a unit waits, s | store, MB/s | all, s |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for found in results:
        it = found.outcome
        lines.append(
            f"| {found.seconds:g} | {found.workers} | {it.steady:,.1f} | {found.linear:.1%} | {found.computing:.0%} | "
            f"{found.driver:.0%} | {it.steady_wait:.2f} | {it.steady * STORE.size / 1e6:,.0f} | {it.seconds:,.0f} |"
        )
    return "\n".join([*lines, ""])


def with_models(results: list[FoundWithModels]) -> str:
    """A table of sweeps with several models."""
    lines = ["| units go | workers | loads for each worker | units/s |", "| --- | ---: | ---: | ---: |"]
    lines += [
        f"| {it.way} | {it.workers} | {it.outcome.loads.total() / it.workers:.1f} | {it.outcome.throughput:,.1f} |"
        for it in results
    ]
    return "\n".join([*lines, ""])


def of_a_million(figures: Figures) -> str:
    """A table of what 10^6 points take."""
    lines = ["| 10^6 points of 2 s, hours | driver | checking values | workers | store |", "| --- | ---: | ---: | ---: | ---: |"]
    for count, shards in ((64, 1), (256, 1), (1000, 1), (1000, 16)):
        hours = million(figures, count, 2.0, shards)
        name = f"{count} workers" + (f", {shards} parts" if shards > 1 else "")
        lines.append(f"| {name} | {hours['driver']:.1f} | {hours['check']:.1f} | {hours['workers']:.1f} | {hours['store']:.1f} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
