"""Values that are made when they are first needed, and made again after they were removed from memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_NOTHING: Any = object()


class OnDemand(Generic[T]):
    """Stands for a large value, such as a loaded network, in the values that nodes pass on. `Run.on_demand` returns one.

    `get()` returns the value. Use it while a node runs, but keep only this object: then the engine can remove the value from memory
    if it needs the space, and the next `get()` makes it again. This class, which works without an engine, keeps what it made.
    """

    __slots__ = ("_make", "_value")  # no __dict__: the value is no part of the object that holds this one

    def __init__(self, make: Callable[[], T]) -> None:
        self._make, self._value = make, _NOTHING

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def get(self) -> T:
        """The value, which is made if it is not in memory."""
        if self._value is _NOTHING:
            self._value = self._make()
        value: T = self._value
        return value

    def take(self) -> tuple[T, bool]:
        """The value, and whether the caller may change it in place.

        It may if memory has no room for this value and for another one of its size that is made from it. Nothing else has it then.
        """
        return self.get(), False
