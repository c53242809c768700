"""Calls inside calls to any depth, without a deep stack: values go through all levels of workflows."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any, Final, TypeVar

T = TypeVar("T")

_DEEPEST: Final = 25  # calls inside each other, each of about ten frames


class _FirstNeeded(BaseException):
    """Calls that have to be made before the present ones can go on. It is no error, and nothing that handles errors takes it."""

    def __init__(self, calls: dict[Hashable, Callable[[], Any]]) -> None:
        super().__init__()
        self.calls = calls


class Nesting:
    """Makes calls of functions that keep their results, so that a second call is a lookup.

    At a certain depth, the calls so far are given up, the innermost is made first, and then the others are made again. So the
    stack stays small, and the time grows with the number of calls.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._open: set[Hashable] = set()
        self._given_up: dict[Hashable, dict[Hashable, Callable[[], Any]]] = {}  # with what they need

    def call(self, key: Hashable, function: Callable[[], T], circle: Callable[[], T]) -> T:
        """What `function` returns, or what `circle` returns if the result of `key` needs itself."""
        if key in self._open:
            return circle()
        if self._depth == 0:
            return self._whole(key, function)
        if key in self._given_up:
            raise _FirstNeeded(self._given_up[key])
        if self._depth >= _DEEPEST:
            raise _FirstNeeded({key: function})
        return self._one(key, function)

    def all(self, calls: Iterable[Callable[[], T]]) -> list[T]:
        """What several functions return, which make such calls. All that is needed first is found in one go."""
        results: list[T] = []
        needed: dict[Hashable, Callable[[], Any]] = {}
        for call in calls:
            try:
                results.append(call())
            except _FirstNeeded as first:
                needed |= first.calls
        if needed:
            raise _FirstNeeded(needed)
        return results

    def _one(self, key: Hashable, function: Callable[[], T]) -> T:
        self._depth += 1
        self._open.add(key)
        try:
            return function()
        except _FirstNeeded as first:
            self._given_up[key] = first.calls
            raise
        finally:
            self._open.discard(key)
            self._depth -= 1

    def _whole(self, key: Hashable, function: Callable[[], T]) -> T:
        waiting: dict[Hashable, Callable[[], Any]] = {key: function}
        while True:
            last = next(reversed(waiting))
            try:
                result: T = self._one(last, waiting[last])
            except _FirstNeeded as first:
                self._open.add(last)  # it is not finished
                self._given_up.clear()
                for needed, call in first.calls.items():
                    waiting.pop(needed, None)
                    waiting[needed] = call
            else:
                del waiting[last]
                if not waiting:
                    return result
