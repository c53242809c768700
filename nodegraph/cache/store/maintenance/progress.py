"""How maintenance of many files reports how far it is."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

from nodegraph.cache.store.records import ReadRecord, Record

T = TypeVar("T")


Progress = Callable[[str, int, int | None], None]
"""Receives what is done with files, such as "removed", with how many it is done, and how many there are (None: not yet known).

May stop the work by raising.
"""


class Steps(Protocol):
    def __call__(self, items: Iterable[T], /) -> Iterator[T]: ...


def no_progress(action: str, done: int, total: int | None) -> None:
    """Show nothing."""


def steps(progress: Progress, action: str, total: int | None = None) -> Steps:
    """A function that yields what it receives and shows progress; it may be called for one part of the work after another."""
    count = itertools.count(1)

    def step(items: Iterable[T]) -> Iterator[T]:
        for item in items:
            progress(action, next(count), total)
            yield item

    return step


def with_progress(read_record: ReadRecord, progress: Progress) -> ReadRecord:
    """A function that reads records as `read_record` does, and shows how many it has read."""
    count = itertools.count(1)

    def read(key: str) -> Record | None:
        progress("read", next(count), None)
        return read_record(key)

    return read
