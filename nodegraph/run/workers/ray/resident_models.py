"""Which models a worker still has in memory: the process of the run hands it units with these."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterator

from nodegraph.run.model_memory import ModelMemory


class ResidentModels:
    """The models that a worker has computed with, by digest. `memory` holds what they consist of."""

    def __init__(self, memory: ModelMemory) -> None:
        self._memory = memory
        self._parts: dict[str, set[Hashable]] = {}  # the names that each model has in the memory

    @contextlib.contextmanager
    def computing_with(self, model: str | None) -> Iterator[None]:
        """What the memory is asked for during the block belongs to this model."""
        before = max(self._memory.last_uses().values(), default=0)
        try:
            yield
        finally:
            if model is not None:
                uses = self._memory.last_uses()
                used = {name for name, number in uses.items() if number > before}
                self._parts[model] = (self._parts.get(model, set()) & uses.keys()) | used

    def take_lost(self) -> tuple[str, ...]:
        """The models of which something has left the memory. Each is returned once, until it is computed with again."""
        there = self._memory.last_uses().keys()
        lost = tuple(model for model, parts in self._parts.items() if not parts <= there)
        for model in lost:
            del self._parts[model]
        return lost
