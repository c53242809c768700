"""A run that records what a node reports."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from nodegraph import Run


class RecordingRun(Run):
    """Records notices, steps and residents."""

    def __init__(self) -> None:
        self.notices: list[str] = []
        self.steps: list[tuple[int, int]] = []
        self.residents: dict[Hashable, Any] = {}

    def step(self, i: int, n: int, preview: Any = None) -> None:
        self.steps.append((i, n))

    def resident(self, key: Hashable, make: Callable[[], Any]) -> Any:
        if key not in self.residents:
            self.residents[key] = make()
        return self.residents[key]

    def notice(self, message: str) -> None:
        self.notices.append(message)
