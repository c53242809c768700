"""Draws docs/images/orders.svg, the error of every sampler that draws no noise: `python docs/plot_orders.py`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from nodegraph_diffusion.sampling import SamplerSpec
from nodegraph_diffusion.testing import Measured, measurable, measured

TARGET = Path(__file__).parent / "images" / "orders.svg"
STEPS = (6, 12, 24, 48, 96, 192)  # multiples of 6: some samplers group their steps by two or three

COLUMNS, PANEL, PLOT, MARGIN = 5, (196, 176), (152, 122), (36, 32)
FEWEST, MOST = 4, 1024
LARGEST, SMALLEST = 10.0, 1e-9

Point = tuple[float, float]


def position(found: Measured) -> Point:
    """The position of a run in a plot: calls of the network to the right, smaller errors down, both logarithmic."""
    x = math.log(found.evaluations / FEWEST) / math.log(MOST / FEWEST)
    y = math.log(LARGEST / max(found.error, SMALLEST)) / math.log(LARGEST / SMALLEST)
    return PLOT[0] * min(max(x, 0), 1), PLOT[1] * min(max(y, 0), 1)


def curves(samplers: Mapping[str, SamplerSpec]) -> dict[str, list[Point]]:
    """The points of each sampler, by its name."""
    return {name: [position(measured(spec, steps)) for steps in STEPS] for name, spec in samplers.items()}


def line(points: list[Point], style: str) -> str:
    return f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" fill="none" {style}/>'


def axes() -> Iterator[str]:
    """Lines at powers of ten of the error, and labels at numbers of calls."""
    for exponent in (0, -2, -4, -6, -8):
        y = PLOT[1] * (1 - exponent) / math.log10(LARGEST / SMALLEST)
        yield f'<path d="M0 {y:.1f}h{PLOT[0]}" stroke="#d8dee6" stroke-width="0.6"/>'
        label = f'10<tspan font-size="6.5" dy="-3">{exponent}</tspan>' if exponent else "1"
        yield f'<text x="-5" y="{y + 3:.1f}" text-anchor="end" font-size="8.5" fill="#6b7280">{label}</text>'
    for calls in (4, 16, 64, 256, 1024):
        x = PLOT[0] * math.log(calls / FEWEST) / math.log(MOST / FEWEST)
        yield f'<text x="{x:.1f}" y="{PLOT[1] + 12}" text-anchor="middle" font-size="8.5" fill="#6b7280">{calls}</text>'


def panel(name: str, spec: SamplerSpec, runs: Mapping[str, list[Point]]) -> Iterator[str]:
    """One sampler in blue, all others in light grey behind it."""
    order = spec.describe().get("order", "")
    size = min(11.5, 265 / len(name))  # long names must fit
    yield f'<text x="0" y="-17" font-size="{size:.1f}" font-weight="600" fill="#111827">{name}</text>'
    yield f'<text x="0" y="-6" font-size="8.5" fill="#6b7280">{f"order {order}" if order else "no order declared"}</text>'
    yield from axes()
    yield from (line(points, 'stroke="#cbd2dc" stroke-width="0.8"') for other, points in runs.items() if other != name)
    yield line(runs[name], 'stroke="#2563eb" stroke-width="1.4"')
    yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.8" fill="#2563eb"/>' for x, y in runs[name])


def legend() -> Iterator[str]:
    """A panel that explains the plots."""
    texts = (
        "right: calls of the network",
        "down: distance from the",
        "exact solution, from noise",
        "level 10 to 0.1, on data that",
        "is normally distributed",
        f"dots: {', '.join(map(str, STEPS[:3]))}, ... {STEPS[-1]} steps",
        "grey: the other samplers",
    )
    for i, text in enumerate(texts):
        yield f'<text x="-5" y="{10 + 15 * i}" font-size="10" fill="#374151">{text}</text>'


def picture(samplers: Mapping[str, SamplerSpec]) -> str:
    """The whole picture as SVG."""
    runs = curves(samplers)
    panels = [*(list(panel(name, spec, runs)) for name, spec in samplers.items()), list(legend())]
    columns = min(COLUMNS, len(panels))
    width, height = columns * PANEL[0] + 6, math.ceil(len(panels) / columns) * PANEL[1]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for i, drawn in enumerate(panels):
        x, y = (i % columns) * PANEL[0] + MARGIN[0], (i // columns) * PANEL[1] + MARGIN[1]
        parts += [f'<g transform="translate({x} {y})">', *drawn, "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    TARGET.write_text(picture(measurable()), encoding="utf-8")
    print(f"wrote {TARGET}")
