"""Loaded models that stay in memory between nodes and runs, within a budget for each device."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from nodegraph.plugins.backend import Backend, Blocks

T = TypeVar("T")

MAIN: Final = "cpu"
"""The device name of main memory."""

MAX_RESIDENTS: Final = 256
"""How many values are kept, whatever their size, since that of some, such as tokenizers, is unknown."""

_UNKNOWN_MEMORY: Final = 16 * 2**30


@dataclass(frozen=True)
class _Resident:
    """A value that is kept, its version, its blocks of memory, and the accelerator that it was moved from, if any."""

    value: Any
    version: Any
    blocks: Blocks
    moved_from: str | None = None

    def is_on(self, device: str) -> bool:
        """Whether a block of it is in the memory of a device."""
        return any(location == device for location, _ in self.blocks)


class ModelMemory:
    """Values that nodes keep, by scope and key. A scope is one state of a plugin's code and of the files that a node reads.

    `budget` is how many bytes stay in main memory; None: half of the machine's. The backend knows the budget of an accelerator.
    When a device holds more, its least recently used value leaves it: from an accelerator to main memory, and from main
    memory for good. The last one used always stays. The backend measures values (`memory_of`) and moves them (`move`). Memory
    that two values share counts once.
    """

    def __init__(self, backend: Backend, budget: int | None = None) -> None:
        self._backend = backend
        self._budgets: dict[str, int] = {MAIN: half_of_memory() if budget is None else budget}
        self._residents: OrderedDict[Hashable, _Resident] = OrderedDict()
        self._lock = threading.RLock()
        self._locks: dict[Hashable, tuple[Any, int]] = {}  # of the values that are being loaded, with their users

    def get(self, scope: Hashable, key: Hashable, make: Callable[[], T]) -> T:
        """The value that is kept under `key`, or else `make()`, which is kept from now on.

        A value that was changed in place is not used again.
        """
        name = (scope, key)
        with self._loading(name):
            resident = self._find(name)
            value: T = make() if resident is None else resident.value
            if resident is None:
                with self._lock:
                    self._keep(name, self._measure(value))
        return value

    @contextlib.contextmanager
    def _loading(self, name: Hashable) -> Iterator[None]:
        """Let one thread at a time load a value, so that two nodes that need the same model load it once.

        Nothing else is locked meanwhile: `make` may report progress to a listener that needs another model for a preview.
        """
        with self._lock:
            lock, users = self._locks.get(name, (threading.RLock(), 0))
            self._locks[name] = lock, users + 1
        try:
            with lock:
                yield
        finally:
            with self._lock:
                lock, users = self._locks.pop(name)
                if users > 1:
                    self._locks[name] = lock, users - 1

    def _find(self, name: Hashable) -> _Resident | None:
        """The value that is kept and unchanged, on its device."""
        with self._lock:
            resident = self._residents.pop(name, None)
            if resident is None or self._backend.version(resident.value) != resident.version:
                return None
            if resident.moved_from is not None:
                resident = self._measure(self._backend.move(resident.value, resident.moved_from))
            self._keep(name, resident)
        return resident

    def _keep(self, name: Hashable, resident: _Resident) -> None:
        self._residents.pop(name, None)
        self._residents[name] = resident
        self._make_room()

    def clear(self) -> None:
        """Free everything."""
        with self._lock:
            self._residents.clear()

    def sizes(self) -> dict[str, int]:
        """How many bytes are kept, by device."""
        with self._lock:
            return _sizes(self._residents.values())

    def _measure(self, value: Any) -> _Resident:
        return _Resident(value, self._backend.version(value), self._backend.memory_of(value))

    def _make_room(self) -> None:
        """Move or drop the least recently used values until each device is within its budget; the last one always stays."""
        while len(self._residents) > MAX_RESIDENTS:
            self._residents.popitem(last=False)
        devices = _sizes(self._residents.values())
        for device in sorted(devices, key=lambda device: device == MAIN):  # main memory last: it receives values from the others
            oldest = [name for name, resident in self._residents.items() if resident.is_on(device)][:-1]
            for name in oldest:
                if _sizes(self._residents.values())[device] <= self._budget(device):
                    break
                resident = self._residents[name]
                moved = None if device == MAIN else self._backend.move(resident.value, MAIN)
                if moved is None:
                    del self._residents[name]
                else:
                    self._residents[name] = replace(self._measure(moved), moved_from=device)

    def _budget(self, device: str) -> int:
        if device not in self._budgets:
            budget = self._backend.memory_budget(device)
            self._budgets[device] = self._budgets[MAIN] if budget is None else budget
        return self._budgets[device]


def half_of_memory() -> int:
    """Half of the machine's main memory, in bytes; half of 16 GiB if the system does not report it."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        memory = _UNKNOWN_MEMORY
    return memory // 2


def _sizes(residents: Iterable[_Resident]) -> Counter[str]:
    blocks: dict[tuple[str, int], int] = {}
    for resident in residents:
        blocks.update(resident.blocks)
    sizes: Counter[str] = Counter()
    for (device, _), size in blocks.items():
        sizes[device] += size
    return sizes
