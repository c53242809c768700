"""Axes: how their values are written, which points follow, and what is refused."""

from __future__ import annotations

import itertools
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodegraph import WorkflowError
from nodegraph.sweeps.axes import Axes, checked, make_axes, read_over, read_sweep


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1..4", ["1", "2", "3", "4"]),
        ("4..1", ["4", "3", "2", "1"]),
        ("-2..2:2", ["-2", "0", "2"]),
        ("0.1..0.3:0.1", ["0.1", "0.2", "0.3"]),
        ("1..2:0.4", ["1.0", "1.4", "1.8"]),
        ("7..7", ["7"]),
        ("euler, heun,ddim", ["euler", "heun", "ddim"]),
        ("16:9,4:3", ["16:9", "4:3"]),
        ("a..b", ["a..b"]),
        ("../scene.png", ["../scene.png"]),
    ],
)
def test_values_of_the_command_line_are_text_for_the_input_to_read(text: str, values: list[str]) -> None:
    axis = read_over(f"name = {text}")
    assert axis.name == "name"
    assert [Decimal(v) if v[-1].isdigit() and ":" not in v else v for v in axis.values] == [
        Decimal(v) if v[-1].isdigit() and ":" not in v else v for v in values
    ]
    assert axis.text


def test_list_in_brackets_is_yaml() -> None:
    axis = read_over("seeds=[[1, 2], [3], 'a, b', true]")
    assert axis.values == [[1, 2], [3], "a, b", True]
    assert not axis.text


def test_file_has_one_value_on_each_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "prompts.txt").write_text("a red house, at night\n\n  a boat  \r\nx", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert read_over("prompt=@prompts.txt").values == ["a red house, at night", "a boat", "x"]
    assert read_sweep({"over": {"prompt": "@prompts.txt"}}, tmp_path).axes[0].values == ["a red house, at night", "a boat", "x"]


@given(st.integers(-50, 50), st.integers(-50, 50), st.integers(1, 7))
def test_ranges_mean_what_python_means(first: int, last: int, step: int) -> None:
    signed = step if last >= first else -step
    expected = range(first, last + (1 if signed > 0 else -1), signed)
    assert list(map(int, read_over(f"n={first}..{last}:{signed}").values)) == list(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed", "expected NAME=VALUES"),
        ("=1", "expected NAME=VALUES"),
        ("seed=", "--over seed: the list of values is empty"),
        ("seed=[]", "the list of values is empty"),
        ("seed=1,,2", "a value of '1,,2' is empty"),
        ("seed=[1", "not well-formed YAML"),
        ("seed=1..5:0", "never reach 5"),
        ("seed=1..5:-1", "never reach 5"),
        ("seed=1..1000000000", "has 1,000,000,000 values, and a sweep may have 100,000 points"),
        ("seed=1..9e99", "has 9.00e+99 values"),
        ("seed=@missing.txt", "missing.txt: No such file or directory"),
        ("seed=[$params.x]", "refers to params.x"),
    ],
)
def test_wrong_values_are_refused(text: str, message: str) -> None:
    with pytest.raises(WorkflowError, match="E121") as caught:
        read_over(text)
    assert message in str(caught.value).replace("$", "")


def test_too_many_points_are_refused_with_their_number() -> None:
    axes = Axes(axes=[read_over("a=1..1000"), read_over("b=1..1000"), read_over("c=1..1000")])
    with pytest.raises(WorkflowError, match="the sweep has 1,000,000,000 points, and a sweep may have 100,000"):
        checked(axes)
    with pytest.raises(WorkflowError, match="1,000,000,000 values"):
        make_axes({"seed": range(1_000_000_000)})


def test_other_mistakes_in_axes() -> None:
    with pytest.raises(WorkflowError, match="there is nothing to sweep over"):
        make_axes({})
    with pytest.raises(WorkflowError, match="--over a: this name is given twice"):
        checked(Axes(axes=[read_over("a=1"), read_over("a=2")]))
    with pytest.raises(WorkflowError, match="equally many: a has 2, b has 3"):
        make_axes({"a": [1, 2], "b": [1, 2, 3]}, zip=True)
    with pytest.raises(WorkflowError, match=r"expected a list of values, found \{x: 1\}"):
        make_axes({"a": {"x": 1}})
    with pytest.raises(WorkflowError, match="'sweep' must be a mapping, not 3"):
        read_sweep(3, Path())
    with pytest.raises(WorkflowError, match=r"'sweep' has no 'ovre'. Did you mean 'over'\?"):
        read_sweep({"ovre": {}}, Path())
    with pytest.raises(WorkflowError, match="'zip' of 'sweep' must be true or false, not 1"):
        read_sweep({"over": {"a": [1]}, "zip": 1}, Path())


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_points_are_the_product_and_samples_show_each_value(sizes: list[int]) -> None:
    axes = make_axes({f"axis{i}": list(range(size)) for i, size in enumerate(sizes)})
    points = list(axes.points())
    assert points == list(itertools.product(*map(range, sizes)))
    assert len(axes) == len(points)
    samples = list(axes.samples())
    assert len(samples) == sum(sizes) - len(sizes) + 1
    assert set(samples) <= set(points)
    assert [set(column) for column in zip(*samples, strict=True)] == [set(range(size)) for size in sizes]


def test_zip_takes_values_together() -> None:
    axes = make_axes({"a": [1, 2], "b": "x,y"}, zip=True)
    assert list(axes.points()) == list(axes.samples()) == [(1, "x"), (2, "y")]
    assert axes.shape == (2,)
