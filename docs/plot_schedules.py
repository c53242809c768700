"""Draws the picture of docs/schedules.md, every schedule on Stable Diffusion's noise levels: `python docs/plot_schedules.py`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from nodegraph_diffusion.noise_schedule import NoiseSchedule
from nodegraph_diffusion.schedules import SCHEDULES

TARGET = Path(__file__).parent / "images" / "schedules.svg"
MODEL, STEPS = NoiseSchedule(), 20
SHOWN = {"polyexponential": {"rho": 2.0}}  # with 1 it is `exponential`
FEWER = {"turbo": 10}

COLUMNS, PANEL, PLOT, MARGIN = 6, (164, 176), (124, 118), (34, 30)
LOWEST, HIGHEST = 0.008, 220.0
MARKS = (0.01, 0.1, 1, 10, 100)


def height(sigma: float) -> float:
    """The distance of a noise level from the top of a plot."""
    return PLOT[1] * math.log(HIGHEST / sigma) / math.log(HIGHEST / LOWEST)


def points(name: str, **options: object) -> list[tuple[float, float]]:
    """The levels above 0 of a schedule, as points in its plot."""
    sigmas = SCHEDULES[name](MODEL, FEWER.get(name, STEPS), **options).tolist()
    return [(PLOT[0] * i / (len(sigmas) - 1), height(sigma)) for i, sigma in enumerate(sigmas[:-1])]


def line(path: list[tuple[float, float]], style: str) -> str:
    return f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in path)}" fill="none" {style}/>'


def panel(name: str) -> Iterator[str]:
    """One schedule: its levels over the trained range, with the schedule karras for comparison."""
    options = SHOWN.get(name, {})
    label = ", ".join(f"{option} {value:g}" for option, value in options.items())
    top, bottom = height(MODEL.sigma_max), height(MODEL.sigma_min)
    yield f'<rect y="{top:.1f}" width="{PLOT[0]}" height="{bottom - top:.1f}" fill="#eef2f7"/>'
    for mark in MARKS:
        y = height(mark)
        yield f'<path d="M0 {y:.1f}h{PLOT[0]}" stroke="#d8dee6" stroke-width="0.6"/>'
        yield f'<text x="-5" y="{y + 3:.1f}" text-anchor="end" font-size="8.5" fill="#6b7280">{mark:g}</text>'
    yield f'<text x="0" y="-8" font-size="11.5" font-weight="600" fill="#111827">{name}</text>'
    if label:
        yield f'<text x="{PLOT[0]}" y="{PLOT[1] + 12}" text-anchor="end" font-size="8.5" fill="#6b7280">{label}</text>'
    if name != "karras":
        yield line(points("karras"), 'stroke="#9ca3af" stroke-width="1" stroke-dasharray="3 2"')
    own = points(name, **options)
    yield line(own, 'stroke="#2563eb" stroke-width="1.2"')
    yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.7" fill="#2563eb"/>' for x, y in own)


def legend() -> Iterator[str]:
    """A panel that explains the colours."""
    texts = (
        f"noise levels of {STEPS} steps",
        f"(turbo: {FEWER['turbo']}), but the last, 0",
        "blue: the schedule",
        "dashed: karras",
        "band: what Stable",
        "Diffusion was trained on",
    )
    for i, text in enumerate(texts):
        yield f'<text x="-5" y="{10 + 15 * i}" font-size="10" fill="#374151">{text}</text>'


def picture() -> str:
    """The whole picture as SVG."""
    panels = [*(list(panel(name)) for name in SCHEDULES), list(legend())]
    width, rows = COLUMNS * PANEL[0] + 6, math.ceil(len(panels) / COLUMNS)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {rows * PANEL[1]}" font-family="sans-serif">',
        f'<rect width="{width}" height="{rows * PANEL[1]}" fill="white"/>',
    ]
    for i, drawn in enumerate(panels):
        x, y = (i % COLUMNS) * PANEL[0] + MARGIN[0], (i // COLUMNS) * PANEL[1] + MARGIN[1]
        parts += [f'<g transform="translate({x} {y})">', *drawn, "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    TARGET.write_text(picture(), encoding="utf-8")
    print(f"wrote {TARGET}")
