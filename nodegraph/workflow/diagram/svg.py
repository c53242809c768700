"""A diagram as SVG, which browsers and notebooks show. It needs nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import mean
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from nodegraph.terminal import one_line
from nodegraph.text import shortened
from nodegraph.workflow.diagram.diagram import Box, Diagram
from nodegraph.workflow.diagram.layout import layout_of

_HEIGHT, _ROW, _MARGIN = 44.0, 96.0, 16.0
_LONGEST_TITLE: Final = 32
_CHARACTER, _SMALL_CHARACTER = 7.2, 5.8  # their widths in a wide font
_STYLE: Final = """\
.nodegraph { font: 12px system-ui, sans-serif; background: #fff }
.nodegraph rect { fill: #f6f8fa; stroke: #8c959f }
.nodegraph .output rect { fill: #ddf4e4; stroke: #2da44e }
.nodegraph text { text-anchor: middle; fill: #1f2328 }
.nodegraph .type, .nodegraph .input { fill: #59636e; font-size: 11px }
.nodegraph .input { font-size: 10px; paint-order: stroke; stroke: #fff; stroke-width: 3px }
.nodegraph path { fill: none; stroke: #8c959f; stroke-width: 1.2 }
.nodegraph marker path { fill: #8c959f; stroke: none }
"""


def as_svg(diagram: Diagram, title: str) -> str:
    """The diagram as an SVG document."""
    texts = {box.id: (_text(box.title), _text(box.subtitle)) for box in diagram.boxes}
    ports = {box.id: dict[str, list[int]]() for box in diagram.boxes}  # by input, the arrows that feed it
    for number, arrow in enumerate(diagram.arrows):
        ports[arrow.target].setdefault(arrow.input, []).append(number)
    widths = {
        name: max(64.0, 20 + _CHARACTER * max(map(len, lines)), sum(map(_port_width, ports[name]))) for name, lines in texts.items()
    }
    layout = layout_of(diagram, widths)
    rows = 1 + max((layout.layers[name] for name in widths), default=0)
    size = f"{layout.width + 2 * _MARGIN:.0f} {(rows - 1) * _ROW + _HEIGHT + 2 * _MARGIN:.0f}".split()

    def top(layer: int) -> float:
        return _MARGIN + layer * _ROW

    def _starts(number: int) -> list[tuple[float, float]]:
        """Where an arrow begins, and the stops on its way."""
        source = diagram.arrows[number].source
        begin = (_MARGIN + layout.middles[source], top(layout.layers[source]) + _HEIGHT)
        return [begin, *((_MARGIN + x, top(layer) + _HEIGHT / 2) for layer, x in layout.stops[number])]

    def lines() -> Iterator[str]:
        labels = []
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="nodegraph" width="{size[0]}" height="{size[1]}" '
            f'viewBox="0 0 {size[0]} {size[1]}" role="img" aria-label={quoteattr(_text(title))}>'
        )
        yield f"<title>{escape(_text(title))}</title>"
        yield f"<style>\n{_STYLE}</style>"
        yield (
            '<defs><marker id="nodegraph-arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            'orient="auto"><path d="M0 0 L8 4 L0 8 z"/></marker></defs>'
        )
        for name, inputs in ports.items():
            x, y = _MARGIN + layout.middles[name] - sum(map(_port_width, inputs)) / 2, top(layout.layers[name]) - 2
            starts = {input: [_starts(number) for number in numbers] for input, numbers in inputs.items()}
            for input in sorted(inputs, key=lambda input: mean(way[-1][0] for way in starts[input])):
                x += _port_width(input) / 2
                for way in starts[input]:
                    yield f'<path d="{_curve([*way, (x, y)])}" marker-end="url(#nodegraph-arrow)"/>'
                if input:
                    labels.append((input, x, y - 11))
                x += _port_width(input) / 2
        for input, x, y in labels:
            yield f'<text class="input" x="{x:.1f}" y="{y:.1f}">{escape(_text(input))}</text>'
        for box in diagram.boxes:
            yield from _box(box, texts[box.id], (layout.middles[box.id] + _MARGIN, top(layout.layers[box.id])), widths[box.id])
        yield "</svg>"

    return "\n".join(lines())


def _box(box: Box, texts: tuple[str, str], at: tuple[float, float], width: float) -> Iterator[str]:
    """A rectangle with one or two lines of text; `at` is the middle of its upper edge."""
    (x, y), (title, subtitle) = at, texts
    radius = _HEIGHT / 2 if box.is_output else 6
    yield f'<g class="{"output" if box.is_output else "node"}">'
    yield f'<rect x="{x - width / 2:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_HEIGHT:.0f}" rx="{radius:.0f}"/>'
    yield f'<text x="{x:.1f}" y="{y + (19 if subtitle else 26):.1f}">{escape(title)}</text>'
    if subtitle:
        yield f'<text class="type" x="{x:.1f}" y="{y + 35:.1f}">{escape(subtitle)}</text>'
    yield "</g>"


def _curve(points: Sequence[tuple[float, float]]) -> str:
    """A smooth path through points from top to bottom, vertical at each of them."""
    path = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for (x, y), (next_x, next_y) in pairwise(points):
        middle = (y + next_y) / 2
        path.append(f"C{x:.1f} {middle:.1f} {next_x:.1f} {middle:.1f} {next_x:.1f} {next_y:.1f}")
    return " ".join(path)


def _port_width(input: str) -> float:
    """How much of a box's upper edge an input takes, for its label above it."""
    return 12 + _SMALL_CHARACTER * len(_text(input))


def _text(text: str) -> str:
    """Text that fits into a box; characters that XML does not allow are shown as escapes."""
    return one_line(shortened(text, _LONGEST_TITLE))
