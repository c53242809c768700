"""Loaded models that stay between nodes and runs."""

from __future__ import annotations

import threading
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
        self._lock = threading.RLock()

    def get(self, scope: Hashable, key: Hashable, make: Callable[[], T]) -> T:
        """What is kept, or what `make()` gives, kept from now on."""
        place = (scope, key)
        with self._lock:  # what two nodes want at once is made once
            if place not in self._kept:
                self._kept[place] = make()
            self._kept.move_to_end(place)
            kept: T = self._kept[place]
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return kept

    def clear(self) -> None:
        """Let go of everything."""
        with self._lock:
            self._kept.clear()
