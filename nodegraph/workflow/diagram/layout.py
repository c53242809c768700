"""Where the boxes of a diagram are: in layers, so that arrows lead down, with few crossings (Sugiyama et al. 1981)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Final

from nodegraph.light_dataclass import dataclass
from nodegraph.workflow.diagram.diagram import Diagram

GAP: Final = 28.0
"""The least space between neighbours in a layer, in units of SVG."""
_SWEEPS: Final = 12
_MOST_STOPS: Final = 20_000  # an arrow over many layers passes a stop in each; beyond this number, long arrows are drawn straight


@dataclass(frozen=True, kw_only=True)
class Layout:
    """For each box its layer and its middle, from 0 to `width`; for each arrow the layers that it passes, and where."""

    width: float

    layers: Mapping[str, int]
    middles: Mapping[str, float]
    stops: Mapping[int, Sequence[tuple[int, float]]]


def layout_of(diagram: Diagram, widths: Mapping[str, float]) -> Layout:
    """Place the boxes, whose widths are given."""
    layers = _layers(diagram)
    neighbours: dict[str, list[str]] = {box.id: [] for box in diagram.boxes}  # the stops of long arrows among them
    sizes, chains = dict(widths), dict[int, list[str]]()
    long = sum(layers[arrow.target] - layers[arrow.source] - 1 for arrow in diagram.arrows)
    for number, arrow in enumerate(diagram.arrows):
        passed = range(layers[arrow.source] + 1, layers[arrow.target]) if long <= _MOST_STOPS else ()
        chain = [arrow.source]
        for layer in passed:
            stop = f"{number}/{layer}"
            layers[stop], sizes[stop], neighbours[stop] = layer, 0.0, []
            chain.append(stop)
        chains[number] = [*chain, arrow.target]
        for above, below in pairwise(chains[number]):
            neighbours[above].append(below)
            neighbours[below].append(above)
    rows: list[list[str]] = [[] for _ in range(max(layers.values(), default=-1) + 1)]
    for name in layers:
        rows[layers[name]].append(name)
    _order(rows, layers, neighbours)
    middles = _place(rows, layers, neighbours, sizes)
    stops = {number: [(layers[stop], middles[stop]) for stop in chain[1:-1]] for number, chain in chains.items()}
    width = max((middle + sizes[name] / 2 for name, middle in middles.items()), default=0.0)
    return Layout(width=width, layers=layers, middles=middles, stops=stops)


def _layers(diagram: Diagram) -> dict[str, int]:
    """The layer of each box: below all that feed it, and as near as possible to what it feeds."""
    sources: dict[str, list[str]] = {box.id: [] for box in diagram.boxes}
    targets: dict[str, list[str]] = {box.id: [] for box in diagram.boxes}
    for arrow in diagram.arrows:
        sources[arrow.target].append(arrow.source)
        targets[arrow.source].append(arrow.target)
    waiting = {name: len(each) for name, each in sources.items()}
    ready = [name for name, count in waiting.items() if not count]
    layers: dict[str, int] = {}
    while ready:
        name = ready.pop()
        layers[name] = max((layers[source] + 1 for source in sources[name]), default=0)
        for target in targets[name]:
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    for name in sources:  # what is left stands on a circle, which only a workflow with mistakes has
        layers.setdefault(name, 0)
    for name in sorted(layers, key=lambda name: -layers[name]):
        if targets[name] and not sources[name]:
            layers[name] = max(0, min(layers[target] for target in targets[name]) - 1)
    return {name: layers[name] for name in sources}


def _order(rows: list[list[str]], layers: Mapping[str, int], neighbours: Mapping[str, Sequence[str]]) -> None:
    """Order each row so that few arrows cross: by the mean place of the neighbours above, then below, several times."""
    place = {name: float(index) for row in rows for index, name in enumerate(row)}
    best, fewest = [list(row) for row in rows], _crossings(rows, layers, neighbours)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            wanted = {}
            for name in row:
                near = [place[other] for other in neighbours[name] if (layers[other] < layers[name]) == down]
                wanted[name] = sum(near) / len(near) if near else place[name]
            row.sort(key=wanted.__getitem__)
            place.update((name, float(index)) for index, name in enumerate(row))
        crossings = _crossings(rows, layers, neighbours)
        if crossings < fewest:
            best, fewest = [list(row) for row in rows], crossings
        if not crossings:
            break
    rows[:] = best


def _crossings(rows: Sequence[Sequence[str]], layers: Mapping[str, int], neighbours: Mapping[str, Sequence[str]]) -> int:
    """How many arrows between neighbouring rows cross, with a tree of counts: about n log n steps for n arrows."""
    place = {name: index for row in rows for index, name in enumerate(row)}
    total = 0
    for row, below in pairwise(rows):
        counts = [0] * (len(below) + 1)
        seen = 0
        for name in row:
            ends = sorted(place[other] for other in neighbours[name] if layers[other] == layers[name] + 1)
            for end in ends:
                index, before = end + 1, 0
                while index:
                    before += counts[index]
                    index -= index & -index
                total += seen - before
            for end in ends:
                index = end + 1
                while index <= len(below):
                    counts[index] += 1
                    index += index & -index
                seen += 1
    return total


def _place(
    rows: Sequence[Sequence[str]],
    layers: Mapping[str, int],
    neighbours: Mapping[str, Sequence[str]],
    sizes: Mapping[str, float],
) -> dict[str, float]:
    """The middle of each box, near the median of its neighbours, with at least GAP between neighbours in a row."""
    middles: dict[str, float] = {}
    for row in rows:
        edge = 0.0
        for name in row:
            middles[name] = edge + sizes[name] / 2
            edge += sizes[name] + GAP
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            wanted = []
            for name in row:
                near = [middles[other] for other in neighbours[name] if (layers[other] < layers[name]) == down]
                wanted.append(median(near) if near else middles[name])
            middles.update(zip(row, _apart(wanted, [sizes[name] for name in row]), strict=True))
    left = min((middles[name] - sizes[name] / 2 for name in middles), default=0.0)
    return {name: middle - left for name, middle in middles.items()}


def _apart(wanted: Sequence[float], sizes: Sequence[float]) -> Iterable[float]:
    """The places nearest to the wanted ones, in squared distance, at which nothing overlaps.

    Without the sizes, places must not decrease; then that is a regression by pooling neighbours (Ayer et al. 1955).
    """
    offsets, edge = [], 0.0
    for size in sizes:
        offsets.append(edge + size / 2)
        edge += size + GAP
    pools: list[list[float]] = []  # the sum of the wanted places, and their number
    for place, offset in zip(wanted, offsets, strict=True):
        pools.append([place - offset, 1.0])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] > pools[-1][0] / pools[-1][1]:
            total, count = pools.pop()
            pools[-1][0] += total
            pools[-1][1] += count
    places = [total / count for total, count in pools for _ in range(int(count))]
    return [place + offset for place, offset in zip(places, offsets, strict=True)]
