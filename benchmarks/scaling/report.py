"""The figures as tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

LENGTHS: Final = {"short": (0.0, 60), "long": (0.3, 24)}
"""Seconds and number of units; the events of long ones are asked for."""

_TIMES: Final = {
    "speak": "the thread that speaks with Ray, us",
    "speak_least": "the same, low decile of all units, us",
    "submit": "packing a unit, us",
    "check": "checking a value before the first point, us",
    "begin": "before a unit is handed out, us",
    "finish": "after its end, us",
    "driver": "the process of the sweep, us",
    "native": "Ray's own threads in it, us",
    "worker": "a worker, us",
    "wall": "what passes, us",
}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table whose first column is text, and all others are numbers, with an empty line before it."""
    lines = [f"| {' | '.join(head)} |", "| --- |" + " ---: |" * (len(head) - 1)]
    return ["", *lines, *(f"| {' | '.join(row)} |" for row in rows)]


def report(found: Mapping[str, Any]) -> str:
    """All that was measured."""
    return "\n".join(
        [
            f"{found['machine']}, load {found['load'][0]:.1f} to {found['load'][-1]:.1f}",
            *times(found["workers"]),
            *table(("workers", "choosing one for a unit, us"), ((n, f"{s * 1e6:,.0f}") for n, s in found["assign"].items())),
            *table(("bytes for each unit", ""), ((n.replace("_", " "), f"{size:,.0f}") for n, size in found["bytes"].items())),
            *requests(found["store"]),
            *loads(found["loads"]),
            *sweeps(found["runs"]),
        ]
    )


def times(workers: Mapping[str, Any]) -> list[str]:
    measured = [workers[count][length] for count in ("1", "2") for length in LENGTHS]
    head = [f"{count}, {length}" for count in ("1 worker", "2 workers") for length in LENGTHS]
    rows = ([text, *(f"{it[name] * 1e6:,.0f}" for it in measured)] for name, text in _TIMES.items())
    round_trip = f"A call of an actor that does nothing: {workers['1']['round_trip'] * 1e6:,.0f} us"
    return [*table(["for each unit", *head], rows), "", round_trip]


def requests(store: Mapping[str, Mapping[str, float]]) -> list[str]:
    rows = ([name, *(f"{count:,.1f}" for count in row.values())] for name, row in store.items())
    return table(["shared store, for each unit", *store["computed"]], rows)


def loads(found: Mapping[str, Mapping[str, float]]) -> list[str]:
    head = ("models, 2 workers", "loads", "by one worker of one model", "least possible", "seconds")
    return table(head, ([name, *(f"{figure:.3g}" for figure in row.values())] for name, row in found.items()))


def sweeps(runs: Sequence[Mapping[str, float]]) -> list[str]:
    rows = []
    for run in runs:
        ideal = run["units"] * run["seconds"] / run["workers"]
        figures = f"{run['units']}", f"{run['wall']:.2f}", f"{ideal / run['wall']:.0%}"
        rows.append((f"{run['workers']}", f"{run['seconds']:g}", *figures))
    return table(("workers", "seconds of a unit", "units", "the sweep took, s", "of ideal"), rows)
