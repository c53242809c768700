"""Loaded models that stay between nodes and runs, within a budget of memory for each place that they lie in."""

from __future__ import annotations

import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from nodegraph.plugins.backend import Backend, Blocks

T = TypeVar("T")

MAIN: Final = "cpu"
"""The place of what lies in main memory."""

KEPT: Final = 256
"""How many things stay, whatever their size: what nobody can measure, such as tokenizers, must go some day, too."""

_UNKNOWN_MEMORY: Final = 16 * 2**30


@dataclass
class _Kept:
    """A thing that is kept: its blocks of memory, by place and address, and whether it was moved out of an accelerator."""

    value: Any
    blocks: Blocks
    moved_from: str | None = None


class Residents:
    """What nodes asked to keep, by scope and key; a scope is one state of a plugin's code and of the files a node reads.

    `budget` is how many bytes stay in main memory; None: half of what the machine has. The backend knows an
    accelerator's budget. Where a place holds more, the least recently used thing leaves it: an accelerator for main memory, main
    memory for good. What was used last always stays. The backend measures
    things (`memory_of`) and moves them (`move`); memory that two things share counts once.
    """

    def __init__(self, backend: Backend, budget: int | None = None) -> None:
        self._backend = backend
        self._budgets: dict[str, int] = {MAIN: half_of_memory() if budget is None else budget}
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._lock = threading.RLock()

    def get(self, scope: Hashable, key: Hashable, make: Callable[[], T]) -> T:
        """What is kept, or what `make()` gives, kept from now on."""
        place = (scope, key)
        with self._lock:  # what two nodes want at once is made once
            kept = self._kept.pop(place, None)
            if kept is None:
                kept = self._weighed(make())
            elif kept.moved_from is not None:
                kept = self._weighed(self._backend.move(kept.value, kept.moved_from))
            self._kept[place] = kept
            self._make_room()
            value: T = kept.value
        return value

    def clear(self) -> None:
        """Let go of everything."""
        with self._lock:
            self._kept.clear()

    def sizes(self) -> dict[str, int]:
        """How many bytes are kept, by place."""
        with self._lock:
            return _sizes(self._kept.values())

    def _weighed(self, value: Any) -> _Kept:
        return _Kept(value, self._backend.memory_of(value))

    def _make_room(self) -> None:
        """Move or drop the least recently used things until each place is within its budget, the last one excepted."""
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        for place in sorted(_sizes(self._kept.values()), key=lambda place: place == MAIN):  # main memory takes what others give
            oldest = [name for name, kept in self._kept.items() if any(where == place for where, _ in kept.blocks)][:-1]
            for name in oldest:
                if _sizes(self._kept.values())[place] <= self._budget(place):
                    break
                kept = self._kept[name]
                moved = None if place == MAIN else self._backend.move(kept.value, MAIN)
                if moved is None:
                    del self._kept[name]
                else:
                    self._kept[name] = _Kept(moved, self._backend.memory_of(moved), moved_from=place)

    def _budget(self, place: str) -> int:
        if place not in self._budgets:
            told = self._backend.memory_budget(place)
            self._budgets[place] = self._budgets[MAIN] if told is None else told
        return self._budgets[place]


def half_of_memory() -> int:
    """Half of the machine's main memory, in bytes; of 16 GiB where the system does not tell."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        memory = _UNKNOWN_MEMORY
    return memory // 2


def _sizes(kept: Iterable[_Kept]) -> Counter[str]:
    blocks: dict[tuple[str, int], int] = {}
    for one in kept:
        blocks.update(one.blocks)
    sizes: Counter[str] = Counter()
    for (place, _), size in blocks.items():
        sizes[place] += size
    return sizes
