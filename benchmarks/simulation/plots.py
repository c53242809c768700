"""The picture of docs/scale.md: sweeps on up to 1,000 simulated workers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.simulation.scenarios import DURATIONS, STORE, WORKERS, Found, FoundWithModels

COLUMNS, PANEL, PLOT, MARGIN = 3, (300, 232), (232, 158), (48, 40)
COLOURS: Final = ("#2563eb", "#d97706", "#059669")
GREY: Final = "#6b7280"

Curve = Mapping[int, float]
"""A figure by the number of workers."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One plot. With `logarithmic`, its height shows powers of ten between `least` and `most`."""

    title: str
    curves: Mapping[str, Curve]
    least: float
    most: float
    marks: Sequence[float]
    logarithmic: bool = False
    unit: str = ""
    limit: tuple[str, float] | None = None

    def place(self, workers: int, value: float) -> tuple[float, float]:
        """The position of a value, at the edge if it is outside."""
        x = math.log(workers / WORKERS[0]) / math.log(WORKERS[-1] / WORKERS[0])
        value = min(max(value, self.least), self.most)
        if self.logarithmic:
            y = math.log(value / self.least) / math.log(self.most / self.least)
        else:
            y = (value - self.least) / (self.most - self.least)
        return PLOT[0] * x, PLOT[1] * (1 - y)


def draw(panel: Panel) -> Iterator[str]:
    """The parts of a plot: its title, axes, curves, and their names."""
    yield f'<text x="-40" y="-14" font-size="12" font-weight="600" fill="#111827">{panel.title}</text>'
    for mark in panel.marks:
        y = panel.place(WORKERS[0], mark)[1]
        yield f'<path d="M0 {y:.1f}h{PLOT[0]}" stroke="#d8dee6" stroke-width="0.6"/>'
        yield f'<text x="-5" y="{y + 3:.1f}" text-anchor="end" font-size="9" fill="{GREY}">{mark:,g}{panel.unit}</text>'
    for workers in WORKERS:
        x = panel.place(workers, panel.least)[0]
        yield f'<text x="{x:.1f}" y="{PLOT[1] + 13}" text-anchor="middle" font-size="9" fill="{GREY}">{workers}</text>'
    if panel.limit is not None:
        name, value = panel.limit
        y = panel.place(WORKERS[0], value)[1]
        yield f'<path d="M0 {y:.1f}h{PLOT[0]}" stroke="#b91c1c" stroke-width="0.8" stroke-dasharray="4 3"/>'
        below = 11 if y < 12 else -4  # or above
        yield f'<text x="3" y="{y + below:.1f}" font-size="9" fill="#b91c1c">{name}</text>'
    for curve, colour in zip(panel.curves.values(), COLOURS, strict=False):
        points = [panel.place(workers, value) for workers, value in curve.items()]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{colour}"/>' for x, y in points)


def legend(names: Sequence[str], x: float, y: float) -> Iterator[str]:
    """The colours and their names in a row."""
    for name, colour in zip(names, COLOURS, strict=False):
        yield f'<path d="M{x:.0f} {y - 3.5:.1f}h16" stroke="{colour}" stroke-width="2"/>'
        yield f'<text x="{x + 20:.0f}" y="{y:.1f}" font-size="10" fill="#374151">{name}</text>'
        x += 34 + 5.6 * len(name)


def panels(found: Sequence[Found], with_models: Sequence[FoundWithModels], driver: float) -> list[Panel]:
    """The plots. `driver` is how many units per second the driver can do."""

    def by_length(figure: Callable[[Found], float]) -> dict[str, Curve]:
        """A curve for each length of units."""
        return {f"units of {s:g} s": {it.workers: figure(it) for it in found if it.seconds == s} for s in DURATIONS}

    ways = dict.fromkeys(it.way for it in with_models)
    share: dict[str, Any] = {"least": 0, "most": 100, "marks": (0, 25, 50, 75, 100), "unit": "%"}
    loads = {way: {it.workers: it.outcome.loads.total() / it.workers for it in with_models if it.way == way} for way in ways}
    return [
        Panel(title="share of linear speed", curves=by_length(lambda it: 100 * it.linear), limit=("95 %", 95), **share),
        powers_of_ten("units per second", by_length(lambda it: it.outcome.steady), -1, 3, limit=("what the driver can do", driver)),
        Panel(title="the driver is busy", curves=by_length(lambda it: 100 * it.driver), **share),
        powers_of_ten("a unit waits until it runs, s", by_length(lambda it: it.outcome.steady_wait), -2, 3),
        powers_of_ten(
            "through the store, MB/s",
            by_length(lambda it: it.outcome.steady * STORE.size / 1e6),
            0,
            4,
            limit=("the line of the store", STORE.bandwidth / 1e6),
        ),
        Panel(title="8 models at random: loads for each worker", curves=loads, least=0, most=16, marks=(0, 4, 8, 12, 16)),
    ]


def powers_of_ten(
    title: str, curves: Mapping[str, Curve], first: int, last: int, *, limit: tuple[str, float] | None = None
) -> Panel:
    """A plot from 10^first to 10^last."""
    marks = [10.0**power for power in range(first, last + 1)]
    return Panel(title=title, curves=curves, least=marks[0], most=marks[-1], marks=marks, logarithmic=True, limit=limit)


def picture(found: Sequence[Found], with_models: Sequence[FoundWithModels], driver: float) -> str:
    """The whole picture as SVG."""
    drawn = panels(found, with_models, driver)
    width, height = COLUMNS * PANEL[0], 2 * PANEL[1] + 44
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        *legend([*drawn[0].curves], 48, 16),
    ]
    for i, panel in enumerate(drawn):
        x, y = (i % COLUMNS) * PANEL[0] + MARGIN[0], (i // COLUMNS) * PANEL[1] + MARGIN[1] + 20
        parts += [f'<g transform="translate({x} {y})">', *draw(panel), "</g>"]
        if panel.curves.keys() != drawn[0].curves.keys():
            parts += [f'<g transform="translate({x - 40} {y + PLOT[1] + 32})">', *legend([*panel.curves], 0, 0), "</g>"]
    parts.append(f'<text x="48" y="{height - 8}" font-size="10" fill="{GREY}">to the right: workers</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
