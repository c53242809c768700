"""Contact sheets: which point stands where."""

from __future__ import annotations

import itertools
import math

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nodegraph.sweeps.axes import Axes, make_axes
from nodegraph.sweeps.sheets import MOST_ON_A_SHEET, Layout, layouts


def layouts_of(axes: Axes) -> list[Layout]:
    return list(layouts(axes, [[str(value) for value in point] for point in axes.points()]))


def test_one_axis_has_a_label_at_each_value() -> None:
    (layout,) = layouts_of(make_axes({"seed": list("abcde")}))
    assert list(layout.points) == [0, 1, 2, 3, 4]
    assert (layout.labels.width, layout.labels.title, layout.labels.cells) == (3, "seed", list("abcde"))


def test_two_axes_are_columns_and_rows() -> None:
    (layout,) = layouts_of(make_axes({"x": list("ab"), "y": list("123")}))
    assert list(layout.points) == [0, 3, 1, 4, 2, 5]
    labels = layout.labels
    assert (labels.width, labels.columns, labels.rows, labels.title) == (2, ["a", "b"], ["1", "2", "3"], "columns: x, rows: y")


def test_third_axis_makes_sections() -> None:
    axes = make_axes({"x": list("ab"), "y": list("12"), "z": list("pq")})
    (layout,) = layouts_of(axes)
    points = list(axes.points())
    assert [points[i] for i in layout.points] == [(x, y, z) for z, y, x in itertools.product("pq", "12", "ab")]
    assert (layout.labels.sections, layout.labels.rows) == (["z: p", "z: q"], ["1", "2", "1", "2"])


def test_axes_that_go_together_and_a_fourth_axis_stand_one_after_another() -> None:
    (layout,) = layouts_of(make_axes({"a": [1, 2], "b": [3, 4]}, zip=True))
    assert layout.labels.cells == ["1, 3", "2, 4"]
    (layout,) = layouts_of(make_axes({name: [1, 2] for name in "abcd"}))
    assert len(layout.labels.cells) == 16


@settings(max_examples=40)
@given(st.lists(st.sampled_from([1, 2, 3, 19, 21, 401]), min_size=1, max_size=3), st.booleans())
def test_each_point_stands_on_one_sheet_under_its_labels(sizes: list[int], together: bool) -> None:
    sizes = sizes[:1] * len(sizes) if together else sizes
    assume(together or math.prod(sizes) < 10_000)
    axes = make_axes({f"axis{i}": [f"{i}:{k}" for k in range(size)] for i, size in enumerate(sizes)}, zip=together)
    points = list(axes.points())
    seen: list[int] = []
    for layout in layouts_of(axes):
        assert len(layout.points) <= MOST_ON_A_SHEET
        seen += layout.points
        labels = layout.labels
        per_section = len(layout.points) // labels.width // max(1, len(labels.sections))
        for position, index in enumerate(layout.points):
            row, column = divmod(position, labels.width)
            if labels.cells:
                assert labels.cells[position] == ", ".join(points[index])
                continue
            assert labels.columns[column] == points[index][0]
            assert labels.rows[row] == points[index][1]
            if labels.sections:
                assert labels.sections[row // per_section] == f"axis2: {points[index][2]}"
    assert sorted(seen) == list(range(len(points)))
