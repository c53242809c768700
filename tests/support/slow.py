"""Parameters of a test of which a few are fast tests and the others slow ones."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def slow_except(fast: Collection[Any], values: Iterable[Any]) -> list[Any]:
    """The values as parameters, all of them slow tests but those in `fast`."""
    return [value if value in fast else pytest.param(value, marks=pytest.mark.slow) for value in values]


def slow_after(count: int, values: Iterable[Any], *, several: bool = False) -> list[Any]:
    """The values as parameters, all of them slow tests but the first `count`. `several`: each holds the values of several names."""
    rest = pytest.mark.slow
    return [
        value if index < count else pytest.param(*(value if several else (value,)), marks=rest)
        for index, value in enumerate(values)
    ]
