"""How maintenance of many files reports how far it is."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")


Progress = Callable[[int, int], None]
"""Receives how many files are done, and how many there are. May stop the work by raising."""


class Steps(Protocol):
    def __call__(self, items: Iterable[T], /) -> Iterator[T]: ...


def no_progress(done: int, total: int) -> None:
    """Show nothing."""


def steps(progress: Progress, total: int) -> Steps:
    """A function that yields what it receives and shows progress; it may be called for one part of the work after another."""
    count = itertools.count(1)

    def step(items: Iterable[T]) -> Iterator[T]:
        for item in items:
            progress(next(count), total)
            yield item

    return step
