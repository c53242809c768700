"""Figures become curves, and curves a picture."""

from __future__ import annotations

import matplotlib as mpl
import pytest
import torch

from nodegraph_nodes.nodes.plot import curve, plot
from nodegraph_nodes.pictures.plots import COLOURS, Axis, Panel, drawn_as_svg

FIGURES = [{"distance": 0.5, "right": 0.25, "wrong": {"kind": 3}}, {"distance": 0.125, "right": 0.75, "wrong": {}}]


def test_points_are_figures_or_given_numbers():
    assert curve("ddim", FIGURES, "distance", at=[5, 50]) == {"label": "ddim", "points": [[5.0, 0.5], [50.0, 0.125]]}
    assert curve("scales", FIGURES, "right", x="distance")["points"] == [[0.5, 0.25], [0.125, 0.75]]


def test_wrong_figures_are_named():
    with pytest.raises(ValueError, match=r"y: expected the name of a number \(distance, right\), found 'wrong'"):
        curve("ddim", FIGURES, "wrong", at=[5, 50])
    with pytest.raises(ValueError, match="at: expected a number for each of 2 points, found 3"):
        curve("ddim", FIGURES, "right", at=[5, 10, 50])
    for both in ({}, {"x": "distance", "at": [5, 50]}):
        with pytest.raises(ValueError, match="expected either x or at"):
            curve("ddim", FIGURES, "right", **both)
    one = curve("ddim", FIGURES, "right", at=[0, 50])
    with pytest.raises(ValueError, match="expected different labels, found ddim, ddim"):
        plot([one, one])
    with pytest.raises(ValueError, match="x_logarithmic: expected numbers above 0, found 0"):
        plot([one], x_logarithmic=True)
    with pytest.raises(ValueError, match=r"expected outputs of Curve, found figures \(distance, right, wrong\)"):
        plot(FIGURES)
    with pytest.raises(ValueError, match="expected at least one curve"):
        plot([])


def ink(picture: torch.Tensor, colour: str) -> torch.Tensor:
    """Where a picture (H, W, 3) has a colour."""
    wanted = torch.tensor([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return (picture - wanted).abs().amax(-1) < 0.02


def test_curves_rise_where_their_numbers_do():
    """Each has its colour; the first falls and the second rises. A second plot is the same, and settings of matplotlib stay."""
    before = dict(mpl.rcParams)
    curves = [curve("falls", FIGURES, "distance", at=[5, 50]), curve("rises", FIGURES, "right", at=[5, 50])]
    words = {"title": "both", "x_label": "steps", "y_label": "share", "x_logarithmic": True}
    (picture,) = plot(curves, **words, width=400, height=300).pixels
    assert picture.shape == (300, 400, 3)
    for colour, falls in zip(COLOURS, (True, False), strict=False):
        rows, columns = ink(picture[:, :300], colour).nonzero().float().T  # without the legend
        first, last = (rows[columns == edge].mean() for edge in (columns.min(), columns.max()))
        assert bool(last > first) == falls  # rows are counted from the top
    assert not ink(picture, COLOURS[2]).any()
    assert torch.equal(plot(curves, **words, width=400, height=300).pixels[0], picture)
    assert dict(mpl.rcParams) == before


def test_svg_keeps_text_and_is_the_same_each_time():
    panel = Panel(
        title="share of linear speed",
        curves={"units of 2 s": [(8, 99.0), (64, 98.0)]},
        x=Axis(name="workers", logarithmic=True, marks=(8, 64)),
        y=Axis(ends=(0, 100), unit=" %"),
        limit=("95 %", 95),
    )
    drawn = [drawn_as_svg([panel, panel], columns=2, size=(300, 200)) for _ in range(2)]
    assert drawn[0] == drawn[1]
    for text in ("share of linear speed", "workers", "units of 2 s", "95 %", ">64<"):
        assert drawn[0].count(text) >= 2, text
