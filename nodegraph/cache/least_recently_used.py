"""A collection with a limit, which removes what was not used for the longest time."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")


class LeastRecentlyUsed(Generic[T]):
    """Entries whose costs add up to at most `limit`; the least recently used ones are removed."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._total = 0
        self._entries: OrderedDict[str, tuple[T, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> T | None:
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key][0]

    def put(self, key: str, value: T, cost: int) -> None:
        self._total += cost - self._entries.pop(key, (None, 0))[1]
        self._entries[key] = (value, cost)
        while self._total > self._limit:
            _, (_, freed) = self._entries.popitem(last=False)
            self._total -= freed

    def remove(self, key: str) -> None:
        self._total -= self._entries.pop(key, (None, 0))[1]

    def clear(self) -> None:
        self._entries.clear()
        self._total = 0
