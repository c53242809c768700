"""Canny's edges, against the algorithm written pixel by pixel, and on pictures whose edges are known."""

from __future__ import annotations

import math

import pytest
import torch

from nodegraph_nodes.nodes.edges import canny
from nodegraph_nodes.types import Image

ANGLES = [(0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1)]


def edges_of(grey, low, high):
    """Canny's edges of a list of rows, in plain Python."""
    rows, columns = len(grey), len(grey[0])

    def mirrored(i, n):
        return -i if i < 0 else 2 * (n - 1) - i if i >= n else i

    gauss = [math.exp(-(d**2) / 2) for d in range(-2, 3)]
    gauss = [g / sum(gauss) for g in gauss]
    blurred = [
        [
            sum(
                gauss[a + 2] * gauss[b + 2] * grey[mirrored(y + a, rows)][mirrored(x + b, columns)]
                for a in range(-2, 3)
                for b in range(-2, 3)
            )
            for x in range(columns)
        ]
        for y in range(rows)
    ]

    def at(y, x):
        return blurred[min(max(y, 0), rows - 1)][min(max(x, 0), columns - 1)]

    length, direction = {}, {}
    for y in range(rows):
        for x in range(columns):
            gx = sum(w * (at(y + d, x + 1) - at(y + d, x - 1)) for d, w in ((-1, 1), (0, 2), (1, 1)))
            gy = sum(w * (at(y + 1, x + d) - at(y - 1, x + d)) for d, w in ((-1, 1), (0, 2), (1, 1)))
            length[y, x] = math.sqrt(gx**2 + gy**2 + 1e-6)
            direction[y, x] = round(math.atan2(gy, gx) / (math.pi / 4)) % 8
    ridges = {}
    for (y, x), value in length.items():
        dy, dx = ANGLES[direction[y, x]]
        if value > length.get((y + dy, x + dx), 0) and value > length.get((y - dy, x - dx), 0):
            ridges[y, x] = value
    edges = {place for place, value in ridges.items() if value > high}
    pending = list(edges)
    while pending:
        y, x = pending.pop()
        for dy, dx in ANGLES:
            place = (y + dy, x + dx)
            if ridges.get(place, 0) > low and place not in edges:
                edges.add(place)
                pending.append(place)
    return [[float((y, x) in edges) for x in range(columns)] for y in range(rows)]


@pytest.mark.parametrize(("low", "high"), [(0.4, 0.8), (0.1, 0.9), (0.3, 0.3)])
def test_edges_are_those_of_the_algorithm(low, high):
    grey = torch.rand(2, 14, 17, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = canny(Image(grey.float()[..., None].expand(-1, -1, -1, 3)), low, high).pixels
    expected = torch.tensor([edges_of(picture.tolist(), low, high) for picture in grey])
    assert torch.equal(found, expected[..., None].expand_as(found).float())
    assert 0.02 < float(expected.mean()) < 0.5


def test_a_disc_has_a_thin_closed_outline():
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(40.0), indexing="ij")
    radius = ((y - 19.3) ** 2 + (x - 20.1) ** 2).sqrt()
    disc = (12.5 - radius).clamp(0, 1)
    found = canny(Image(disc[None, ..., None].expand(-1, -1, -1, 3))).pixels[0, ..., 0]
    assert bool(((radius - 12).abs()[found > 0] < 1.5).all())
    assert 60 < int(found.sum()) < 100  # a circle of radius 12 has a length of 75
    assert not bool(canny(Image(torch.full((1, 8, 8, 3), 0.3))).pixels.any())


def test_a_picture_needs_three_pixels():
    with pytest.raises(ValueError, match="expected sides of at least 3 pixels, found 9x2"):
        canny(Image(torch.zeros(1, 2, 9, 3)))
