"""Loaded models that stay in memory between nodes and runs, within a budget for each device."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final, TypeVar

from nodegraph.light_dataclass import dataclass
from nodegraph.node_types.on_demand import OnDemand
from nodegraph.plugins.backend import Backend, Blocks

T = TypeVar("T")

MAIN: Final = "cpu"
"""The device name of main memory."""

Sizes = Mapping[str, int]
"""Bytes by device."""

NOTHING: Final[Sizes] = MappingProxyType({})

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

    @cached_property
    def sizes(self) -> Sizes:
        return _sizes([self])


class ModelMemory:
    """Values that nodes keep, by scope and key. A scope is one state of a plugin's code and of the files that a node reads.

    `budget` is how many bytes stay in main memory; None: half of the machine's. The backend knows the budget of an accelerator.
    When a device holds more, its least recently used value leaves it: from an accelerator to main memory, and from main
    memory for good. Room for a value whose size is known is made before the value is. So the peak is the budget, or the value if
    it is larger, besides the values that nodes use at that time; one of unknown size is added to it. A value that was removed while
    a node uses it is not made a second time. The backend measures values (`memory_of`) and moves them (`move`). Memory that two
    values share counts once.
    """

    def __init__(self, backend: Backend, budget: int | None = None) -> None:
        self._backend = backend
        self._budgets: dict[str, int] = {MAIN: half_of_memory() if budget is None else budget}
        self._residents: OrderedDict[Hashable, _Resident] = OrderedDict()
        self._removed: dict[Hashable, tuple[weakref.ref[Any], Any]] = {}  # each with its version
        self._uses = itertools.count(1)
        self._last_uses: dict[Hashable, int] = {}
        self._lock = threading.RLock()
        self._locks: dict[Hashable, tuple[Any, int]] = {}  # of the values that are being loaded, with their users

    def get(self, scope: Hashable, key: Hashable, make: Callable[[], T], needs: Sizes = NOTHING) -> T:
        """The value that is kept under `key`, or else `make()`, which is kept from now on.

        `needs` is how many bytes it will take, by device. A value that was changed in place is not used again.
        """
        name = (scope, key)
        with self._loading(name):
            resident = self._find(name)
            if resident is None:
                resident = self._measure(self._load(make, needs))
                with self._lock:
                    self._keep(name, resident)
            value: T = resident.value
        return value

    def take(self, scope: Hashable, key: Hashable, make: Callable[[], T], needs: Sizes = NOTHING) -> tuple[T, bool]:
        """The value under `key`, as `get` returns it, and False, if its device has room for two of its size.

        Otherwise a value that is made now and that nothing else has, and True: the caller may change it in place.
        """
        name = (scope, key)
        with self._loading(name):
            resident = self._find(name)
            if resident is not None and not self._has_room_for_two(resident.sizes):
                with self._lock:
                    self._remove(name)
                resident = None
            if resident is None:
                resident = self._measure(self._load(make, needs))
                if not self._has_room_for_two(resident.sizes):
                    return resident.value, True
            with self._lock:
                self._keep(name, resident)
                self._make_room(resident.sizes)
            return resident.value, False

    def _load(self, make: Callable[[], T], needs: Sizes) -> T:
        with self._lock:
            self._make_room(needs, keep_last=False)
        with _not_in_use():  # what it is made from need not stay
            return make()

    def _has_room_for_two(self, sizes: Sizes) -> bool:
        return all(2 * size <= self._budget(device) for device, size in sizes.items())

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
            resident = self._take(name)
            if resident is None:
                return None
            if resident.moved_from is not None:
                resident = self._measure(self._backend.move(resident.value, resident.moved_from))
            self._keep(name, resident)
        return resident

    def _keep(self, name: Hashable, resident: _Resident) -> None:
        self._residents.pop(name, None)
        self._residents[name] = resident
        self._last_uses[name] = next(self._uses)
        self._make_room()

    def on_demand(self, scope: Hashable, key: Hashable, make: Callable[[], T], needs: Sizes = NOTHING) -> OnDemand[T]:
        """Stands for `get(scope, key, make, needs)`. Those of the same scope and key are equal."""
        return _FromMemory(self, scope, key, make=make, needs=needs)

    def clear(self) -> None:
        """Free everything."""
        with self._lock:
            self._residents.clear()
            self._removed.clear()
            self._last_uses.clear()

    def last_uses(self) -> dict[Hashable, int]:
        """The scopes and keys of what is kept, each with the number of its last use: every use of a value has a higher one."""
        with self._lock:
            return {name: self._last_uses[name] for name in self._residents}

    def sizes(self) -> dict[str, int]:
        """How many bytes are kept, by device."""
        with self._lock:
            return _sizes(self._residents.values())

    def _take(self, name: Hashable) -> _Resident | None:
        """The value of that name, unless it was changed or is in use no longer; it is then in the list no longer."""
        resident = self._residents.pop(name, None)
        self._last_uses.pop(name, None)
        if resident is None and (removed := self._removed.pop(name, None)) is not None:
            value = removed[0]()
            resident = None if value is None else self._measure(value, removed[1])
        if resident is None or self._backend.version(resident.value) != resident.version:
            return None
        return resident

    def _remove(self, name: Hashable) -> None:
        resident = self._residents.pop(name)
        del self._last_uses[name]
        with contextlib.suppress(TypeError):  # not every value can be referred to weakly
            self._removed[name] = weakref.ref(resident.value), resident.version

    def _measure(self, value: Any, version: Any = None) -> _Resident:
        version = self._backend.version(value) if version is None else version
        return _Resident(value, version, self._backend.memory_of(value))

    def _make_room(self, needs: Sizes = NOTHING, *, keep_last: bool = True) -> None:
        """Move or drop the least recently used values until each device has room for `needs` within its budget.

        With `keep_last`, the last one stays in any case.
        """
        while len(self._residents) > MAX_RESIDENTS:
            self._remove(next(iter(self._residents)))
        if self._removed:
            self._removed = {name: removed for name, removed in self._removed.items() if removed[0]() is not None}
        devices = _sizes(self._residents.values())
        for device in sorted(devices, key=lambda device: device == MAIN):  # main memory last: it receives values from the others
            names = [name for name, resident in self._residents.items() if device in resident.sizes]
            for name in names[:-1] if keep_last else names:
                if _sizes(self._residents.values())[device] + needs.get(device, 0) <= self._budget(device):
                    break
                moved = None if device == MAIN else self._backend.move(self._residents[name].value, MAIN)
                if moved is None:
                    self._remove(name)
                else:
                    self._residents[name] = replace(self._measure(moved), moved_from=device)

    def _budget(self, device: str) -> int:
        if device not in self._budgets:
            budget = self._backend.memory_budget(device)
            self._budgets[device] = self._budgets[MAIN] if budget is None else budget
        return self._budgets[device]


class InUse:
    """The values that a running node got from the memory: they stay until the node has returned."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._values: dict[Hashable, Any] = {}
        self._versions: list[tuple[Any, Any]] = []  # each value with its version when the node got it

    def __enter__(self) -> None:
        """Let values on demand that are read in this thread during the block be added."""
        self._token = _in_use.set(self)

    def __exit__(self, *error: object) -> None:
        _in_use.reset(self._token)

    def add(self, name: Hashable, value: T) -> T:
        self._values[name] = value
        self._versions.append((value, self._backend.version(value)))
        return value

    def find(self, name: Hashable) -> Any:
        """The value of that name; None if the node has not used it yet."""
        return self._values.get(name)

    def was_changed(self) -> bool:
        """Whether one of the values was changed in place since the node got it."""
        if not self._versions:  # most nodes use none
            return False
        return any(self._backend.version(value) != version for value, version in self._versions)

    def clear(self) -> None:
        self._values.clear()
        self._versions.clear()


_in_use: ContextVar[InUse | None] = ContextVar("_in_use", default=None)


@contextlib.contextmanager
def _not_in_use() -> Iterator[None]:
    token = _in_use.set(None)
    try:
        yield
    finally:
        _in_use.reset(token)


class _FromMemory(OnDemand[T]):
    """A value on demand in a `ModelMemory`. A node that runs gets the same one each time."""

    __slots__ = ("_memory", "_name", "_needs")

    def __init__(self, memory: ModelMemory, scope: Hashable, key: Hashable, *, make: Callable[[], T], needs: Sizes) -> None:
        super().__init__(make)
        self._memory, self._name, self._needs = memory, (scope, key), needs

    def get(self) -> T:
        in_use = _in_use.get()
        value: T | None = None if in_use is None else in_use.find(self._name)
        if value is not None:
            return value
        value = self._memory.get(*self._name, self._make, self._needs)
        return value if in_use is None else in_use.add(self._name, value)

    def take(self) -> tuple[T, bool]:
        in_use = _in_use.get()
        value: T | None = None if in_use is None else in_use.find(self._name)
        return (value, False) if value is not None else self._memory.take(*self._name, self._make, self._needs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _FromMemory) and self._memory is other._memory and self._name == other._name

    def __hash__(self) -> int:
        return hash(self._name)


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
