"""Loaded models that stay between nodes and runs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Final, TypeVar

T = TypeVar("T")

KEPT: Final = 8
"""How many things stay: the parts of two checkpoints, their tokenizers among them. The least recently used goes first."""


class Residents:
    """What nodes asked to keep, by scope and key; a scope is one state of a plugin's code and of the files a node reads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, scope: Hashable, key: Hashable, make: Callable[[], T]) -> T:
        """What is kept, or what `make()` gives, kept from now on."""
        place = (scope, key)
        if place not in self._kept:
            self._kept[place] = make()
        self._kept.move_to_end(place)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        kept: T = self._kept[place]
        return kept

    def clear(self) -> None:
        """Let go of everything."""
        self._kept.clear()
