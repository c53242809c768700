"""The picture of docs/scale.md: sweeps on up to 1,000 simulated workers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

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
    of = {seconds: [it for it in found if it.seconds == seconds] for seconds in DURATIONS}
    names = {seconds: f"units of {seconds:g} s" for seconds in DURATIONS}
    ways = dict.fromkeys(it.way for it in with_models)
    return [
        Panel(
            title="share of linear speed",
            curves={names[s]: {it.workers: 100 * it.linear for it in of[s]} for s in DURATIONS},
            least=0,
            most=100,
            marks=(0, 25, 50, 75, 100),
            unit="%",
            limit=("95 %", 95),
        ),
        Panel(
            title="units per second",
            curves={names[s]: {it.workers: it.outcome.steady for it in of[s]} for s in DURATIONS},
            least=0.1,
            most=1000,
            marks=(0.1, 1, 10, 100, 1000),
            logarithmic=True,
            limit=("what the driver can do", driver),
        ),
        Panel(
            title="the driver is busy",
            curves={names[s]: {it.workers: 100 * it.driver for it in of[s]} for s in DURATIONS},
            least=0,
            most=100,
            marks=(0, 25, 50, 75, 100),
            unit="%",
        ),
        Panel(
            title="a unit waits until it runs, s",
            curves={names[s]: {it.workers: it.outcome.steady_wait for it in of[s]} for s in DURATIONS},
            least=0.01,
            most=1000,
            marks=(0.01, 0.1, 1, 10, 100, 1000),
            logarithmic=True,
        ),
        Panel(
            title="through the store, MB/s",
            curves={names[s]: {it.workers: it.outcome.steady * STORE.size / 1e6 for it in of[s]} for s in DURATIONS},
            least=1,
            most=20000,
            marks=(1, 10, 100, 1000, 10000),
            logarithmic=True,
            limit=("the line of the store", 10000),
        ),
        Panel(
            title="8 models at random: loads for each worker",
            curves={
                name: {it.workers: it.outcome.loads.total() / it.workers for it in with_models if it.way == name} for name in ways
            },
            least=0,
            most=16,
            marks=(0, 4, 8, 12, 16),
        ),
    ]


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
