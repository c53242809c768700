"""A run that records what a node reports."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from nodegraph import Run
from nodegraph.plugin_api import OnDemand


class RecordingRun(Run):
    """Records notices, steps and residents."""

    def __init__(self) -> None:
        self.notices: list[str] = []
        self.steps: list[tuple[int, int]] = []
        self.residents: dict[Hashable, Any] = {}

    def step(self, i: int, n: int, preview: Any = None, *, status: str = "") -> None:
        self.steps.append((i, n))

    def resident(self, key: Hashable, make: Callable[[], Any], *, size: int = 0) -> Any:
        if key not in self.residents:
            self.residents[key] = make()
        return self.residents[key]

    def on_demand(self, key: Hashable, make: Callable[[], Any], *, size: int = 0) -> OnDemand[Any]:
        return _Recorded(self, key, make)

    def notice(self, message: str) -> None:
        self.notices.append(message)


class _Recorded(OnDemand[Any]):
    """A resident on demand. Those of the same run and key are equal."""

    __slots__ = ("_name",)

    def __init__(self, run: RecordingRun, key: Hashable, make: Callable[[], Any]) -> None:
        super().__init__(lambda: run.resident(key, make))
        self._name = (id(run), key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Recorded) and self._name == other._name

    def __hash__(self) -> int:
        return hash(self._name)
