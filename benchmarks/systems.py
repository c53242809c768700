"""Figures of the systems whose weights ship: `python -m benchmarks.systems [NAME ...] [--all] [--quick]`.

Each system of systems.yaml has a workflow that measures it. A system whose weights do not ship is trained first, for hours; that
happens only with --all or if it is named. What was computed before comes from the cache; then the seconds are those of reading it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import yaml

from nodegraph import Engine

ROOT: Final = Path(__file__).resolve().parent.parent
FILE: Final = Path(__file__).with_name("systems.yaml")
WORKFLOWS: Final = ROOT / "workflows"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure: the output that has it, its name there (None: the output is a picture), and its target."""

    output: str
    what: str
    name: str | None = None
    target: str | None = None


@dataclass(frozen=True, kw_only=True)
class System:
    """A system, and how it is measured. See systems.yaml."""

    name: str
    workflow: str
    figures: tuple[Figure, ...]
    shows: str
    weights: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    quick: Mapping[str, Any] = field(default_factory=dict)
    measured: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, kw_only=True)
class Row:
    """A figure that was found. `met` is None without a target."""

    system: str
    what: str
    value: str
    target: str
    met: bool | None
    seconds: float


def systems() -> list[System]:
    """All systems, in the order of the file."""
    listed = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return [System(**{**each, "figures": tuple(Figure(**figure) for figure in each["figures"])}) for each in listed]


def measure(system: System, engine: Engine, out: Path, *, quick: bool) -> Iterator[Row]:
    """Run the workflow that measures a system."""
    began = time.monotonic()
    params = {**system.params, **(system.quick if quick else {})}
    result = engine.run(WORKFLOWS / system.workflow, params=params, out=out)
    seconds = time.monotonic() - began
    for figure in system.figures:
        value, met = "a picture", None
        if figure.name is not None:
            found = result[figure.output]
            values = [each[figure.name] for each in found] if isinstance(found, list) else [found[figure.name]]
            value = ", ".join(f"{each:.4g}" for each in values)
            met = None if figure.target is None else is_met(figure.target, values, {} if isinstance(found, list) else found)
        yield Row(system=system.name, what=figure.what, value=value, target=figure.target or "", met=met, seconds=seconds)


def is_met(target: str, values: Sequence[float], others: Mapping[str, Any]) -> bool:
    """Whether figures reach a target: "falls", or a sign and a number or the name of another figure."""
    if target == "falls":
        return all(second < first for first, second in pairwise(values))
    sign, _, limit = target.partition(" ")
    bound = float(others[limit]) if limit in others else float(limit)
    (value,) = values
    return {">=": value >= bound, ">": value > bound, "<": value < bound, "<=": value <= bound}[sign]


def table(rows: Sequence[Row]) -> str:
    """The figures as a table of Markdown."""
    lines = ["| system | figure | found | target | reached | seconds |", "| --- | --- | ---: | --- | --- | ---: |"]
    for row in rows:
        reached = {None: "", True: "yes", False: "no"}[row.met]
        lines.append(f"| {row.system} | {row.what} | {row.value} | {row.target} | {reached} | {row.seconds:.0f} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these systems")
    parser.add_argument("--all", action="store_true", help="those that must be trained first, too")
    parser.add_argument("--quick", action="store_true", help="at sizes that only show that it works")
    chosen = parser.parse_args(arguments)
    known = systems()
    if unknown := {*chosen.names} - {system.name for system in known}:
        parser.error(f"unknown systems: {', '.join(sorted(unknown))}; there are {', '.join(system.name for system in known)}")
    wanted = [each for each in known if each.name in chosen.names or (not chosen.names and (chosen.all or each.weights))]
    with tempfile.TemporaryDirectory() as out, Engine() as engine:
        rows = [row for system in wanted for row in measure(system, engine, Path(out), quick=chosen.quick)]
    print(table(rows))
    if left := [system.name for system in known if system not in wanted and not system.weights]:
        print(f"\nWithout weights that ship: {', '.join(left)}. Name them, or give --all, to train and measure them.")


if __name__ == "__main__":
    main()
